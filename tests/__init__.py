"""Tests of Vitrail; the folders mirror src/vitrail."""
