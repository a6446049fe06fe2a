"""What LoRA trained, in one small file beside the weights that it was trained on.

PATH is a safetensors file: `<layer>.lora_a`, `<layer>.lora_b` and the class head, with the
description of the model, the rank and the digest of the base weights as JSON in its header.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrail.data.preprocess import Preprocess
from vitrail.errors import ConfigError, WeightsError
from vitrail.models import Backbone
from vitrail.models.lora import ADDED, adapter_names, add_lora, lora_layers, merge_in_place
from vitrail.weights.adapt import Wanted, adapt
from vitrail.weights.description import Description, describe, parse_description
from vitrail.weights.digest import tensor_digest
from vitrail.weights.foreign import Foreign
from vitrail.weights.tensors import read_metadata, read_tensors, write_tensors

KEY = "vitrail.adapter"  # in the header
FORMAT = 1


@dataclass(frozen=True)
class Adapter:
    """What the header of the file says."""

    model: Description  # of the trained model
    rank: int
    alpha: float
    targets: tuple[str, ...]  # names of the layers
    base_digest: str
    base_source: str  # where the base came from; "" where nobody said it


def save_adapter(model: Backbone, path: str | Path, *, source: str = "") -> None:
    """Write the matrices that LoRA added to a model, and its head, into one file.

    Args:
        model: one that `add_lora` has changed, trained; with classes and preprocessing.
        path: of the file; its name ends in .safetensors.
        source: where the base weights came from, for whoever looks for them.
    Raises:
        WeightsError: the model has no such matrices, or does not know its classes.
        StorageError: it cannot be written.
    """
    layers = lora_layers(model)
    if not layers:
        raise WeightsError(f"{path}: the model has no LoRA matrices; save it by save_model")
    first = next(iter(layers.values()))
    own = model.state_dict()
    about = {
        "format": FORMAT,
        "model": describe(model),
        "rank": first.rank,
        "alpha": first.alpha,
        "targets": list(layers),
        "base": {"source": source, "sha256": base_digest(model)},
    }
    write_tensors(
        Path(path),
        {name: own[name] for name in adapter_names(model)},
        {KEY: json.dumps(about, ensure_ascii=False)},
    )


def load_adapter(model: Backbone, path: str | Path) -> Backbone:
    """Give the model that LoRA trained: the base weights with an adapter merged into them.

    It has the classes, the image size and the preprocessing of the training, is in eval mode and
    plain: it can be saved, explained and trained as any other. The base stays as it was.

    Args:
        model: the base, as `load_model` gives it, with any head; at its own image size or that of
            the training.
        path: what `save_adapter` wrote, such as RUN/adapter.safetensors.
    Raises:
        WeightsError: it is no adapter, is damaged, or belongs to other weights.
    """
    path = Path(path).expanduser()
    adapter = _read_about(path)
    tensors = read_tensors(path)
    _require_base(model, adapter, path)
    grown = _rebuild(model, adapter, path)
    try:
        add_lora(grown, adapter.rank, adapter.alpha, adapter.targets)
    except ConfigError as error:
        raise WeightsError(f"{path}: {error}") from None
    own = grown.state_dict()
    expected = adapter_names(grown)
    if (differ := sorted(tensors.keys() ^ set(expected))) != []:
        what = "lacks" if differ[0] in expected else "has an unknown"
        raise WeightsError(f"{path}: {what} {differ[0]!r}; it is damaged")
    for name in expected:
        if tensors[name].shape != own[name].shape or not torch.isfinite(tensors[name]).all():
            raise WeightsError(
                f"{path}: {name} must be {list(own[name].shape)}, all finite; it is damaged"
            )
    grown.load_state_dict(tensors, strict=False)
    return merge_in_place(grown).eval()


def is_adapter(path: Path) -> bool:
    """Whether the file is what `save_adapter` writes. Raises WeightsError: it is damaged."""
    return path.suffix == ".safetensors" and path.is_file() and KEY in read_metadata(path)


def base_digest(model: Backbone) -> str:
    """Give the SHA-256 of the weights that LoRA leaves as they are.

    Those that a load brings to another image size, patch size or number of channels are left out:
    the numbers may differ in the last bit from machine to machine.
    """
    resampled = ("pos_embed", "patch_embed.proj.weight", model.stem_weight)
    tensors = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name not in model.head_names
        and name not in resampled
        and not name.endswith(("relative_position_bias_table", *(f".{part}" for part in ADDED)))
    }
    return tensor_digest(tensors)


def _read_about(path: Path) -> Adapter:
    """Read the header. Raises WeightsError, ConfigError."""
    text = read_metadata(path).get(KEY)
    if text is None:
        raise WeightsError(f"{path}: not an adapter; a training with lora.rank above 0 writes one")
    try:
        values: dict[str, Any] = json.loads(text)
        if values["format"] != FORMAT:
            raise WeightsError(f"{path}: was written by another version of Vitrail")
        model = parse_description(values["model"], f"{path}: model")
        return Adapter(
            model,
            int(values["rank"]),
            float(values["alpha"]),
            tuple(map(str, values["targets"])),
            str(values["base"]["sha256"]),
            str(values["base"]["source"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path}: its header is damaged ({error!r})") from None


def _require_base(model: Backbone, adapter: Adapter, path: Path) -> None:
    """Refuse other weights than those that the adapter was trained on. Raises WeightsError."""
    wanted = adapter.base_source or "weights that it does not name"
    if lora_layers(model):
        raise WeightsError(f"{path}: the model has LoRA matrices already; merge them first")
    if type(model.config) is not type(adapter.model.config):
        kind = type(adapter.model.config).__name__.removesuffix("Config")
        raise WeightsError(
            f"{path}: belongs to a {kind}, the model is a {type(model).__name__}; load {wanted}"
        )
    tensors: dict[str, Tensor] = dict(model.state_dict())
    lacking = [name for name in adapter.targets if f"{name}.weight" not in tensors]
    if lacking:
        raise WeightsError(f"{path}: the model has no layer {lacking[0]!r}; load {wanted}")
    found = base_digest(model)
    if found != adapter.base_digest:
        raise WeightsError(
            f"{path}: belongs to other weights (sha256 {adapter.base_digest[:12]}…, those of the "
            f"model have {found[:12]}…); load {wanted}"
        )


def _rebuild(model: Backbone, adapter: Adapter, path: Path) -> Backbone:
    """Copy the base, brought to the sizes of the training, with a head of zeros.

    Raises:
        WeightsError: it was brought to yet other sizes before, which would add up.
    """
    about, where = adapter.model, f"{path}: base"
    sizes = {
        name: value
        for name, value in dict(about.config).items()
        if name != "classes" and getattr(model.config, name) != value
    }
    moved = model.loaded is not None and bool(model.loaded.of("resized"))
    if moved and sizes.keys() - {"drop_path", "patch_dropout"}:
        name = next(iter(sizes))
        raise WeightsError(
            f"{where}: {name}={getattr(model.config, name)}, the adapter was trained with "
            f"{sizes[name]}; load the base with that, or as it lies in its file"
        )
    foreign = Foreign(model.config, model.state_dict(), model.name, model.classes)
    wanted = Wanted(classes=about.classes, head="new", sizes=sizes)
    grown = adapt(foreign, wanted, where, "vitrail")
    grown.name, grown.multi_label, grown.loaded = about.name, about.multi_label, model.loaded
    assert about.preprocess is None or isinstance(about.preprocess, Preprocess)
    grown.preprocess = about.preprocess
    return grown
