"""How a model is spread over ranks, compiled, and made to keep less for the way back."""

from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from vitrail.device import DTYPES
from vitrail.models.layers import DropPath
from vitrail.train.team import Team


def residual_blocks(model: nn.Module) -> list[nn.Module]:
    """List the residual blocks of any backbone, in their order."""
    return [each for each in model.modules() if isinstance(getattr(each, "drop_path", 0), DropPath)]


def recompute_blocks(model: nn.Module) -> None:
    """Let each block keep only its input, and compute the rest again on the way back.

    Source: Chen et al. 2016, arXiv:1604.06174.
    """
    for block in residual_blocks(model):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def shard(model: nn.Module, team: Team, precision: str) -> None:
    """Give each rank a part of every matrix; a block is gathered while it computes (FSDP2).

    With bf16 or fp16 the weights travel and multiply in it; gradients are added up in float32.
    Source: Zhao et al. 2023, arXiv:2304.11277.
    """
    _join_batch_norms(model, team)
    mesh = init_device_mesh(team.device.type, (team.ranks,))
    half = None if precision == "float32" else DTYPES[precision]
    policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32)
    for block in residual_blocks(model):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    # without it, what a forward pass in evaluation gathers would outlive the next update
    fully_shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=True)


def replicate(model: nn.Module, team: Team) -> nn.Module:
    """Give each rank the whole model; gradients are averaged as they come (DDP)."""
    _join_batch_norms(model, team)
    return DistributedDataParallel(model, gradient_as_bucket_view=True)


def _join_batch_norms(model: nn.Module, team: Team) -> None:
    """Let batch norms see the images of all ranks; PyTorch can do so on GPUs only."""
    if team.device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]


def synchronising(model: nn.Module, last: bool) -> AbstractContextManager[object]:
    """Average the gradients of all ranks with the last part of a batch only."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(last)
    elif isinstance(model, DistributedDataParallel) and not last:
        return model.no_sync()
    return nullcontext()


def whole(tensor: Tensor) -> Tensor:
    """Gather a tensor from the ranks that hold parts of it; all of them must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def put(target: Tensor, value: Tensor) -> None:
    """Copy a whole tensor into one of which this rank may hold a part only; nothing is sent."""
    if isinstance(target, DTensor):
        value = value.to(target.device, target.dtype)
        value = distribute_tensor(value, target.device_mesh, target.placements, src_data_rank=None)
    target.copy_(value)
