"""Weights from one format to another, proved by loading the result again."""

import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from vitrail.errors import WeightsError
from vitrail.files import writing
from vitrail.models import Backbone
from vitrail.weights.adapt import Wanted, adapt
from vitrail.weights.hub import fetch
from vitrail.weights.load import read_any, save_model

IMAGES = 4  # random ones, on which both models answer


@dataclass(frozen=True)
class Proof:
    """What the written weights answered, beside the model that they were written from."""

    model: Backbone  # as it was written; `model.loaded` says what became of each tensor
    format: str  # of the source
    notes: tuple[str, ...]  # what the new format cannot say
    largest_difference: float  # of any logit (feature, without classes) on random images
    tensors_equal: bool  # every tensor, to the bit


def convert(
    source: str | Path,
    target: Path,
    to: str,
    wanted: Wanted | None = None,
    *,
    trained_size: tuple[int, int] | None = None,
    format: str | None = None,
    tolerance: float = 1e-5,
) -> Proof:
    """Write weights in another format, load them again and compare; nothing is left if they differ.

    PyTorch's own files (`.pth`, `.bin`) are taken here and nowhere else: a child process opens
    them.

    Args:
        source: a file, a folder or `hf://owner/name`.
        target: must not exist.
        to: a format that can be written.
        wanted: other classes and sizes than the source has.
        trained_size: (height, width) in pixels, where the source does not say.
        format: the source's, where its tensors leave it open.
        tolerance: the largest difference of a logit that passes.
    Raises:
        WeightsError: the source cannot be read, the target exists, or the result differs.
        UsageError, ModelError, StorageError: the format, the sizes or the disk do not allow it.
    """
    if target.exists():
        raise WeightsError(f"{target}: exists already; choose another name or remove it")
    foreign, found = read_any(fetch(source), trained_size=trained_size, pickles=True, format=format)
    model = adapt(foreign, wanted or Wanted(), str(source), found)
    scratch = target.with_name(f".{secrets.token_hex(4)}.{target.name}")  # keeps the ending
    sidecars = [path.with_suffix(".json") for path in (scratch, target)]
    try:
        notes = save_model(model, scratch, format=to, quiet=True)
        written, _ = read_any(scratch)
        back = adapt(written, Wanted(), str(target), to)
        largest = largest_difference(model, back)
        if not largest <= tolerance:
            raise WeightsError(
                f"{target}: {to} gives other logits than {source}, by up to {largest:.2g}; "
                "nothing was written"
            )
        with writing(target):
            if scratch.is_file() and sidecars[0].exists():
                sidecars[0].replace(sidecars[1])
            scratch.replace(target)
    finally:
        _remove(scratch)
        sidecars[0].unlink(missing_ok=True)
    return Proof(model, found, notes, largest, _equal(model, back))


@torch.no_grad()
def largest_difference(one: Backbone, other: Backbone) -> float:
    """Give the largest difference of logits and features on random images of the models' size.

    Features too: a new head of zeros would hide everything before it.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (1, one.config.in_channels, *one.config.image_size)
    largest = 0.0
    for _ in range(IMAGES):  # one by one: models and images may be large
        image = torch.randn(shape, generator=generator)
        pooled = one.features(image).pooled, other.features(image).pooled
        logits = one.classify(pooled[0]), other.classify(pooled[1])
        pairs = (pooled, logits)
        largest = max(largest, *(float((a - b).abs().max()) for a, b in pairs))
    return largest


def _equal(one: Backbone, other: Backbone) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[n], theirs[n]) for n in mine)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
