"""Weights to and from files."""
