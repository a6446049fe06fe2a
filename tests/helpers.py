"""Small models for the tests."""

from typing import Any

import torch
from torch import nn

from vitrail.config import Config
from vitrail.models import BACKBONES, Backbone, build_model

# The smallest sizes that still have everything; height and width differ. A backbone is a line here.
TINY: dict[str, dict[str, Any]] = {
    "vit": {
        "image_size": (32, 48),
        "patch_size": 8,
        "width": 32,
        "depth": 2,
        "heads": 2,
        "classes": 5,
    }
}


def tiny(kind: str, **sizes: Any) -> Config:
    """Give the sizes of a tiny model of this kind; `sizes` change some."""
    return BACKBONES[kind][0](**TINY[kind] | sizes)


def tiny_model(kind: str = "vit", seed: int = 0, **sizes: Any) -> Backbone:
    """Build a tiny model whose every parameter matters: nothing in it is zero or one.

    The same seed and sizes give the same weights, whatever was drawn before.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(tiny(kind, **sizes))
    perturb(model, seed)
    return model


@torch.no_grad()
def perturb(model: nn.Module, seed: int = 0, std: float = 0.1) -> None:
    """Add noise to every parameter: a fresh head of zeros hides everything before it."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter += std * torch.randn(parameter.shape, generator=generator).to(parameter)


def images_for(model: Backbone, count: int = 2, seed: int = 0) -> torch.Tensor:
    """Draw normalised images of the size that the model was made for."""
    return draw_images(count, model.config.in_channels, *model.config.image_size, seed=seed)  # type: ignore[attr-defined]


def draw_images(*shape: int, seed: int = 0) -> torch.Tensor:
    """Draw standard normal images, b c h w."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
