"""The format of Hugging Face's transformers: a folder with `config.json` and `model.safetensors`.

Checked against transformers 5.23; the names in the files are those of older releases too.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from vitrail.data.preprocess import Preprocess
from vitrail.errors import WeightsError
from vitrail.files import write_json
from vitrail.models import Backbone, BackboneConfig
from vitrail.models.resnet import ResNetConfig
from vitrail.models.swin_config import SwinConfig
from vitrail.models.vit_config import ViTConfig
from vitrail.weights.description import Description, describe, parse_description
from vitrail.weights.foreign import Foreign, Format
from vitrail.weights.hf_config import Heads, class_names, family_name, read_config
from vitrail.weights.hf_processor import read_processor
from vitrail.weights.hf_rules import (
    additions,
    fold_positions,
    is_named_so,
    plain_names,
    rules,
    unfold_positions,
    unused,
    with_prefix,
)
from vitrail.weights.hf_write import config_notes, family_of, write_config
from vitrail.weights.hf_write_processor import write_processor
from vitrail.weights.infer import name_of
from vitrail.weights.names import read_by, write_by
from vitrail.weights.source import OWN_KEY, Source
from vitrail.weights.tensors import write_tensors

CONFIG, PROCESSOR, WEIGHTS = "config.json", "preprocessor_config.json", "model.safetensors"


def matches(source: Source) -> bool:
    """Whether the tensors are called as transformers calls them, or its `config.json` is there."""
    return is_named_so(source.tensors) or "model_type" in source.config


def read(source: Source) -> Foreign:
    """Read a folder of transformers.

    Raises:
        WeightsError, ConfigError: the architecture is none of ours, `config.json` is missing or
            wrong, or a tensor is missing or unknown.
    """
    notes: tuple[str, ...] = ()
    if source.own:
        about = parse_description(source.own, source.where)
        family = family_of(about.config)
        names = plain_names(source.tensors, family, source.where)
        notes = _changed(source, about)
    else:
        if not source.config:
            raise WeightsError(
                f"{source.where}: a model of transformers needs its config.json; give the folder "
                "that holds both"
            )
        family = family_name(source.config, f"{source.where}/{CONFIG}")
        names = plain_names(source.tensors, family, source.where)
        about, notes = _from_config(source, names)
    _check_blocks(about.config, len(names), source.where)
    tensors = {plain: source.tensors[name] for plain, name in names.items()}
    tensors = fold_positions(tensors, about.config, family)
    split = any(".mlp.gate_proj." in name for name in names)
    by = rules(about.config, family, split=split)
    ours, dropped = read_by(by, tensors, unused(about.config), source.where)
    dropped = {names[plain]: why for plain, why in dropped.items()}
    return Foreign.of(about, ours, dropped, notes)


def _from_config(source: Source, names: Mapping[str, str]) -> tuple[Description, tuple[str, ...]]:
    """Read the sizes, names and preprocessing from the JSON files."""
    where = f"{source.where}/{CONFIG}"
    heads = _heads({plain: source.tensors[name] for plain, name in names.items()}, where)
    config = read_config(source.config, heads, where)
    preprocess, said = read_processor(
        source.processor, family_name(source.config, where), config, f"{source.where}/{PROCESSOR}"
    )
    notes = list(said)
    if isinstance(config, ResNetConfig):
        config, preprocess = _sized(config, preprocess, source, notes)
    if isinstance(config, SwinConfig):
        notes += _windows(config)
    classes, note = class_names(source.config, config.classes)
    notes += [note] if note else []
    return Description(_name(config), config, classes, preprocess), tuple(notes)


def _heads(tensors: Mapping[str, Tensor], where: str) -> Heads:
    """Tell by the tensors which heads there are."""
    one = [
        tensors[name] for name in ("classifier.weight", "classifier.1.weight") if name in tensors
    ]
    two = [tensors[name] for name in ("cls_classifier.weight",) if name in tensors]
    if any(weight.ndim != 2 for weight in one + two):
        raise WeightsError(f"{where}: the class head is no matrix")
    classes = len((one + two)[0]) if one + two else 0
    return Heads(classes, bool(one), bool(two))


def _sized(
    config: ResNetConfig, preprocess: Preprocess | None, source: Source, notes: list[str]
) -> tuple[ResNetConfig, Preprocess | None]:
    """Take the image size of a ResNet from its preprocessing, unless the caller knows it."""
    size = source.trained_size
    if size is None and source.processor and preprocess is not None:
        size = preprocess.size
    if size is None:
        notes.append(f"the file does not say the image size; {config.image_size} is assumed")
        return config, preprocess
    preprocess = preprocess.replace(size=size) if preprocess is not None else None
    return config.replace(image_size=size), preprocess


def _windows(config: SwinConfig) -> list[str]:
    """Say where transformers shifts windows otherwise: along neither side of a narrow map."""
    side = config.window_size[0]
    if any(min(grid) <= side < max(grid) for grid in config.grids(*config.image_size)):
        return ["on maps that one window covers along one side transformers shifts along neither"]
    return []


def _name(config: BackboneConfig) -> str:
    """Find the named model; the norms' epsilon and first factors may be others than its own."""
    changes: list[dict[str, Any]] = [{}, {"norm_eps": 1e-6}]
    if isinstance(config, ViTConfig) and config.layer_scale:
        changes = [{"layer_scale": 1e-5, "pool": "token"}]
    for change in changes if isinstance(config, ViTConfig) else [{}]:
        if name := name_of(config.replace(**change)):
            return name
    return ""


