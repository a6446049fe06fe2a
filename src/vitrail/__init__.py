"""Vitrail: the Vision Transformer, whole."""

__version__ = "0.1.0"
