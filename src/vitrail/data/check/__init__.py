"""Looks at every image of a data set and tells what is wrong with it."""
