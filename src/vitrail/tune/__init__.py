"""Searching for settings: short trainings, the worse ones ended early."""
