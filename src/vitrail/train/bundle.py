"""A step that went wrong, kept whole, so that it can be taken again without its run and its data.

RUN/replays/step-00001234/   with many ranks step-00001234-rank-1
    config.json              the settings of the run
    model.json               architecture, class names, preprocessing
    model.safetensors        the weights before the step
    batch.safetensors        images, labels, samples and epochs of this rank
    loss.safetensors         what the loss knows of the classes, where it does
    event.json               what happened, and on what machine
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrail.checkpoints.folders import publish
from vitrail.data.loader import Batch
from vitrail.data.preprocess import Preprocess
from vitrail.errors import RunError
from vitrail.files import write_hashed, write_json, writing
from vitrail.models import Backbone, build_model
from vitrail.models.lora import add_lora
from vitrail.objectives.classify import Classify
from vitrail.objectives.losses import Loss
from vitrail.train.config import RunConfig
from vitrail.train.environment import environment
from vitrail.train.events import Event, json_number
from vitrail.weights.description import describe, parse_description
from vitrail.weights.tensors import read_tensors, tensor_pieces

FORMAT = 1


@dataclass(frozen=True)
class Place:
    """Which part of the step a rank computed, and what it gave there."""

    rank: int
    ranks: int
    loss: float
    norm: float | None  # None where a rank cannot know its own
    loss_scale: float | None  # of fp16


@dataclass(frozen=True)
class Bundle:
    """A step that can be taken again."""

    config: RunConfig
    objective: Classify  # on the CPU, in training mode, with the weights of before the step
    batch: Batch
    event: Event
    place: Place
    threads: int  # of PyTorch on the CPU, which decide how sums are rounded
    environment: Mapping[str, Any]


def write_bundle(
    folder: Path,
    config: RunConfig,
    objective: Classify,
    model: Backbone,
    tensors: Mapping[str, Tensor],
    batch: Batch,
    about: tuple[Event, Place],
) -> None:
    """Keep a step in a folder, which replaces one of this name.

    Args:
        tensors: the whole state of the model, which may itself hold parts only.
    Raises:
        StorageError: it cannot be written; nothing is left behind.
    """
    event, place = about
    scratch = folder.with_name(f"{folder.name}.tmp")
    with writing(folder):
        shutil.rmtree(scratch, ignore_errors=True)  # what a killed process left
        try:
            scratch.mkdir(parents=True)
            write_json(scratch / "config.json", config.to_json())
            write_json(scratch / "model.json", describe(model))
            _write(scratch / "model.safetensors", tensors)
            _write(scratch / "batch.safetensors", _pack(batch))
            if known := _known(objective.loss):
                _write(scratch / "loss.safetensors", known)
            write_json(
                scratch / "event.json",
                {
                    "format": FORMAT,
                    "event": event.to_json(),
                    "rank": place.rank,
                    "ranks": place.ranks,
                    "loss": json_number(place.loss),
                    "norm": None if place.norm is None else json_number(place.norm),
                    "loss_scale": place.loss_scale,
                    "loss_kind": objective.loss.kind,
                    "frozen": [n for n, p in model.named_parameters() if not p.requires_grad],
                    "threads": torch.get_num_threads(),
                    "environment": environment(config.device),
                },
            )
            publish(scratch, folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def read_bundle(folder: Path) -> Bundle:
    """Read what `write_bundle` wrote.

    Raises:
        RunError, WeightsError, ConfigError: it is no bundle, or damaged.
    """
    if not (folder / "event.json").is_file():
        raise RunError(
            f"{folder}: not a step to take again (no event.json); they lie in RUN/replays"
        )
    about = _read_json(folder / "event.json")
    if about.get("format") != FORMAT:
        raise RunError(
            f"{folder / 'event.json'}: format must be {FORMAT}; another version wrote it"
        )
    config = RunConfig.parse(_read_json(folder / "config.json"), str(folder / "config.json"))
    try:
        event = Event.parse(about["event"])
        norm = about["norm"]
        place = Place(
            rank=int(about["rank"]),
            ranks=int(about["ranks"]),
            loss=float(about["loss"]),
            norm=None if norm is None else float(norm),
            loss_scale=about["loss_scale"],
        )
        model = _model(folder, config, frozenset(about["frozen"]))
        objective = _objective(folder, config, model, about["loss_kind"])
        batch = _unpack(read_tensors(folder / "batch.safetensors"), objective)
        threads = int(about["threads"])
        return Bundle(config, objective, batch, event, place, threads, about["environment"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        raise RunError(f"{folder}: damaged ({type(error).__name__}: {reason})") from None


def _model(folder: Path, config: RunConfig, frozen: frozenset[str]) -> Backbone:
    """Rebuild the model; its weights may be anything, also not finite."""
    about = parse_description(_read_json(folder / "model.json"), str(folder / "model.json"))
    model = build_model(about.config)
    model.name, model.classes, model.preprocess = about.name, about.classes, about.preprocess
    model.multi_label = about.multi_label
    if config.lora.rank:
        add_lora(model, config.lora.rank, config.lora.alpha, config.lora.targets)
    model.load_state_dict(read_tensors(folder / "model.safetensors"))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return model.train()


def _objective(folder: Path, config: RunConfig, model: Backbone, kind: Any) -> Classify:
    """Rebuild what lies between a batch and the loss."""
    if kind not in ("softmax", "sigmoid"):
        raise ValueError(f"loss_kind={kind!r}")
    assert isinstance(model.preprocess, Preprocess)
    path = folder / "loss.safetensors"
    known = read_tensors(path) if path.exists() else {}
    loss = Loss(
        len(model.classes),
        kind=kind,
        smoothing=config.train.label_smoothing,
        focal=config.loss.focal,
        weights=known.get("weights"),
        against=known.get("against"),
        shift=known.get("shift"),
    )
    return Classify(model, model.preprocess, config.augment, loss=loss, seed=config.seed)


def _known(loss: Loss) -> dict[str, Tensor]:
    """Give what the loss knows of the classes."""
    tensors = {} if loss.plain else {"weights": loss.weights, "against": loss.against}
    return tensors if loss.shift is None else tensors | {"shift": loss.shift}


def _pack(batch: Batch) -> dict[str, Tensor]:
    """Give the tensors of a batch."""
    return {
        "images": batch.images,
        "labels": batch.labels,
        "samples": torch.from_numpy(batch.samples),
        "epochs": torch.from_numpy(batch.epochs),
    }


def _unpack(tensors: Mapping[str, Tensor], objective: Classify) -> Batch:
    """Give back a batch. Raises KeyError, ValueError."""
    images, labels = tensors["images"], tensors["labels"]
    count, preprocess, classes = len(images), objective.preprocess, objective.loss.classes
    if images.shape[1:] != (preprocess.channels, *preprocess.size) or not count:
        raise ValueError(f"images of the shape {list(images.shape)}")
    shapes = {name: tuple(tensors[name].shape) for name in ("samples", "epochs")}
    if set(shapes.values()) != {(count,)} or labels.shape not in ((count,), (count, classes)):
        raise ValueError("samples, epochs or labels are not as many as the images")
    if not 0 <= int(labels.min()) <= int(labels.max()) < (classes if labels.ndim == 1 else 2):
        raise ValueError("a label is out of range")
    samples, epochs = tensors["samples"].numpy(), tensors["epochs"].numpy()
    return Batch(images, labels, samples, epochs, ())


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors piece by piece, and wait until the disk has them."""
    ready = {name: each.detach().contiguous().cpu() for name, each in tensors.items()}
    write_hashed(path, tensor_pieces(ready))


def _read_json(path: Path) -> dict[str, Any]:
    """Read an object. Raises RunError."""
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: cannot be read ({error})") from None
    if not isinstance(values, dict):
        raise RunError(f"{path}: damaged (no JSON object)")
    return values
