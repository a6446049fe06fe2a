"""How good a trained model is: figures from its saved predictions, and what its features hold."""
