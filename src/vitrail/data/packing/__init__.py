"""Copies of data sets in a few large files, proved equal."""
