"""From the weights of a file to a model of the wanted sizes, with a table of what happened."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from vitrail.data.preprocess import Preprocess
from vitrail.errors import WeightsError, did_you_mean
from vitrail.models import Backbone, BackboneConfig, build_model
from vitrail.models.base import MOST_CLASSES
from vitrail.models.loaded import Fate, LoadReport, Row
from vitrail.models.registry import resize_model
from vitrail.models.vit_config import ViTConfig
from vitrail.weights.foreign import Foreign


@dataclass(frozen=True)
class Wanted:
    """How the model shall differ from the file; None: as in the file."""

    num_classes: int | None = None
    classes: tuple[str, ...] | None = None  # names
    head: Literal["keep", "new"] | None = None
    sizes: dict[str, Any] | None = None  # of the architecture, such as image_size


@dataclass(frozen=True)
class Head:
    """What becomes of the class head: `rows` of the file's are kept, or it is new where None."""

    classes: tuple[str, ...]
    rows: list[int] | None


def adapt(foreign: Foreign, wanted: Wanted, where: str, format: str) -> Backbone:
    """Build the model and bring every tensor to its place; it is in eval mode.

    Raises:
        WeightsError: a tensor is missing, does not fit, or holds NaN; or the classes do not fit.
        ModelError: the wanted sizes are impossible.
    """
    head = choose_head(foreign, wanted, where)
    changes = dict(wanted.sizes or {}) | {"classes": len(head.classes)}
    config = resize_model(foreign.config, where, changes)
    with torch.device("meta"):  # no time is spent on first weights that are replaced at once
        model = build_model(config)
    tensors, rows = _fit_all(model, foreign, head, where)
    model.load_state_dict(tensors, assign=True)
    assert not any(buffer.is_meta for buffer in model.buffers())
    rows += _unused(model, foreign, where)
    model.name = foreign.name
    model.classes = head.classes
    model.preprocess = _preprocess(foreign, config)
    model.multi_label = foreign.multi_label and head.rows is not None
    notes = list(foreign.notes)
    if head.rows is not None and config.classes and not foreign.classes:
        notes.append("the file does not name its classes; they are numbered")
    if model.preprocess is None:
        notes.append(f"no preprocessing for {config.in_channels} channels; set model.preprocess")
    model.loaded = LoadReport(where, format, tuple(rows), tuple(notes))
    return model.eval().requires_grad_(True)


def choose_head(foreign: Foreign, wanted: Wanted, where: str) -> Head:
    """Decide what becomes of the class head.

    Raises:
        WeightsError: what is wanted contradicts itself or the file.
    """
    count = foreign.config.classes
    names = foreign.classes or tuple(str(i) for i in range(count))
    if not 0 <= (wanted.num_classes or 0) <= MOST_CLASSES:
        raise WeightsError(
            f"{where}: num_classes={wanted.num_classes} must be from 0 to {MOST_CLASSES}"
        )
    if wanted.classes is not None:
        return _by_names(names, wanted, where)
    if wanted.num_classes is None or wanted.num_classes == count:
        if wanted.head != "new":
            return Head(names, list(range(count)))
        if wanted.num_classes is None:
            raise WeightsError(f"{where}: head=new needs num_classes or classes")
    elif wanted.head == "keep":
        raise WeightsError(
            f"{where}: has {count} classes, not num_classes={wanted.num_classes}; "
            "leave num_classes out to keep them, name those to keep as classes, or take head=new"
        )
    return Head(tuple(str(i) for i in range(wanted.num_classes)), None)


def _by_names(names: tuple[str, ...], wanted: Wanted, where: str) -> Head:
    chosen = wanted.classes or ()
    if len(set(chosen)) != len(chosen) or wanted.num_classes not in (None, len(chosen)):
        raise WeightsError(
            f"{where}: classes must be different names, as many as num_classes where that is given"
        )
    if wanted.head == "new":
        return Head(chosen, None)
    place = {name: i for i, name in enumerate(names)}
    for name in chosen:
        if name not in place:
            raise WeightsError(
                f"{where}: class {name!r} is not one of its {len(names)} classes"
                f"{did_you_mean(name, names)}; take head=new for a fresh head"
            )
    return Head(chosen, [place[name] for name in chosen])


