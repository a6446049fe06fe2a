"""Vitrail's own format: a folder with `model.json` and `model.safetensors`."""

import json
from pathlib import Path
from typing import Any

from vitrail.errors import WeightsError
from vitrail.files import write_json
from vitrail.models import Backbone
from vitrail.weights.description import describe, parse_description
from vitrail.weights.foreign import Foreign
from vitrail.weights.infer import state_names
from vitrail.weights.names import read_by, same
from vitrail.weights.tensors import read_tensors, write_tensors


def is_native(path: Path) -> bool:
    """Whether the folder is one of this format, whole or not."""
    return (path / "model.json").exists()


def read_native(path: Path) -> Foreign:
    """Read a folder that `write_native` wrote, or a run directory.

    Raises:
        WeightsError, ConfigError: it is not such a folder, or a file in it is damaged.
    """
    about = parse_description(_read_values(path / "model.json"), str(path / "model.json"))
    weights = path / "model.safetensors"
    rules = [same(name) for name in state_names(about.config)]
    tensors, _ = read_by(rules, read_tensors(weights), {}, str(weights))
    return Foreign.of(about, tensors)


def write_native(model: Backbone, path: Path) -> tuple[str, ...]:
    """Write a model, its class names and its preprocessing into a folder.

    Raises:
        WeightsError: the model does not know its classes or its preprocessing.
        StorageError: the folder cannot be written.
    """
    write_json(path / "model.json", describe(model))
    write_tensors(path / "model.safetensors", model.state_dict())
    return ()


def _read_values(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise WeightsError(
            f"{path.parent}: not a trained model; it needs model.json and model.safetensors"
        ) from None
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(values, dict):
        raise WeightsError(f"{path}: format must be 1; it was written by another version")
    return values
