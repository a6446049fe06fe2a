"""Faults inside a step of a training in this process: of its images, weights, loss or gradient."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from vitrail.objectives.classify import Classify
from vitrail.train import step as steps

Kind = Literal["loss", "gradient", "images", "weights", "module"]


@dataclass(frozen=True)
class Fault:
    """What goes wrong in some steps, counted from 0.

    images, weights: one value becomes `value`, and a weight stays so; loss, gradient, module (its
    output): all are multiplied by `value`.
    """

    kind: Kind
    steps: tuple[int, ...]
    value: float = math.nan
    rank: int = 0
    module: str = "blocks.1.mlp.fc1"
    once: bool = False  # only the first time that a step is computed: what cannot be reproduced


def spike(*at: int, factor: float = 10.0) -> Fault:
    """Multiply the loss, and with it the gradient."""
    return Fault("loss", at, factor)


@contextmanager
def faulty(*faults: Fault) -> Iterator[list[int]]:
    """Let these faults happen while the block runs; give the steps in which one did."""
    real_seed, real_forward = steps.seed_step, Classify.forward
    here = int(os.environ.get("RANK", 0))
    now, hit = -1, list[int]()

    def seed_step(seed: int, step: int) -> None:
        nonlocal now
        now = step
        real_seed(seed, step)

    def forward(self: Classify, images: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Any]]:
        due = [each for each in faults if now in each.steps and each.rank == here]
        due = [each for each in due if not (each.once and now in hit)]
        hit.extend([now] * bool(due))
        kinds = {each.kind: each for each in due}
        return _compute(self, images, targets, kinds, real_forward)

    steps.seed_step, Classify.forward = seed_step, forward  # type: ignore[method-assign]
    try:
        yield hit
    finally:
        steps.seed_step, Classify.forward = real_seed, real_forward  # type: ignore[method-assign]


def _compute(
    objective: Classify,
    images: Tensor,
    targets: Tensor,
    kinds: dict[Kind, Fault],
    forward: Callable[..., Any],
) -> tuple[Tensor, dict[str, Any]]:
    """Give the loss as it comes out with these faults."""
    if "images" in kinds:
        images = images.index_fill(0, torch.tensor([0]), kinds["images"].value)
    if "weights" in kinds:
        _spoil_weight(objective, kinds["weights"])
    handle = _spoil_module(objective, kinds["module"]) if "module" in kinds else None
    loss, figures = forward(objective, images, targets)
    if handle is not None:
        handle.remove()
    if "loss" in kinds:
        loss = loss * kinds["loss"].value
    if "gradient" in kinds:
        loss.register_hook(lambda gradient: gradient * kinds["gradient"].value)
    return loss, figures


def _spoil_weight(objective: Classify, fault: Fault) -> None:
    weight = _module(objective, fault).weight
    local = weight.to_local() if isinstance(weight, DTensor) else weight
    with torch.no_grad():
        local.view(-1)[0] = fault.value


def _spoil_module(objective: Classify, fault: Fault) -> Any:
    return _module(objective, fault).register_forward_hook(
        lambda *seen: seen[2] * fault.value,
        prepend=True,  # before whoever looks at it
    )


def _module(objective: Classify, fault: Fault) -> Any:
    model = getattr(objective.model, "module", objective.model)  # of DDP
    return model.get_submodule(fault.module)
