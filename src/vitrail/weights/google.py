"""Google's format: a `.npz` file of vision_transformer, big_vision or BiT.

The file holds nothing but arrays. Class names, preprocessing and sizes lie beside it in a JSON file
of the same name, where it is ours. Checked against timm 1.0.31, which reads the same files.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vitrail.errors import WeightsError
from vitrail.files import write_json
from vitrail.models import Backbone, BackboneConfig
from vitrail.models.hybrid import HybridConfig
from vitrail.models.resnetv2 import BiTConfig
from vitrail.models.vit_config import ViTConfig
from vitrail.weights.description import describe, parse_description
from vitrail.weights.foreign import Foreign, Format
from vitrail.weights.google_config import GELU_NOTE, GROUPS, HIDDEN, NORM_EPS, infer
from vitrail.weights.google_names import (
    BIT_ROOT,
    PREFIXES,
    Layout,
    layout_for,
    layout_of,
    plain,
    rules,
)
from vitrail.weights.infer import state_shapes
from vitrail.weights.limits import PAPER, require
from vitrail.weights.names import Rule, read_by, write_by
from vitrail.weights.npz import write_npz
from vitrail.weights.source import Source

WHOSE = "Google's layout"
ALLOWED = PAPER | {"pool": ("token", "mean", "map")}
UNUSED = {
    r"opt/(?!target/).*": "the optimiser's",
    r"chrono/.*|(.*/)?(global_)?step": "about the training",
    r"params/(txt/.*|t|b)": "of the text tower",
}


def matches(source: Source) -> bool:
    """Whether the tensors are called as Google calls them."""
    return BIT_ROOT in source.tensors or any(
        f"{prefix}embedding/kernel" in source.tensors for prefix in PREFIXES
    )


def read(source: Source) -> Foreign:
    """Read a `.npz` file.

    A head behind pre_logits is left out: the model then has no classes.

    Raises:
        WeightsError: the architecture is none of ours, or a tensor is missing, unknown or of
            another shape.
    """
    tensors = plain(source.tensors)
    layout = layout_of(tensors)
    notes: tuple[str, ...] = ()
    unused = dict(UNUSED)
    if source.own:
        about = parse_description(source.own, source.where)
        _require(about.config, f"{source.where}: {WHOSE}")
    else:
        if f"{layout.prefix}pre_logits/kernel" in tensors:
            unused[f"{layout.prefix}(pre_logits|head)/(kernel|bias)"] = HIDDEN
        about, notes = infer(source, tensors, layout)
    found = rules(about.config, layout)
    _check_shapes(found, about.config, tensors, source.where)
    ours, dropped = read_by(found, tensors, unused, source.where)
    return Foreign.of(about, ours, dropped, notes)


def write(model: Backbone, path: Path) -> tuple[str, ...]:
    """Write a `.npz` file, and before it the JSON beside it.

    As vision_transformer calls the tensors; as big_vision does where only that has the model
    (attention pooling, a class token without a position). timm reads both.

    Raises:
        WeightsError: the path has another ending, Google's layout cannot hold the model, or the
            model lacks class names or preprocessing.
        StorageError: it cannot be written.
    """
    if path.suffix != ".npz":
        raise WeightsError(f"{path}: Google's format is a .npz file; choose a name that ends so")
    config = model.config
    _require(config, WHOSE)
    about = describe(model)
    tensors = write_by(rules(config, layout_for(config)), model.state_dict())
    write_json(path.with_suffix(".json"), about)
    write_npz(path, tensors)
    return _unsaid(config)


def _require(config: BackboneConfig, whose: str) -> None:
    """Refuse a model that no code of Google's has. Raises WeightsError."""
    if isinstance(config, BiTConfig):
        require(config, {"groups": (GROUPS,)}, whose)
        return
    if not isinstance(config, ViTConfig):
        raise WeightsError(f"{whose} has no place for a {dict(config)['kind']}; save as vitrail")
    require(config, ALLOWED, whose)
    require(
        config, {"class_token": (config.pool == "token",)}, f"{whose}, with pool={config.pool},"
    )
    if isinstance(config, HybridConfig):
        if config.stem.groups != GROUPS:
            raise WeightsError(f"{whose} has no place for stem.groups={config.stem.groups}")
        if layout_for(config) != Layout():
            raise WeightsError(f"{whose} has hybrids only with pool=mean, or token with a position")


def _unsaid(config: BackboneConfig) -> tuple[str, ...]:
    notes = [
        "class names, preprocessing and sizes are in the .json of the same name: keep both together"
    ]
    if isinstance(config, ViTConfig):
        if config.norm_eps != NORM_EPS:
            eps = config.norm_eps
            notes.append(f"has no place for norm_eps={eps}; Google's code computes with {NORM_EPS}")
        if config.position_rule != "linear":
            notes.append(
                f"has no place for position_rule={config.position_rule}; "
                "Google's code resamples positions linearly"
            )
        notes.append(GELU_NOTE)
    return tuple(notes)


def _check_shapes(
    rules: list[Rule], config: BackboneConfig, tensors: Mapping[str, Tensor], where: str
) -> None:
    """Refuse a tensor of another shape than the model's has in this layout. Raises WeightsError."""
    shapes = state_shapes(config)
    ours = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    for name, expected in write_by(rules, ours).items():
        if name in tensors and tensors[name].shape != expected.shape:
            given, right = list(tensors[name].shape), list(expected.shape)
            raise WeightsError(f"{where}: {name} is {given}; the other tensors ask for {right}")


GOOGLE = Format(
    "Google: a .npz file of vision_transformer, big_vision or BiT", matches, read, write
)
