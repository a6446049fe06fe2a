"""The names of models, as timm has them, and what they stand for."""

from typing import Any

from pydantic import ValidationError

from vitrail.config import describe
from vitrail.errors import ModelError, did_you_mean
from vitrail.models.base import Backbone, BackboneConfig
from vitrail.models.hybrid import HYBRID_ALIASES, HYBRIDS, Hybrid, HybridConfig
from vitrail.models.resnet import RESNETS, ResNet, ResNetConfig
from vitrail.models.resnetv2 import BITS, BiT, BiTConfig
from vitrail.models.swin import Swin
from vitrail.models.swin_config import SWIN_MODELS, SwinConfig
from vitrail.models.vit import ViT
from vitrail.models.vit_config import ViTConfig
from vitrail.models.vit_names import VIT_ALIASES, VIT_MODELS

# kind: (its sizes, its model). A new architecture is a new file and a line here.
BACKBONES: dict[str, tuple[type[BackboneConfig], type[Backbone]]] = {
    "vit": (ViTConfig, ViT),
    "swin": (SwinConfig, Swin),
    "resnet": (ResNetConfig, ResNet),
    "bit": (BiTConfig, BiT),
    "hybrid": (HybridConfig, Hybrid),
}
MODELS: dict[str, BackboneConfig] = {
    **VIT_MODELS,
    **SWIN_MODELS,
    **RESNETS,
    **BITS,
    **HYBRIDS,
}
ALIASES: dict[str, str] = {
    **VIT_ALIASES,
    **HYBRID_ALIASES,
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


def find_model(name: str) -> BackboneConfig:
    """Look a name up.

    Raises:
        ModelError: there is no such model; the message gives the nearest names.
    """
    config = MODELS.get(ALIASES.get(name, name))
    if config is None:
        near = did_you_mean(name, [*MODELS, *ALIASES]) or "; `vitrail models` lists all"
        raise ModelError(f"model={name!r}: no such model{near}")
    return config


def resize_model(config: BackboneConfig, name: str, changes: dict[str, Any]) -> BackboneConfig:
    """Change some sizes of an architecture.

    Raises:
        ModelError: a size is unknown or does not fit the others.
    """
    try:
        return config.replace(**changes)
    except ValidationError as error:
        raise ModelError(f"{name}: {describe(error, type(config))}") from None


def build_model(config: BackboneConfig) -> Backbone:
    """Build the model that a configuration describes, with fresh weights."""
    for config_type, model_type in BACKBONES.values():
        if type(config) is config_type:
            return model_type(config)
    raise ModelError(f"{type(config).__name__} is not one of the backbones {list(BACKBONES)}")
