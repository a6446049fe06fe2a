"""Named tensors in safetensors files; nothing in them is ever executed."""

import functools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from vitrail.errors import WeightsError, printable
from vitrail.files import write_atomic
from vitrail.weights.opening import regular_file

HEADER_LIMIT = 100_000_000  # bytes; the format's own
VALUE_LIMIT = 1_000_000  # lists, objects and commas of the header: some 100,000 tensors
METADATA = "__metadata__"


def tensor_pieces(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> Iterator[bytes | memoryview]:
    """Give the bytes of a safetensors file one after the other, so that they are never all copied.

    Equal input gives equal bytes. The library would write such a file itself, but tells neither its
    hash nor, where the disk refuses, the number of the error.

    Args:
        tensors: they must not change meanwhile.
        metadata: texts beside them.
    """
    order = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))  # so all are aligned
    header: dict[str, Any] = {METADATA: dict(sorted(metadata.items()))} if metadata else {}
    end = 0
    for name in order:
        tensor = tensors[name]
        begin, end = end, end + tensor.nbytes
        kind = _dtype_name(tensor.dtype)
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in order:
        tensor = tensors[name].detach().cpu().contiguous()
        yield tensor.reshape(-1).view(torch.uint8).numpy().data


@functools.cache
def _dtype_name(dtype: torch.dtype) -> str:
    """Ask the library how it writes a type."""
    data = safetensors.torch.save({"x": torch.empty(0, dtype=dtype)})
    return str(json.loads(data[8:])["x"]["dtype"])


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file atomically. Raises StorageError."""
    write_atomic(path, *tensor_pieces(tensors, metadata))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        WeightsError: it is missing, cut short or no safetensors file.
    """
    _read_header(path)
    try:
        return safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file") from None
    except (OSError, safetensors.SafetensorError, RuntimeError, ValueError, KeyError) as error:
        raise _damaged(path, str(error)) from None


class TensorFiles(Mapping[str, Tensor]):
    """The tensors of one safetensors file, or of several that share them; each is read when asked.

    What is given is a copy in memory: the files may be removed while it is used.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """Read the headers.

        Raises:
            WeightsError: a file is missing, cut short or no safetensors file, or two have a tensor
                of the same name.
        """
        self._files: dict[str, Any] = {}
        for path in paths:
            names = _read_header(path).keys() - {METADATA}
            if twice := sorted(names & self._files.keys()):
                raise WeightsError(f"{path}: {twice[0]!r} is in another file of the set too")
            try:
                file = safetensors.safe_open(path, framework="pt")
            except (OSError, safetensors.SafetensorError) as error:
                raise _damaged(path, str(error)) from None
            self._files |= dict.fromkeys(sorted(names), file)

    def __getitem__(self, name: str) -> Tensor:
        """Read one tensor. Raises KeyError."""
        tensor: Tensor = self._files[name].get_tensor(name)
        return tensor.clone()  # the library gives a window on the file

    def __contains__(self, name: object) -> bool:
        """Look for a name, without reading the tensor."""
        return name in self._files

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self._files)

    def __len__(self) -> int:
        """Count the tensors."""
        return len(self._files)


def read_metadata(path: Path) -> dict[str, str]:
    """Read the texts that a safetensors file has beside its tensors; often there are none.

    Raises:
        WeightsError: it is missing, cut short in its header, or no safetensors file.
    """
    texts = _read_header(path).get(METADATA, {})
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise _damaged(path, f"{METADATA} must hold texts")
    return texts


def _read_header(path: Path) -> dict[str, Any]:
    """Read the header and check what the library does not: its size as JSON, and names used twice.

    Raises:
        WeightsError: there is none.
    """
    with regular_file(path) as file:
        length = int.from_bytes(file.read(8), "little")
        if length > HEADER_LIMIT:
            raise _damaged(path, f"its header would have {length} bytes")
        data = file.read(length)
    if len(data) < max(length, 2):
        raise _damaged(path, "cut off in its header")
    if sum(data.count(mark) for mark in b"[{,") > VALUE_LIMIT:
        raise _damaged(path, f"its header lists more than {VALUE_LIMIT} values")
    try:
        header = json.loads(data.decode(), object_pairs_hook=_once)
        for name, about in header.items():
            shape = [] if name == METADATA else about["shape"]
            if len(shape) > 64 or math.prod(max(1, size) for size in shape) >= 2**63:
                raise ValueError("a shape beyond 64 axes or 2^63 values")
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from None
    except (AttributeError, TypeError, KeyError):
        raise _damaged(path, "its header has another form") from None
    return dict(header)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dictionary of a JSON object; which of two equal names counts would be a guess."""
    if len(values := dict(pairs)) < len(pairs):
        raise ValueError("a name stands there twice")
    return values


def _damaged(path: Path, why: str) -> WeightsError:
    why = printable(why)
    return WeightsError(f"{path}: not a whole safetensors file ({why[:200]})")


def fill(model: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy tensors into a model of exactly these names and shapes.

    Raises:
        WeightsError: a tensor is missing, unknown, of another shape, or holds NaN.
    """
    own = model.state_dict()
    missing, unknown = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or unknown:
        what = f"lacks {missing[0]!r}" if missing else f"has {unknown[0]!r}, which the model lacks"
        raise WeightsError(
            f"{where}: {what} ({len(missing)} missing, {len(unknown)} unknown tensors)"
        )
    ready = dict(tensors)  # of a file each is read once
    for name, tensor in ready.items():
        if tensor.shape != own[name].shape:
            raise WeightsError(
                f"{where}: {name} is {list(tensor.shape)}, the model has {list(own[name].shape)}"
            )
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise WeightsError(f"{where}: {name} holds values that are not finite")
    model.load_state_dict(ready)
