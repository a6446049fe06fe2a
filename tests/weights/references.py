"""What the tests of the formats share: tiny models of every kind, and comparisons."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.helpers import draw_images, tiny_model
from vitrail.data.preprocess import Preprocess
from vitrail.models import Backbone

TOLERANCE = 1e-4  # absolute, float32


def ready_model(kind: str = "vit", seed: int = 0, **sizes: Any) -> Backbone:
    """Build a tiny model with class names and preprocessing, in eval mode, nothing zero or one."""
    return prepared(tiny_model(kind, seed, **sizes))


def prepared(model: Backbone) -> Backbone:
    """Name the classes and set the preprocessing; eval mode."""
    model.eval()
    model.classes = tuple(f"class {i}" for i in range(model.config.classes))
    model.preprocess = Preprocess(size=model.config.image_size, mean=(0.1, 0.2, 0.3))
    return model


def assert_same_model(back: Backbone, model: Backbone, *, config: bool = True) -> None:
    """All tensors are equal to the bit, and so is what surrounds them."""
    assert back.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name
    assert (back.classes, back.preprocess) == (model.classes, model.preprocess)
    if config:
        assert (back.config, back.name) == (model.config, model.name)


def assert_same_logits(model: Backbone, theirs: nn.Module, *sizes: tuple[int, int]) -> None:
    """Logits agree with a reference that takes images, at the native size and `sizes`."""
    theirs.eval()
    for size in (model.config.image_size, *sizes):
        images = draw_images(2, model.config.in_channels, *size)
        with torch.no_grad():
            close(model(images), theirs(images))


def close(actual: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    """Compare, absolute."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def files(folder: Path) -> set[str]:
    """List the names in a folder."""
    return {path.name for path in folder.iterdir()}
