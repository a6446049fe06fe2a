"""What each model costs, counted without computing anything."""

from typing import NamedTuple

import torch

from vitrail.models.base import count_flops
from vitrail.models.registry import MODELS, create_model


class Entry(NamedTuple):
    """One line of `vitrail models`."""

    name: str
    image_size: tuple[int, int]  # height, width in pixels
    parameters: int
    flops: int  # of one image's forward pass; a multiply-add is two
    tokens: int  # patches and class token


def describe_models(pattern: str = "", image_size: tuple[int, int] | None = None) -> list[Entry]:
    """Describe the models whose name contains `pattern`, at their own or another image size.

    Raises:
        ModelError: a model cannot have this image size.
    """
    return [describe_model(name, image_size) for name in MODELS if pattern.lower() in name]


def describe_model(name: str, image_size: tuple[int, int] | None) -> Entry:
    """Count one model. Raises ModelError."""
    with torch.device("meta"):
        model = create_model(name, image_size=image_size)
    size, tokens = model.config.image_size, model.config.tokens  # type: ignore[attr-defined]
    return Entry(name, size, model.count_parameters(), count_flops(model, size, 3), tokens)
