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
    },
    "swin": {
        "image_size": (32, 48),
        "patch_size": 4,
        "width": 16,
        "depths": (2, 2),
        "heads": (2, 4),
        "window_size": (3, 4),  # divides neither map: filled up, and shifted by (1, 2)
        "classes": 5,
    },
    "resnet": {"image_size": (32, 48), "depths": (1, 2), "width": 8, "classes": 5},
    "bit": {"image_size": (32, 48), "depths": (1, 2), "width": 8, "groups": 4, "classes": 5},
    "hybrid": {
        "image_size": (32, 48),
        "stem": {"depths": (1, 2), "width": 8, "groups": 4},
        "width": 32,
        "depth": 2,
        "heads": 2,
        "classes": 5,
    },
}


# What a ViT can have beyond the paper, each with sizes that exercise it.
_VARIANTS: dict[str, dict[str, Any]] = {
    "deit": {"distilled": True, "mlp_ratio": 2.0},
    "deit3": {"prefix_positions": False, "layer_scale": 0.5},
    "dinov2": {"registers": 3, "mlp": "swiglu", "pool": "token+mean", "position_rule": "offset"},
    "dinov3": {"registers": 2, "positions": "rotary", "qkv_bias": "no_key", "layer_scale": 0.1},
    "gap": {"class_token": False, "pool": "mean", "norm_after_pool": True, "qk_norm": True},
    "map": {"class_token": False, "pool": "map", "positions": "none", "qkv_bias": "none"},
    "mae": {"pool": "mean", "positions": "sincos", "norm_eps": 1e-3, "patch_dropout": 0.5},
}
TINY |= {f"vit-{name}": TINY["vit"] | sizes for name, sizes in _VARIANTS.items()}
TINY["resnet-basic"] = TINY["resnet"] | {"block": "basic"}
TINY["hybrid-root"] = TINY["hybrid"] | {
    "stem": {"depths": (), "width": 8, "groups": 4},  # no stages
    "patch_size": 2,
}


def tiny(kind: str, **sizes: Any) -> Config:
    """Give the sizes of a tiny model of this kind, or variant of a kind; `sizes` change some."""
    return BACKBONES[kind.split("-")[0]][0](**TINY[kind] | sizes)


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
    """Add noise to every parameter: a fresh head of zeros hides everything before it.

    The running statistics of batch norms get noise too; variances stay positive.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter += std * torch.randn(parameter.shape, generator=generator).to(parameter)
    for name, buffer in model.named_buffers():
        noise = std * torch.randn(buffer.shape, generator=generator)
        if name.endswith("running_mean"):
            buffer += noise
        elif name.endswith("running_var"):
            buffer *= noise.exp()


def images_for(model: Backbone, count: int = 2, seed: int = 0) -> torch.Tensor:
    """Draw normalised images of the size that the model was made for."""
    return draw_images(count, model.config.in_channels, *model.config.image_size, seed=seed)  # type: ignore[attr-defined]


def draw_images(*shape: int, seed: int = 0) -> torch.Tensor:
    """Draw standard normal images, b c h w."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
