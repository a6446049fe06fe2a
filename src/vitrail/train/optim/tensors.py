"""What the optimisers of this package do with tensors: in parts on the ranks, in a step refused."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Partial, Replicate, distribute_tensor
from torch.distributed.tensor.placement_types import Placement


def take(target: Tensor, value: Tensor, refused: Tensor | None) -> None:
    """Give `target` a new value; where `refused` is 1.0 it keeps its bits, whatever the value is.

    Nothing is waited for.
    """
    if refused is None:
        target.copy_(value)
    else:
        torch.where(refused > 0, target, value, out=target)


def local(tensor: Tensor) -> Tensor:
    """Give the part of a tensor that this rank holds: all of it where it is not spread."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def gather(part: Tensor, parameter: Tensor) -> Tensor:
    """Make a whole tensor of the parts of the ranks, which are cut as the parameter is."""
    if not isinstance(parameter, DTensor):
        return part
    spread = DTensor.from_local(
        part,
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )
    return spread.full_tensor()


def cut(value: Tensor, parameter: Tensor) -> Tensor:
    """Give this rank's part of a tensor that all ranks hold, cut as the parameter is."""
    if not isinstance(parameter, DTensor):
        return value
    mesh, placements = parameter.device_mesh, parameter.placements
    return distribute_tensor(value, mesh, placements, src_data_rank=None).to_local()


def norms(parts: Sequence[Tensor], parameter: Tensor) -> Tensor:
    """Give the Euclidean length of each whole tensor, in one reduction over the ranks.

    Args:
        parts: what this rank holds of them; they are spread as the parameter is.
    """
    own = torch.stack([torch.linalg.vector_norm(part) for part in parts])
    if not isinstance(parameter, DTensor):
        return own
    placements: list[Placement] = [
        Partial() if each.is_shard() else Replicate() for each in parameter.placements
    ]
    squares = DTensor.from_local(own.square(), parameter.device_mesh, placements, run_check=False)
    return squares.full_tensor().sqrt()
