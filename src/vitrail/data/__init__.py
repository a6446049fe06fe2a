"""Where images come from, and the one way from their bytes to tensors."""