def _check_blocks(config: BackboneConfig, tensors: int, where: str) -> None:
    """Refuse more blocks than there are tensors, before a model of so many is laid out."""
    blocks = config.depth if isinstance(config, ViTConfig) else sum(dict(config)["depths"])
    if blocks > tensors:
        raise WeightsError(f"{where}: has {tensors} tensors, too few for the {blocks} blocks given")


def _changed(source: Source, about: Description) -> tuple[str, ...]:
    """Say if the JSON files have been changed since Vitrail wrote them; its own word counts."""
    wanted = write_config(about.config, about.classes) if source.config else {}
    changed = [CONFIG] * any(source.config.get(key) != value for key, value in wanted.items())
    if source.processor and about.preprocess is not None:
        wanted, _ = write_processor(about.preprocess)
        changed += [PROCESSOR] * any(source.processor.get(k) != v for k, v in wanted.items())
    if not changed:
        return ()
    return (
        f"{' and '.join(changed)} changed since Vitrail wrote the weights, whose header says "
        "sizes, classes and preprocessing: that is taken",
    )


def write(model: Backbone, path: Path) -> tuple[str, ...]:
    """Write a folder that `transformers.pipeline` and `from_pretrained` open.

    Vitrail's own description goes into the header of the weights, so that nothing is lost on the
    way back.

    Raises:
        WeightsError: transformers has no such model, or the model lacks class names or
            preprocessing.
        StorageError: it cannot be written.
    """
    if path.suffix == ".safetensors":
        raise WeightsError(
            f"{path}: huggingface needs a folder, for config.json beside the weights"
        )
    about = describe(model)
    config = model.config
    family = family_of(config)
    tensors = write_by(rules(config, family), model.state_dict())
    tensors = unfold_positions(tensors, config, family) | additions(config, family)
    if config.classes:
        tensors = with_prefix(tensors, family)
    notes = config_notes(config)
    write_json(path / CONFIG, write_config(config, model.classes))
    if isinstance(model.preprocess, Preprocess):
        values, said = write_processor(model.preprocess)
        write_json(path / PROCESSOR, values)
        notes += said
    else:
        notes += (f"has no image processor for {config.in_channels} channels",)
    write_tensors(path / WEIGHTS, tensors, {OWN_KEY: json.dumps(about), "format": "pt"})
    return notes


HUGGINGFACE = Format(
    "Hugging Face transformers: a folder with config.json as on the hub", matches, read, write
)
