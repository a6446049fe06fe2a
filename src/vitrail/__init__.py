"""Vitrail: the Vision Transformer, whole.

model = vitrail.create_model("ViT-B/16", num_classes=10)
model = vitrail.load_model("runs/mine")
guesses = vitrail.Predictor("runs/mine").predict(["photo.jpg"])
heat = vitrail.explain(model, images)
"""

from vitrail.data.preprocess import Preprocess
from vitrail.explain import explain
from vitrail.models import create_model, list_models
from vitrail.serve.predictor import Predictor
from vitrail.version import __version__
from vitrail.weights.load import load_model, save_model
from vitrail.weights.lora import load_adapter

__all__ = [
    "Predictor",
    "Preprocess",
    "__version__",
    "create_model",
    "explain",
    "list_models",
    "load_adapter",
    "load_model",
    "save_model",
]
