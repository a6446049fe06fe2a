"""Named tensors in safetensors files; nothing in them is ever executed."""

from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from vitrail.errors import WeightsError
from vitrail.files import write_atomic


def tensor_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Serialise tensors; equal tensors give equal bytes."""
    ready = {name: tensor.detach().contiguous().cpu() for name, tensor in sorted(tensors.items())}
    return safetensors.torch.save(ready)


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file atomically. Raises StorageError."""
    write_atomic(path, tensor_bytes(tensors))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        WeightsError: it is missing, cut short or no safetensors file.
    """
    try:
        return safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file") from None
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{path}: not a whole safetensors file ({error})") from None


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
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            raise WeightsError(
                f"{where}: {name} is {list(tensor.shape)}, the model has {list(own[name].shape)}"
            )
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise WeightsError(f"{where}: {name} holds values that are not finite")
    model.load_state_dict(dict(tensors))
