"""Whether a training fits into memory, judged before its first step from sizes alone."""

import math
import os
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.modules.batchnorm import _BatchNorm

from vitrail.device import autocast
from vitrail.errors import ConfigError
from vitrail.memory import free_memory
from vitrail.models import Backbone
from vitrail.scale import STATE
from vitrail.train.parallel import residual_blocks
from vitrail.train.setup import Setup
from vitrail.train.team import Team

GIB = 2**30
DOUBT = 1.5  # an estimate with activations refuses a run only so far above what is free


class Activations(NamedTuple):
    """Bytes that a forward pass leaves for the way back."""

    fixed: int  # whatever the batch, such as weights in half precision
    each: int  # for each image


class Need(NamedTuple):
    """Bytes that a training takes beside its weights. No parts of others, nothing twice."""

    gradients: int
    optimizer: int
    average: int
    activations: int  # of one part of the batch
    images: int  # of the whole batch, prepared

    @property
    def fixed(self) -> int:
        """What it takes whatever the batch."""
        return self.gradients + self.optimizer + self.average


def require_fit(setup: Setup, team: Team) -> None:
    """Refuse a training that is sure to run out of memory. Call it before `make_state`.

    It is sure where gradients, optimiser and average alone are more than what is free, or where
    they are 1.5 times as much together with the activations.

    Raises:
        ConfigError: says how much is needed and free, and what to change.
    """
    free = free_memory(team.device)
    if free is None:
        return
    need = estimate(setup, team)
    require_fixed(setup, team, need, free)
    whole = _ranks_here(team) * sum(need)
    if whole > DOUBT * free:
        raise ConfigError(
            f"train.batch_size={setup.config.train.batch_size} needs about {gibibytes(whole)}, "
            f"{gibibytes(free)} are free; {_advice(setup, need)}; `vitrail plan` knows the largest"
        )


def require_fixed(setup: Setup, team: Team, need: Need, free: int) -> None:
    """Refuse a model that no batch could be trained of in so much memory. Raises ConfigError."""
    fixed = _ranks_here(team) * need.fixed
    if fixed > free:
        raise ConfigError(
            f"model.name={setup.model.name}: gradients, {setup.config.train.optimizer} and average "
            f"need about {gibibytes(fixed)}, {gibibytes(free)} are free; take a smaller model, "
            "train.ema=0, lora.rank, or more ranks with team.strategy=fsdp"
        )


def _ranks_here(team: Team) -> int:
    """Count the ranks that share the memory of this one's device."""
    if team.device.type != "cpu":
        return 1
    return min(team.ranks, int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def _advice(setup: Setup, need: Need) -> str:
    """Say what takes less."""
    train = setup.config.train
    others = []
    if train.accumulate < train.batch_size and need.activations > need.images:
        others.append(f"train.accumulate above {train.accumulate}")
    if not setup.config.recompute and can_recompute(setup.model):
        others.append("recompute=True")
    return "lower train.batch_size" + (f", or use {' or '.join(others)}" if others else "")


def can_recompute(model: nn.Module) -> bool:
    """Whether `recompute` is allowed: the statistics of batch norms would move twice."""
    return not any(isinstance(each, _BatchNorm) for each in model.modules())


def estimate(setup: Setup, team: Team) -> Need:
    """Estimate what a training takes on this rank's device. Nothing is computed."""
    config, model = setup.config, setup.model
    parameters = list(model.parameters())
    trained = sum(each.numel() for each in parameters if each.requires_grad)
    shares = team.ranks if config.team.strategy == "fsdp" else 1
    own = math.ceil(config.train.batch_size / team.ranks)
    part = math.ceil(own / config.train.accumulate)
    one = activation_bytes(model, team.device, config.precision, recompute=config.recompute)
    return Need(
        gradients=4 * trained // shares,
        optimizer=STATE[config.train.optimizer] * trained // shares,
        average=4 * sum(map(Tensor.numel, parameters)) // shares if config.train.ema else 0,
        activations=one.fixed + part * one.each,
        images=own * image_bytes(setup),
    )


def image_bytes(setup: Setup) -> int:
    """Count the bytes of one image as the objective prepares it: float32."""
    preprocess = setup.preprocess
    return 4 * preprocess.channels * math.prod(preprocess.size)


def activation_bytes(
    model: Backbone, device: torch.device, precision: str, *, recompute: bool
) -> Activations:
    """Count what a forward pass leaves in memory for the way back.

    The model runs on tensors without content, which have sizes only; so every architecture,
    precision and frozen part is counted as it is. With `recompute`, blocks keep their inputs, and
    one of them at a time the rest.
    """
    two, three = (_saved(model, device, precision, recompute, images) for images in (2, 3))
    return Activations(fixed=max(0, 3 * two - 2 * three), each=three - two)  # one shares memory


def _saved(
    model: Backbone, device: torch.device, precision: str, recompute: bool, count: int
) -> int:
    """Count what so many images leave."""
    config = model.config
    with FakeTensorMode() as mode:
        tensors: dict[str, Tensor] = {
            name: mode.from_tensor(tensor)
            for name, tensor in [*model.named_parameters(), *model.named_buffers()]
        }
        kept = _Kept(tensors.values())
        blocks = [_Block(block, kept) for block in residual_blocks(model)] if recompute else []
        images = torch.empty(count, config.in_channels, *config.image_size, device=device)
        try:
            with (
                torch.autograd.graph.saved_tensors_hooks(kept, lambda tensor: tensor),
                autocast(device, precision),
            ):
                torch.func.functional_call(model, tensors, images)
        finally:
            for block in blocks:
                block.leave()
    inside = [block.bytes for block in blocks]
    inputs = sum(block.input for block in blocks)
    return kept.total - sum(inside) + inputs + max(inside, default=0)


class _Kept:
    """Adds up the memory of the tensors it is given, each piece of memory once."""

    def __init__(self, without: Any) -> None:
        self.total = 0
        self._seen = {tensor.untyped_storage()._cdata for tensor in without}
        self._alive: list[Any] = []  # else the next piece could have the same address

    def __call__(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen:
            self._seen.add(storage._cdata)
            self._alive.append(storage)
            self.total += storage.nbytes()
        return tensor


class _Block:
    """What a block keeps, and how large its input is, in one forward pass."""

    def __init__(self, block: nn.Module, kept: _Kept) -> None:
        self.input = self.bytes = 0
        self._kept = kept
        self._hooks = [
            block.register_forward_pre_hook(self._enter),
            block.register_forward_hook(self._end),
        ]

    def _enter(self, module: nn.Module, given: tuple[Any, ...]) -> None:
        self.input = given[0].nbytes
        self._before = self._kept.total

    def _end(self, module: nn.Module, given: tuple[Any, ...], answer: Any) -> None:
        self.bytes = self._kept.total - self._before

    def leave(self) -> None:
        for hook in self._hooks:
            hook.remove()


def gibibytes(size: int) -> str:
    """Say how much memory in words."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / 2**20:.0f} MiB"
