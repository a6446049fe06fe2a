"""Checkpoints on the disk: which is the newest whole one, and what is in it.

step-00001200/model.safetensors   or model-00001-of-00004.safetensors ..., one of each rank; and so
                                  optimizer, ema and whatever else has tensors
              state.json          step, score, and what the training keeps beside tensors
              manifest.json       size and sha256 of every other file
"""

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vitrail.checkpoints.folders import list_folders, step_folder
from vitrail.errors import RunError, WeightsError
from vitrail.files import Seal, read_hashed
from vitrail.weights.tensors import TensorFiles

MANIFEST = "manifest.json"
STATE = "state.json"
Manifest = dict[str, Seal]  # by file name

_TENSORS = re.compile(r"(.+?)(-\d{5}-of-\d{5})?\.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint: its step, the tensors by file and name, and the rest of the state.

    Tensors are read when they are asked for, each as a copy on the CPU.
    """

    step: int
    tensors: dict[str, Mapping[str, Tensor]]
    state: dict[str, Any]
    folder: Path


def newest_checkpoint(root: Path, every: int = 1) -> tuple[Checkpoint | None, list[str]]:
    """Find the newest checkpoint that is whole: each byte of it is looked at.

    Args:
        every: only steps that are a multiple of it.
    Returns:
        the checkpoint, or None; and one line for each damaged one that was passed over.
    Raises:
        RunError: the folder cannot be read at all.
    """
    damaged: list[str] = []
    for folder in _listed(root):
        if int(folder.name.removesuffix(".old").removeprefix("step-")) % every:
            continue
        try:
            verify(folder)
            return open_checkpoint(folder), damaged
        except (RunError, WeightsError) as error:
            damaged.append(str(error))
    return None, damaged


def read_checkpoint(root: Path, step: int) -> Checkpoint:
    """Open the checkpoint of a step that has been verified before; only sizes are looked at.

    Raises:
        RunError, WeightsError: it is not there, or damaged.
    """
    name = step_folder(root, step).name
    for folder in _listed(root):
        if folder.name.removesuffix(".old") == name:
            return open_checkpoint(folder)
    raise RunError(f"{root / name}: no such checkpoint")


def _listed(root: Path) -> list[Path]:
    """List the checkpoint folders, newest first. Raises RunError."""
    try:
        return list_folders(root)
    except OSError as error:
        raise RunError(f"{root}: cannot be read ({error.strerror})") from None


def verify(folder: Path) -> None:
    """Compare every byte of a checkpoint with its manifest.

    Raises:
        RunError: a file is missing, or another than the manifest says; it is named.
    """
    for name, seal in read_manifest(folder).items():
        try:
            same = read_hashed(folder / name) == seal
        except OSError as error:
            raise RunError(f"{folder / name}: damaged ({error.strerror})") from None
        if not same:
            raise RunError(f"{folder / name}: damaged (its sha256 differs from the manifest)")


def open_checkpoint(folder: Path) -> Checkpoint:
    """Open a checkpoint whose files have the right sizes.

    Raises:
        RunError, WeightsError: it is damaged.
    """
    parts: dict[str, list[Path]] = {}
    for name in sorted(read_manifest(folder)):
        if match := _TENSORS.fullmatch(name):
            parts.setdefault(match[1], []).append(folder / name)
    try:
        state = json.loads((folder / STATE).read_bytes())
        step = int(state["step"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder / STATE}: damaged ({error!r})") from None
    tensors: dict[str, Mapping[str, Tensor]] = {
        file: TensorFiles(paths) for file, paths in parts.items()
    }
    return Checkpoint(step, tensors, state, folder)


def read_manifest(folder: Path) -> Manifest:
    """Read what the files of a checkpoint must be; that they are there, with these sizes, is sure.

    Raises:
        RunError: a file is missing, too many, or has another size.
    """
    path = folder / MANIFEST
    try:
        entries = json.loads(path.read_bytes())
        manifest = {name: Seal(each["bytes"], each["sha256"]) for name, each in entries.items()}
        there = {name for name in os.listdir(folder) if not name.startswith(".")}  # .DS_Store
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path}: damaged ({error!r})") from None
    for name in sorted(manifest.keys() - there):
        raise RunError(f"{folder / name}: damaged (it is missing)")
    for name in sorted(there - manifest.keys() - {MANIFEST}):
        raise RunError(f"{path}: damaged (it does not list {name})")
    for name, seal in manifest.items():
        try:
            size = os.stat(folder / name).st_size
        except OSError as error:
            raise RunError(f"{folder / name}: damaged ({error.strerror})") from None
        if size != seal.bytes:
            raise RunError(f"{folder / name}: damaged ({size} bytes, not {seal.bytes})")
    return manifest


def score_of(folder: Path) -> float | None:
    """Give the score that a checkpoint was saved with; None if it has none, or cannot be read."""
    try:
        score = float(json.loads((folder / STATE).read_bytes())["score"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return score if math.isfinite(score) else None
