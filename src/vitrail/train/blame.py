"""A step once more, with an eye on every module: where the first value comes up that is not finite.

Nothing is left changed: neither weights, gradients and running statistics, nor the generators.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from vitrail.data.loader import Batch
from vitrail.objectives.classify import Classify
from vitrail.train.config import RunConfig
from vitrail.train.scaler import Scaler
from vitrail.train.step import backward, clip_gradients
from vitrail.train.team import Team


@dataclass
class Layer:
    """What was seen of one module's output."""

    largest: float = 0.0  # absolute value of an activation
    gradient: float = 0.0  # length of the gradient of the loss by all of it


@dataclass
class Seen:
    """What was seen while a step was computed."""

    layers: dict[str, Layer] = field(default_factory=dict)  # in the order of the forward pass
    first: str = ""  # what was the first not to be finite, and where; empty if all was
    shared: str = ""  # a gradient that was not, and may be so because of another rank

    def note(self, name: str, what: str, tensor: Tensor) -> None:
        """Look at a tensor; the first that is not finite is remembered."""
        if not self.first and not is_finite(tensor):
            self.first = f"{name} ({what})" if what else name


@dataclass(frozen=True)
class Repeated:
    """What a step gave when it was computed once more, without other ranks."""

    loss: float
    norm: float
    seen: Seen


class Alone(Team):
    """A rank without the others: what is added up over all ranks is its own."""

    def sum(self, values: Tensor) -> Tensor:
        """Give it back."""
        return values


def repeat(
    objective: Classify,
    model: nn.Module,
    batch: Batch,
    step: int,
    config: RunConfig,
    team: Team,
    scaler: Scaler,
) -> Repeated:
    """Compute a rank's part of a step once more, and look at every module.

    Of a model in parts (FSDP) all ranks must do so together; else each is by itself, and gives its
    own loss and gradient.

    Args:
        model: the model without what replicates it over the ranks.
        team: only who one is; nothing is sent.
    """
    alone = Alone(team.device, team.rank, team.ranks)
    seen = Seen()
    held, objective.model = objective.model, model
    try:
        with _restoring(model, team.device), _watching(objective, model, seen):
            loss, _ = backward(objective, batch, step, config, alone, scaler)
            norm = clip_gradients(model, None, scaler)
            _note_gradients(model, seen)
    finally:
        objective.model = held
    factor = team.ranks * (scaler.scale.item() if scaler.on else 1.0)  # of what is differentiated
    for layer in seen.layers.values():
        layer.gradient /= factor
    is_whole = not any(isinstance(each, DTensor) for each in model.parameters())
    ranks = team.ranks if is_whole else 1  # a rank's own gradient is so many times its share
    return Repeated(loss.item(), norm.item() / ranks, seen)


def is_finite(tensor: Tensor) -> bool:
    """Whether every value that this rank has of a tensor is finite."""
    local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return not local.is_floating_point() or bool(torch.isfinite(local.detach()).all())


def weights_are_finite(model: nn.Module) -> bool:
    """Whether all weights and running statistics that this rank has are finite."""
    return all(map(is_finite, (*model.parameters(), *model.buffers())))


def _note_gradients(model: nn.Module, seen: Seen) -> None:
    """Look at the gradients of the parameters, from the last one on."""
    for name, parameter in reversed(list(model.named_parameters())):
        gradient = parameter.grad
        if isinstance(gradient, DTensor):  # of all ranks together
            if not seen.shared and not is_finite(gradient):
                seen.shared = f"{name} (gradient)"
        elif gradient is not None:
            seen.note(name, "gradient", gradient)


@contextmanager
def _watching(objective: Classify, model: nn.Module, seen: Seen) -> Iterator[None]:
    """Look at the weights, the images, what each module gives out, the loss, and the way back."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        seen.note(name, "weights", tensor)
    handles = [
        model.register_forward_pre_hook(lambda _, given: seen.note("the images", "", given[0])),
        objective.register_forward_hook(lambda *a: seen.note("the loss itself", "", a[2][0])),
    ]
    handles += [
        module.register_forward_hook(_output_hook(name, seen))
        for name, module in model.named_modules()
        if name  # the model's own output is that of its head
    ]
    try:
        with torch.compiler.set_stance("force_eager"):  # hooks would have it compiled anew
            yield
    finally:
        for handle in handles:
            handle.remove()


def _output_hook(name: str, seen: Seen) -> Callable[..., None]:
    """Make a hook that looks at what a module gives out, and has its gradient looked at."""

    def look_back(gradient: Tensor) -> None:
        seen.note(name, "backward", gradient)
        layer = seen.layers[name]
        layer.gradient = math.hypot(layer.gradient, gradient.float().norm().item())

    def look(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        layer = seen.layers.setdefault(name, Layer())
        for tensor in output if isinstance(output, tuple) else (output,):
            if not isinstance(tensor, Tensor):
                continue
            seen.note(name, "forward", tensor)
            largest = tensor.detach().abs().amax().item()
            if math.isnan(largest) or largest > layer.largest:  # max() would lose a NaN
                layer.largest = largest
            if tensor.requires_grad:
                tensor.register_hook(look_back)  # type: ignore[no-untyped-call]

    return look


@contextmanager
def _restoring(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Put gradients, running statistics and generators back as they were."""
    gradients = [(each, each.grad) for each in model.parameters()]
    buffers = [(each, each.clone()) for each in model.buffers()]
    for parameter, _ in gradients:
        parameter.grad = None
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