def _fit_all(
    model: Backbone, foreign: Foreign, head: Head, where: str
) -> tuple[dict[str, Tensor], list[Row]]:
    """Give every tensor of the model, and what happened to each."""
    tensors: dict[str, Tensor] = {}
    rows: list[Row] = []
    for name, own in model.state_dict().items():
        if name in model.head_names and head.rows is None:
            tensors[name] = torch.zeros(own.shape, dtype=own.dtype)
            rows.append(Row(name, "new", tuple(own.shape), why="class head: zeros"))
            continue
        if name not in foreign.tensors:
            raise WeightsError(f"{where}: lacks {name!r}, which the wanted model has")
        old = foreign.tensors[name]
        count = foreign.config.classes
        if name in model.head_names and old.shape[:1] != (count,):
            raise WeightsError(f"{where}: {name} is {list(old.shape)} for {count} classes")
        kept = _kept_rows(old, head) if name in model.head_names else old
        ready = kept.to(own.dtype)
        try:
            # one of another number of axes is not for `fit`, and is refused below
            tensor = model.fit(name, ready, foreign.config) if ready.ndim == own.ndim else ready
        except ValueError as error:
            raise WeightsError(f"{where}: {name}: {error}") from None
        if tensor.shape != own.shape:
            raise WeightsError(
                f"{where}: {name} is {list(old.shape)}, the model has {list(own.shape)}"
            )
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise WeightsError(f"{where}: {name} holds values that are not finite")
        fate: Fate = "cut" if kept is not old else "resized" if tensor is not ready else "loaded"
        grids = _grids(name, model.config, foreign.config) if fate == "resized" else ""
        rows.append(_row(name, fate, tensor, old, grids))
        tensors[name] = tensor.clone()  # the file's tensors may share memory
    return tensors, rows


def _grids(name: str, config: BackboneConfig, source: BackboneConfig) -> str:
    """Say how the grid of the positions has changed: the number of places may be the same."""
    if name != "pos_embed" or not isinstance(config, ViTConfig):
        return ""
    assert isinstance(source, ViTConfig)
    return f"grid {source.grid[0]}x{source.grid[1]} to {config.grid[0]}x{config.grid[1]}"


def _row(name: str, fate: Fate, tensor: Tensor, old: Tensor, why: str) -> Row:
    source = None if fate == "loaded" else tuple(old.shape)
    why = "rows of the named classes" if fate == "cut" else why
    if old.dtype != tensor.dtype:
        why = f"from {str(old.dtype).removeprefix('torch.')}"
    return Row(name, fate, tuple(tensor.shape), source, why)


def _kept_rows(tensor: Tensor, head: Head) -> Tensor:
    """Choose rows of a head; the same object comes back if all stay in their order."""
    assert head.rows is not None
    return tensor if head.rows == list(range(len(tensor))) else tensor[head.rows]


def _unused(model: Backbone, foreign: Foreign, where: str) -> list[Row]:
    """List what the file has and the model does not need. Raises WeightsError."""
    rows = [Row(name, "dropped", (), why=why) for name, why in foreign.dropped.items()]
    for name in sorted(foreign.tensors.keys() - model.state_dict().keys()):
        if name not in model.head_names:
            raise WeightsError(f"{where}: has {name!r}, which the wanted model lacks")
        shape = tuple(foreign.tensors[name].shape)
        rows.append(Row(name, "dropped", shape, why="class head: not wanted"))
    return rows


def _preprocess(foreign: Foreign, config: BackboneConfig) -> Preprocess | None:
    """Bring the contract to the model's image size and channels."""
    given = foreign.preprocess
    if given is None:
        return None
    if given.channels != config.in_channels and config.in_channels not in (1, 3):
        return None  # nothing is known of the other bands
    if given.size != config.image_size:
        given = given.replace(size=config.image_size)
    if given.channels == config.in_channels:
        return given

    def spread(values: Sequence[float]) -> tuple[float, ...]:
        return (sum(values) / len(values),) * config.in_channels

    mean, std = spread(given.mean), spread(given.std)
    return given.replace(channels=config.in_channels, mean=mean, std=std)
