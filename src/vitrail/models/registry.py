"""The names of models, as timm has them, and what they stand for."""

from typing import Any

from pydantic import ValidationError

from vitrail.config import Config, describe
from vitrail.errors import ModelError, did_you_mean
from vitrail.models.base import Backbone
from vitrail.models.vit import ViT, ViTConfig

# kind: (its sizes, its model). A new architecture is a new file and a line here.
BACKBONES: dict[str, tuple[type[Config], type[Backbone]]] = {"vit": (ViTConfig, ViT)}

# Source: Dosovitskiy et al. 2021, Table 1 (B, L, H); Touvron et al. 2021, arXiv:2012.12877 (Ti, S).
_VIT_SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"width": 192, "depth": 12, "heads": 3},
    "small": {"width": 384, "depth": 12, "heads": 6},
    "base": {"width": 768, "depth": 12, "heads": 12},
    "large": {"width": 1024, "depth": 24, "heads": 16},
    "huge": {"width": 1280, "depth": 32, "heads": 16},
}
# size: (patch, image) in pixels, those that timm has
_VIT_VARIANTS = {
    "tiny": [(16, 224), (16, 384)],
    "small": [(8, 224), (16, 224), (16, 384), (32, 224), (32, 384)],
    "base": [(8, 224), (16, 224), (16, 384), (32, 224), (32, 384)],
    "large": [(14, 224), (16, 224), (16, 384), (32, 224), (32, 384)],
    "huge": [(14, 224)],
}
MODELS: dict[str, Config] = {
    f"vit_{size}_patch{patch}_{image}": ViTConfig(
        image_size=(image, image), patch_size=patch, **_VIT_SIZES[size]
    )
    for size, variants in _VIT_VARIANTS.items()
    for patch, image in variants
}
# The paper's own names.
ALIASES: dict[str, str] = {
    f"ViT-{letter}/{patch}": f"vit_{size}_patch{patch}_224"
    for letter, size in zip(("Ti", "S", "B", "L", "H"), _VIT_SIZES, strict=True)
    for patch, image in _VIT_VARIANTS[size]
    if image == 224
}


def list_models() -> list[str]:
    """List the names that `create_model` takes, without the aliases."""
    return list(MODELS)


def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    image_size: tuple[int, int] | None = None,
    in_channels: int = 3,
    **sizes: Any,
) -> Backbone:
    """Build a model with fresh weights, drawn from PyTorch's global generator.

    Args:
        name: one of `list_models()`, or the paper's name, such as `ViT-B/16`.
        num_classes: how many logits; the architecture's own number (1000) if None.
        image_size: (height, width) in pixels; the one in the name if None.
        in_channels: 3 for colour, 1 for grey.
        sizes: any other size of the architecture, such as `patch_size=4, depth=6`.
    Raises:
        ModelError: no such model, no such size, or sizes that do not fit each other.
    """
    config = find_model(name)
    given = {"classes": num_classes, "image_size": image_size, "in_channels": in_channels}
    changes = {key: value for key, value in given.items() if value is not None} | sizes
    model = build_model(resize_model(config, name, changes))
    model.name = ALIASES.get(name, name)
    return model


def find_model(name: str) -> Config:
    """Look a name up.

    Raises:
        ModelError: there is no such model; the message gives the nearest names.
    """
    config = MODELS.get(ALIASES.get(name, name))
    if config is None:
        near = did_you_mean(name, [*MODELS, *ALIASES]) or "; `vitrail models` lists all"
        raise ModelError(f"model={name!r}: no such model{near}")
    return config


def resize_model(config: Config, name: str, changes: dict[str, Any]) -> Config:
    """Change some sizes of an architecture.

    Raises:
        ModelError: a size is unknown or does not fit the others.
    """
    try:
        return config.replace(**changes)
    except ValidationError as error:
        raise ModelError(f"{name}: {describe(error, type(config))}") from None


def build_model(config: Config) -> Backbone:
    """Build the model that a configuration describes, with fresh weights."""
    for config_type, model_type in BACKBONES.values():
        if type(config) is config_type:
            return model_type(config)
    raise ModelError(f"{type(config).__name__} is not one of the backbones {list(BACKBONES)}")
