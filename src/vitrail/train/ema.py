"""Averaged weights, which generalise better than the last ones. Source: Polyak & Juditsky 1992."""

import copy

import torch
from torch import Tensor, nn


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
            refused: 1.0 if the step changed nothing: then neither does this; nothing is waited for.
        """
        if not self.decay:
            return
        decay = min(self.decay, (1 + step) / (10 + step))
        if refused is None or refused.device.type == "cpu":  # where looking costs nothing
            if refused is not None and refused.item():
                return
            torch._foreach_lerp_(self._average, self._source, 1 - decay)
        else:
            weight = torch.where(refused > 0, 0.0, 1 - decay)
            torch._foreach_lerp_(self._average, self._source, [weight] * len(self._average))
        for copied, buffer in self._buffers:
            copied.copy_(buffer)
