"""Sees a step that went wrong before it touches the weights, without waiting for the device.

Every step is judged on the device: its loss and its gradient must be finite, and the loss no spike.
From the first bad step on all are refused, so that everything stays as it was before it, until the
host looks.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.train.learning import GuardConfig

Kind = Literal["loss", "gradient", "spike"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LOSS, GRADIENT, SPIKE = 1.0, 2.0, 3.0  # the kinds on the device; 0 is none

WARM = 20  # good losses before one can be told from a spike
MEMORY = 0.98  # of the running mean: some 50 steps
RATIO = 3.0  # a spike is more than so many times the running mean,
LOST = 0.5  # and this part of the loss at the start beyond it,
LEAST_START = 1.0  # nats; fine-tuning may start with next to none
ONE_IMAGE = 8.0  # nats; and what one image that the model is sure to be another adds to the sum
MOST_OVERFLOWS = 20  # in a row, of a scaled gradient; the scale is then 2^-20 of what it was


@dataclass(frozen=True)
class Trouble:
    """A step that went wrong. Steps count from 0; `loss` and `norm` are of all ranks together."""

    kind: Kind
    step: int
    loss: float
    norm: float
    threshold: float | None  # of a spike: what the loss is above

    def what(self) -> str:
        """Say what was seen."""
        if self.kind == "loss":
            return f"the loss is {self.loss}"
        if self.kind == "gradient":
            return f"the length of the gradient is {self.norm}"
        return f"the loss is {self.loss:.4g}, and a spike above {self.threshold:.4g}"


class Guard:
    """Watches the losses of a training and refuses bad steps. What it knows lies on the device.

    A loss is a spike when it lies above the running mean m by more than `config.spike` times the
    running mean deviation, and also above 3 m + max(s, 1) / 2 + 8 / b, where s is the mean of the
    first 20 losses and b the images of a batch. Bad steps teach it nothing.
    """

    def __init__(
        self,
        config: GuardConfig,
        device: torch.device,
        *,
        batch_size: int,
        scaled: bool = False,
    ) -> None:
        """Know no losses yet.

        Args:
            batch_size: images a step, of all ranks together.
            scaled: the loss is scaled (fp16), so that the gradient overflows now and then.
        """
        self._spike = config.spike
        self._one_image = ONE_IMAGE / batch_size
        self._scaled = scaled
        # of the good losses: mean, mean deviation, mean of the first ones, and how many there were
        self._losses = torch.zeros(4, device=device)
        self._mean, self._deviation, self._start, self._good = self._losses.unbind()
        self._overflows = torch.zeros((), device=device)  # in a row
        # the first bad step that the host has not looked at: kind, step, loss, norm, threshold
        self._seen = torch.zeros(5, dtype=torch.float64, device=device)
        self.overflow = torch.zeros((), device=device)
        """1.0 if the last step was refused for an overflow alone, which is no event."""

    @torch.no_grad()
    def watch(
        self, step: int, loss: Float[Tensor, ""], norm: Float[Tensor, ""]
    ) -> Float[Tensor, ""]:
        """Judge a step by its loss and the length of its gradient, both of all ranks.

        Returns:
            1.0 if the step must change nothing, else 0.0: what optimisers take as `found_inf`.
        """
        threshold = self._threshold()
        kind = torch.where(loss > threshold, SPIKE, 0.0)
        kind = torch.where(norm < math.inf, kind, GRADIENT)
        kind = torch.where(loss.abs() < math.inf, kind, LOSS)
        held = self._seen[0] > 0
        if self._scaled:
            borne = self._overflows < MOST_OVERFLOWS - 1
            overflow = (kind == GRADIENT) & borne & ~held
            kind = torch.where(overflow, 0.0, kind)
            self.overflow = overflow.float()
        found = torch.stack(
            [kind, torch.full_like(self._seen[0], step), loss, norm, threshold]
        )  # step makes it float64
        self._seen.copy_(torch.where(held | (kind == 0), self._seen, found))
        refused = self._seen[0].sign().float().maximum(self.overflow)
        self._learn(loss, refused)
        return refused

    def look(self) -> Trouble | None:
        """Give the first bad step since the last look, and refuse no longer; waits for the device.

        Whoever asks must deal with it: the steps after it have changed nothing either.
        """
        kind, step, loss, norm, threshold = self._seen.tolist()
        if not kind:
            return None
        self._seen.zero_()
        spike = kind == SPIKE
        return Trouble(KINDS[int(kind) - 1], int(step), loss, norm, threshold if spike else None)

    def tensors(self) -> dict[str, Tensor]:
        """Give its state; to restore it, copy into these."""
        return {"losses": self._losses, "overflows": self._overflows}

    def _threshold(self) -> Tensor:
        """Give the loss above which the next step is a spike; infinite until it is known."""
        if self._spike is None:
            return torch.full_like(self._mean, math.inf)
        unusual = torch.add(self._mean, self._deviation, alpha=self._spike)
        start = self._start.clamp_min(LEAST_START)
        large = start.mul(LOST).add(self._one_image).add(self._mean, alpha=RATIO)
        return torch.where(self._good < WARM, math.inf, unusual.maximum(large))

    def _learn(self, loss: Tensor, refused: Tensor) -> None:
        """Take a good loss into the statistics: the mean of all at first, then of the last ones."""
        weight = (self._good + 1).reciprocal().clamp_min(1 - MEMORY)
        away = torch.where(self._good > 0, (loss - self._mean).abs(), 0.0)
        mean = self._mean.lerp(loss, weight)
        deviation = self._deviation.lerp(away, weight)
        start = torch.where(self._good < WARM, mean, self._start)
        learned = torch.stack([mean, deviation, start, self._good + 1])
        self._losses.copy_(torch.where(refused > 0, self._losses, learned))
        if self._scaled:
            self._overflows.add_(self.overflow).mul_(refused)
