"""Batches: which sample stands where, who reads it, and what is kept decoded."""
