"""timm's format: a `.safetensors` file, or a folder as on the hub with `config.json` beside it.

timm's names are ours, but for DINOv3, which is another class there (Eva). Checked against timm
1.0.31.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrail.errors import WeightsError, did_you_mean
from vitrail.files import write_json
from vitrail.models import MODELS, Backbone, BackboneConfig
from vitrail.models.posembed import sincos_positions
from vitrail.models.registry import resize_model
from vitrail.models.vit_config import ViTConfig
from vitrail.weights.defaults import by_name
from vitrail.weights.description import Description, describe, parse_description
from vitrail.weights.foreign import Foreign, Format
from vitrail.weights.infer import find_named, infer_vit, name_of, state_names
from vitrail.weights.names import Rule, counter, joined, read_by, same, write_by
from vitrail.weights.originals import admits
from vitrail.weights.source import OWN_KEY, Source
from vitrail.weights.tensors import write_tensors
from vitrail.weights.timm_config import arguments, changes, is_eva, preprocess_of, pretrained_cfg

UNUSED = {
    r".*\.(relative_position_index|attn_mask)": "computed from the sizes",
    r".*\.k_bias": "always zero",
    r"rope\..*": "computed from the sizes",
}
# A tensor that only models of this kind have, in the order in which they are told apart.
MARKS = {
    "hybrid": r"patch_embed\.backbone\.(stem\.)?conv\.weight",
    "swin": r"layers\.0\.blocks\.0\.attn\.relative_position_bias_table",
    "resnet": r"layer1\.0\.conv1\.weight",
    "bit": r"stages\.0\.blocks\.0\.norm1\.weight",
    "vit": r"blocks\.0\.attn\.qkv\.weight",
}


def kind_of(names: Iterable[str]) -> str:
    """Tell the kind of a model by the names of its tensors; `""` if they are not timm's."""
    names = list(names)
    for kind, mark in MARKS.items():
        if any(re.fullmatch(mark, name) for name in names):
            return kind
    return ""


def rules(config: BackboneConfig) -> list[Rule]:
    """Say which tensor of timm's holds which of ours."""
    if not is_eva(config):
        return [
            counter(name) if name.endswith("num_batches_tracked") else same(name)
            for name in state_names(config)
        ]
    result = []
    for name in state_names(config):
        stem, _, kind = name.rpartition(".")
        if stem.endswith(("ls1", "ls2")):
            result.append(same(name, f"{stem[:-4]}.gamma_{stem[-1]}"))
        elif stem.endswith("mlp.fc1") and isinstance(config, ViTConfig) and config.mlp == "swiglu":
            result.append(joined(name, [f"{stem}_g.{kind}", f"{stem}_x.{kind}"]))
        else:
            result.append(same(name))
    return result


def matches(source: Source) -> bool:
    """Whether the tensors are called as timm calls them."""
    return bool(kind_of(source.tensors))


def read(source: Source) -> Foreign:
    """Read a file or folder of timm's.

    Raises:
        WeightsError: the architecture is none of ours, or a tensor is missing or unknown.
    """
    notes: tuple[str, ...] = ()
    if source.own:
        about = parse_description(source.own, source.where)
    elif "architecture" in source.config:
        about = _from_config(source)
    else:
        about, notes = _from_tensors(source)
    unused = dict(UNUSED)
    if isinstance(about.config, ViTConfig) and about.config.positions == "sincos":
        unused["pos_embed"] = "computed from the sizes"
    tensors, dropped = read_by(rules(about.config), source.tensors, unused, source.where)
    return Foreign.of(about, tensors, dropped, notes)


