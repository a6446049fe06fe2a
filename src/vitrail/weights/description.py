"""What Vitrail says about a model in JSON: enough to rebuild it and to feed it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vitrail.data.preprocess import Preprocess
from vitrail.errors import WeightsError, did_you_mean
from vitrail.models import BACKBONES, Backbone, BackboneConfig

FORMAT = 1


@dataclass(frozen=True)
class Description:
    """A model without its weights."""

    name: str
    config: BackboneConfig
    classes: tuple[str, ...]
    preprocess: Preprocess | None
    multi_label: bool = False


def describe(model: Backbone) -> dict[str, Any]:
    """Give the JSON values that `parse_description` takes back.

    Raises:
        WeightsError: the model does not know its classes, or has no preprocessing though its images
            are grey or colour.
    """
    unnamed = len(model.classes) != model.config.classes
    if unnamed or (model.preprocess is None and model.config.in_channels in (1, 3)):
        raise WeightsError(
            "save_model: set model.classes (names) and model.preprocess (Preprocess) first, "
            "so that whoever loads it can use it"
        )
    return {
        "format": FORMAT,
        "name": model.name,
        "architecture": model.config.to_json(),
        "classes": list(model.classes),
        "preprocess": None if model.preprocess is None else model.preprocess.to_json(),
        **({"multi_label": True} if model.multi_label else {}),
    }


def parse_description(values: Mapping[str, Any], where: str) -> Description:
    """Check what `describe` gave.

    Raises:
        WeightsError, ConfigError: a part is missing or wrong; the line begins with `where`.
    """
    if values.get("format") != FORMAT:
        raise WeightsError(f"{where}: format must be {FORMAT}; it was written by another version")
    config = _architecture(values, where)
    given = values.get("preprocess")
    optional = given is None and config.in_channels not in (1, 3)
    return Description(
        str(values.get("name", "")),
        config,
        _classes(values, config, where),
        None if optional else Preprocess.parse(given, f"{where}: preprocess"),
        values.get("multi_label") is True,
    )


def _architecture(values: Mapping[str, Any], where: str) -> BackboneConfig:
    """Check the sizes; the kind is looked up, never imported."""
    sizes = values.get("architecture")
    kind = sizes.get("kind") if isinstance(sizes, dict) else None
    if not isinstance(kind, str) or kind not in BACKBONES:
        raise WeightsError(
            f"{where}: architecture kind {kind!r} is not one of {', '.join(BACKBONES)}"
            f"{did_you_mean(str(kind), BACKBONES)}"
        )
    return BACKBONES[kind][0].parse(sizes, f"{where}: architecture")


def _classes(values: Mapping[str, Any], config: BackboneConfig, where: str) -> tuple[str, ...]:
    names = values.get("classes")
    if (
        not isinstance(names, list)
        or not all(isinstance(name, str) for name in names)
        or not len(names) == len(set(names)) == config.classes
    ):
        raise WeightsError(f"{where}: classes must be {config.classes} different names")
    return tuple(names)
