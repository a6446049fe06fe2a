"""Loss scaling for fp16, whose gradients would else vanish below 6e-8."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

GROWTH_STEPS = 2000  # good steps after which the scale is doubled


class Scaler:
    """A factor of the loss that is halved when gradients overflow, and doubled from time to time.

    Without fp16 it does nothing. All on the device: nothing is waited for.
    Source: Micikevicius et al. 2018, arXiv:1710.03740, section 3.2.
    """

    def __init__(self, precision: str, device: torch.device) -> None:
        """`precision` is float32, bf16 or fp16."""
        self.on = precision == "fp16"
        self.scale = torch.full((), 2.0**16, device=device)
        self.good = torch.zeros((), dtype=torch.int32, device=device)

    def scaled(self, loss: Tensor) -> Tensor:
        """Give what is differentiated."""
        return loss * self.scale if self.on else loss

    @torch.no_grad()
    def unscale(self, parameters: Iterable[nn.Parameter]) -> None:
        """Divide the gradients by the scale again."""
        if self.on:
            gradients = [each.grad for each in parameters if each.grad is not None]
            torch._foreach_mul_(gradients, 1 / self.scale)

    def update(self, overflow: Tensor, refused: Tensor) -> None:
        """Take note of a step.

        Args:
            overflow: 1.0 if its gradients overflowed, else 0.0.
            refused: 1.0 if the step changed nothing; for another reason than an overflow, it does
                not count here either.
        """
        if not self.on:
            return
        scale, good = self.scale.clone(), self.good.clone()
        torch._amp_update_scale_(self.scale, self.good, overflow, 2.0, 0.5, GROWTH_STEPS)
        uncounted = refused > overflow
        self.scale.copy_(torch.where(uncounted, scale, self.scale))
        self.good.copy_(torch.where(uncounted, good, self.good))

    def tensors(self) -> dict[str, Tensor]:
        """Give its state."""
        return {"scale": self.scale, "good": self.good} if self.on else {}
