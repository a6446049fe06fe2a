"""Architectures by name."""

from vitrail.models.base import Backbone, BackboneConfig, Features, Record, count_flops
from vitrail.models.registry import (
    ALIASES,
    BACKBONES,
    MODELS,
    build_model,
    create_model,
    list_models,
)

__all__ = [
    "ALIASES",
    "BACKBONES",
    "MODELS",
    "Backbone",
    "BackboneConfig",
    "Features",
    "Record",
    "build_model",
    "count_flops",
    "create_model",
    "list_models",
]
