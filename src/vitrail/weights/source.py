"""What lies at a path: tensors by name, and the JSON beside them. Nothing in it is executed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from vitrail.errors import WeightsError
from vitrail.weights.npz import read_npz
from vitrail.weights.pickles import read_pickle
from vitrail.weights.tensors import read_metadata, read_tensors

PICKLES = (".pth", ".pt", ".bin", ".tar", ".ckpt")
OWN_KEY = "vitrail"  # of the description that our writers put into the header of a safetensors file


@dataclass(frozen=True)
class Source:
    """Weights as they lie on the disk, before anybody knows whose they are."""

    where: str  # for errors
    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any] = field(default_factory=dict)  # config.json
    processor: Mapping[str, Any] = field(default_factory=dict)  # preprocessor_config.json
    own: Mapping[str, Any] = field(default_factory=dict)  # the description that Vitrail left
    trained_size: tuple[int, int] | None = None  # height, width; what the caller knows of it
    # what `unwrap` took off around the names, outermost first, left out beside them, and says
    wrapped_in: tuple[str, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def has(self, *names: str) -> bool:
        """Whether all these tensors are there."""
        return all(name in self.tensors for name in names)


def open_source(
    path: Path, *, pickles: bool = False, trained_size: tuple[int, int] | None = None
) -> Source:
    """Read a weights file, or a folder with one and its descriptions.

    Args:
        path: a `.safetensors` or `.npz` file, or a folder with `model.safetensors` (or its shards);
            with `pickles` also PyTorch's own files, which are opened in a child process.
        trained_size: height and width in pixels that the weights were made for, where the caller
            knows it.
    Raises:
        WeightsError: there are no weights, or a file is damaged or of an unknown kind.
    """
    if path.is_dir():
        return _open_folder(path, pickles, trained_size)
    if path.suffix == ".safetensors":
        own = _parse(read_metadata(path).get(OWN_KEY, "{}"), path)
        return Source(str(path), read_tensors(path), own=own, trained_size=trained_size)
    if path.suffix == ".npz":
        own = _read_json(path.with_suffix(".json"))
        return Source(str(path), read_npz(path), own=own, trained_size=trained_size)
    if path.suffix in PICKLES:
        return Source(str(path), _unpickle(path, pickles), trained_size=trained_size)
    what = "no such file or folder" if not path.exists() else "not a weights file"
    raise WeightsError(
        f"{path}: {what}; give a folder, a .safetensors or a .npz file (a .pth by vitrail convert)"
    )


def _open_folder(path: Path, pickles: bool, trained_size: tuple[int, int] | None) -> Source:
    single, index = path / "model.safetensors", path / "model.safetensors.index.json"
    own: Mapping[str, Any] = {}
    if single.exists():
        tensors = read_tensors(single)
        own = _parse(read_metadata(single).get(OWN_KEY, "{}"), single)
    elif index.exists():
        tensors = _read_shards(path, index)
    elif (path / "pytorch_model.bin").exists():
        tensors = _unpickle(path / "pytorch_model.bin", pickles)
    else:
        raise WeightsError(
            f"{path}: no weights here; a folder needs model.safetensors "
            "(and model.json or config.json beside it)"
        )
    return Source(
        str(path),
        tensors,
        _read_json(path / "config.json"),
        _read_json(path / "preprocessor_config.json"),
        own,
        trained_size,
    )


def _read_shards(path: Path, index: Path) -> dict[str, Tensor]:
    """Read the files that an index names; a name that leads out of the folder is refused."""
    files = _read_json(index).get("weight_map")
    if not isinstance(files, dict) or not files:
        raise WeightsError(f"{index}: has no weight_map")
    tensors: dict[str, Tensor] = {}
    for name in sorted({str(each) for each in files.values()}):
        if name != Path(name).name or not name.endswith(".safetensors"):
            raise WeightsError(f"{index}: {name!r} is not a safetensors file in this folder")
        tensors |= read_tensors(path / name)
    return tensors


def _unpickle(path: Path, allowed: bool) -> dict[str, Tensor]:
    if allowed or not path.exists():
        return read_pickle(path)
    raise WeightsError(
        f"{path}: this kind of file can hold code; make it safe once by: "
        f"vitrail convert {path} DIR --to vitrail"
    )


def _read_json(path: Path) -> Mapping[str, Any]:
    """Read a JSON object; an absent file is an empty one. Raises WeightsError."""
    try:
        return _parse(path.read_bytes(), path)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror or error}") from None


def _parse(text: str | bytes, path: Path) -> Mapping[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(values, dict):
        raise WeightsError(f"{path}: must hold a JSON object")
    return values
