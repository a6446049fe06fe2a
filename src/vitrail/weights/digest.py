"""Which weights these are: the SHA-256 of files, and of a model's own tensors."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vitrail.errors import WeightsError
from vitrail.weights.native import is_native
from vitrail.weights.opening import regular_file

BESIDE = ("config.json", "preprocessor_config.json")  # of other makers, beside the weights


def file_digests(path: Path) -> dict[str, str]:
    """Give the SHA-256 of every file that a load may read, by its name in the folder.

    Args:
        path: a folder or file of weights, as `vitrail.weights.source.open_source` takes them.
    Raises:
        WeightsError: there are no weights, or a file cannot be read.
    """
    if not path.is_dir():
        beside = path.with_suffix(".json")
        files = [path, beside] if path.suffix == ".npz" and beside.exists() else [path]
    elif is_native(path):
        files = [path / "model.json", path / "model.safetensors"]
    elif (path / "model.safetensors").exists():
        files = [path / "model.safetensors", *_present(path)]
    else:
        files = [*path.glob("*.safetensors.index.json"), *path.glob("*.safetensors")]
        files += _present(path)
    if not files:
        raise WeightsError(f"{path}: no weights here")
    return {file.name: _file_digest(file) for file in sorted(files)}


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """Give the SHA-256 of named tensors: names, types, shapes and every value."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _present(path: Path) -> list[Path]:
    return [path / name for name in BESIDE if (path / name).exists()]


def _file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with regular_file(path) as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()
