"""What each model costs, counted without computing anything."""

from typing import NamedTuple

import torch

from vitrail.models.base import count_flops
from vitrail.models.registry import create_model


class Entry(NamedTuple):
    """One line of `vitrail models`."""

    name: str
    image_size: tuple[int, int]  # height, width in pixels
    parameters: int
    flops: int  # of one image's forward pass; a multiply-add is two
    tokens: int | None  # what attention relates to each other; None without attention


def describe_model(name: str, image_size: tuple[int, int] | None) -> Entry:
    """Count one model, at its own or another image size.

    Raises:
        ModelError: there is no such model, or it cannot have this image size.
    """
    with torch.device("meta"):
        model = create_model(name, image_size=image_size)
    size = model.config.image_size
    flops = count_flops(model, size, model.config.in_channels)
    return Entry(name, size, model.count_parameters(), flops, model.config.tokens)