def write(model: Backbone, path: Path) -> tuple[str, ...]:
    """Write a `.safetensors` file, or a folder that `timm.create_model("local-dir:…")` opens.

    Vitrail's own description goes into the header of the file, so that nothing is lost on the way
    back.

    Raises:
        WeightsError: timm has no such model, or the model lacks class names or preprocessing.
        StorageError: it cannot be written.
    """
    name, model_args, notes = arguments(model.config, model.name)
    about = describe(model)
    tensors = write_by(rules(model.config), model.state_dict()) | _table(model.config)
    single = path.suffix == ".safetensors"
    if not single:
        values = pretrained_cfg(name, model.config, model.preprocess, model.classes)  # type: ignore[arg-type]
        pool = model_args.get("global_pool", {})
        write_json(
            path / "config.json",
            {
                "architecture": name,
                "num_classes": model.config.classes,
                **({"global_pool": pool} if pool else {}),
                "model_args": model_args,
                "pretrained_cfg": values,
            },
        )
    file = path if single else path / "model.safetensors"
    write_tensors(file, tensors, {OWN_KEY: json.dumps(about), "format": "pt"})
    return notes


def _table(config: BackboneConfig) -> dict[str, Tensor]:
    """Give fixed positions as a table, since timm has no other; prefix tokens have none."""
    if not isinstance(config, ViTConfig) or config.positions != "sincos":
        return {}
    places = sincos_positions(config.grid, config.width)
    none = places.new_zeros(1, config.position_prefix, config.width)
    return {"pos_embed": torch.cat([none, places], dim=1)}


def _from_config(source: Source) -> Description:
    """Read the architecture from `config.json`."""
    where = f"{source.where}/config.json"
    name = str(source.config["architecture"]).split(".")[0]
    if name not in MODELS:
        near = did_you_mean(name, MODELS)
        raise WeightsError(f"{where}: architecture={name!r} is not one of Vitrail's models{near}")
    base = MODELS[name]
    given = _object(source.config, "pretrained_cfg", where) or source.config
    args = dict(_object(source.config, "model_args", where))
    size = given.get("input_size")
    sizes: dict[str, Any] = {}
    if isinstance(size, list) and len(size) == 3:
        sizes = {"in_channels": size[0], "image_size": tuple(size[1:])}
    if is_eva(base):  # whose default is another than DINOv3's own
        args.setdefault("global_pool", "avg")
    args["num_classes"] = source.config.get("num_classes", given.get("num_classes"))
    sizes |= changes(args, base, where)
    if source.trained_size is not None:
        sizes["image_size"] = source.trained_size
    config = resize_model(base, where, sizes)
    labels = source.config.get("label_names") or given.get("label_names") or ()
    classes = tuple(str(label) for label in labels)
    if len(set(classes)) != config.classes:
        classes = ()
    return Description(name, config, classes, preprocess_of(given, config, where))


def _object(values: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    """Give a part of a JSON object that is an object itself; an empty one if it is not there."""
    part = values.get(key) or {}
    if not isinstance(part, dict):
        raise WeightsError(f"{where}: {key} must be an object, not {part!r}")
    return part


def _from_tensors(source: Source) -> tuple[Description, tuple[str, ...]]:
    """Read the architecture off the tensors."""
    kind = kind_of(source.tensors)
    if kind == "vit":
        if source.has("blocks.0.gamma_1"):
            raise WeightsError(
                f"{source.where}: a DINOv3 of timm's needs its config.json beside it in a folder"
            )
        found, notes = infer_vit(source.tensors, source.where, source.trained_size)
        config: BackboneConfig = found
        name = name_of(config)
    else:
        name, config = find_named(kind, source.tensors, source.where, source.trained_size)
        notes = ()
    preprocess, note = by_name(name or "vit_", config)
    return Description(name, config, (), preprocess), (*notes, note, *_others(source))


def _others(source: Source) -> tuple[str, ...]:
    """Say whose ViTs have the same names, but other preprocessing."""
    if not admits(source) or source.has("reg_token") or source.has("blocks.0.ls1.gamma"):
        return ()
    whose = "deit" if source.has("head.weight") else "dino or mae"
    return (f"tensors of {whose} have the same names: give format={whose} if they are",)


TIMM = Format(
    "timm: a .safetensors file, or a folder with config.json as on the hub", matches, read, write
)
