"""Training: its settings, its state and its loop."""
