"""Averaged weights, which generalise better than the last ones. Source: Polyak & Juditsky 1992."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vitrail.train.optim.tensors import local, take


class Ema:
    """Keeps an exponential moving average of a model's parameters.

    Buffers, such as the running statistics of batch norms, are those of the model after the last
    step: they are averages already.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """`decay` in [0, 1); with 0 the average is the model itself."""
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False).eval() if decay else model
        self.attach(model)

    def attach(self, model: nn.Module) -> None:
        """Follow the tensors that `model` and the average have now: sharding makes new ones."""
        self._source: list[Tensor] = list(model.parameters())
        self._average: list[Tensor] = list(self.model.parameters())
        self._buffers = list(zip(self.model.buffers(), model.buffers(), strict=True))

    @torch.no_grad()
    def update(self, step: int, refused: Tensor | None = None) -> None:
        """Take the weights after `step` in; early ones are forgotten faster.

        Args:
            refused: 1.0 if the step changed nothing: then this changes no bit either.
        """
        if not self.decay:
            return
        if refused is not None and refused.device.type == "cpu":  # where looking costs nothing
            if refused.item():
                return
            refused = None
        decay = min(self.decay, (1 + step) / (10 + step))
        approach(self._average, self._source, 1 - decay, refused)
        for copied, buffer in self._buffers:
            take(copied, buffer, refused)


def approach(
    averages: Sequence[Tensor], sources: Sequence[Tensor], weight: float, refused: Tensor | None
) -> None:
    """Move each average by the part `weight` of its way to its source.

    Args:
        averages, sources: of equal shapes; if they are spread over ranks, then alike.
        refused: where it is 1.0 nothing moves; nothing is waited for.
    """
    own, others = [local(each) for each in averages], [local(each) for each in sources]
    if refused is None:
        torch._foreach_lerp_(own, others, weight)
        return
    for average, source in zip(own, others, strict=True):
        take(average, average.lerp(source, weight), refused)
