"""Parquet files and Hugging Face's data sets."""
