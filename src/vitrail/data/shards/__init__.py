"""Tar shards, read at any place by an index."""
