"""Vitrail's own format: a folder with `model.json` and `model.safetensors`."""

import json
from pathlib import Path
from typing import Any

from vitrail.config import Config
from vitrail.data.preprocess import Preprocess
from vitrail.errors import WeightsError, did_you_mean
from vitrail.files import write_json
from vitrail.models import BACKBONES, Backbone, build_model
from vitrail.weights.tensors import fill, read_tensors, write_tensors

FORMAT = 1


def save_model(model: Backbone, path: str | Path) -> None:
    """Write a model, its class names and its preprocessing into a folder.

    Raises:
        WeightsError: the model does not know its classes or its preprocessing.
        StorageError: the folder cannot be written.
    """
    write_description(model, Path(path))
    write_tensors(Path(path) / "model.safetensors", model.state_dict())


def write_description(model: Backbone, folder: Path) -> None:
    """Write `model.json`: enough to rebuild the model and to feed it."""
    if not model.classes or model.preprocess is None:
        raise WeightsError(
            "save_model: set model.classes (names) and model.preprocess (Preprocess) first, "
            "so that whoever loads it can use it"
        )
    write_json(
        folder / "model.json",
        {
            "format": FORMAT,
            "name": model.name,
            "architecture": model.config.to_json(),
            "classes": list(model.classes),
            "preprocess": model.preprocess.to_json(),
        },
    )


def load_model(path: str | Path) -> Backbone:
    """Load a model from a run directory or any folder that `save_model` wrote; it is in eval mode.

    Raises:
        WeightsError: it is not such a folder, or a file in it is damaged.
    """
    model = read_description(Path(path))
    weights = Path(path) / "model.safetensors"
    fill(model, read_tensors(weights), str(weights))
    return model.eval()


def read_description(folder: Path) -> Backbone:
    """Build the model that `model.json` describes, with fresh weights."""
    path = folder / "model.json"
    try:
        values = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise WeightsError(
            f"{folder}: not a trained model; it needs model.json and model.safetensors"
        ) from None
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise WeightsError(f"{path}: format must be {FORMAT}; it was written by another version")
    model = build_model(_architecture(values, path))
    model.name = str(values.get("name", ""))
    model.classes = _classes(values, model, path)
    model.preprocess = Preprocess.parse(values.get("preprocess"), f"{path}: preprocess")
    return model


def _architecture(values: dict[str, Any], path: Path) -> Config:
    """Check the sizes; the kind is looked up, never imported."""
    sizes = values.get("architecture")
    kind = sizes.get("kind") if isinstance(sizes, dict) else None
    if not isinstance(kind, str) or kind not in BACKBONES:
        raise WeightsError(
            f"{path}: architecture kind {kind!r} is not one of {', '.join(BACKBONES)}"
            f"{did_you_mean(str(kind), BACKBONES)}"
        )
    return BACKBONES[kind][0].parse(sizes, f"{path}: architecture")


def _classes(values: dict[str, Any], model: Backbone, path: Path) -> tuple[str, ...]:
    names = values.get("classes")
    wanted = getattr(model.config, "classes", None)
    if (
        not isinstance(names, list)
        or not all(isinstance(name, str) for name in names)
        or not len(names) == len(set(names)) == wanted
    ):
        raise WeightsError(f"{path}: classes must be {wanted} different names")
    return tuple(names)
