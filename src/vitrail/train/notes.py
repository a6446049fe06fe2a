"""What a training tells of itself: figures of its last step, its pace, images that are missing."""

import math
import resource
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vitrail.checkpoints import Checkpoint
from vitrail.data.loader import Batch
from vitrail.train.display import Display
from vitrail.train.environment import conditions


class Notes:
    """Kept beside the loop. Figures are read from the device only when they are asked for."""

    def __init__(self, begun: Checkpoint | None) -> None:
        """`begun` is the checkpoint that the run goes on from; its seconds count."""
        self._before = 0.0 if begun is None else float(begun.state["seconds"])
        self._start = time.monotonic()
        self._steps = 0  # since then
        self._last: tuple[Tensor, Tensor, Mapping[str, Tensor], float] | None = None
        self._unreadable = set[str]()

    @property
    def seconds(self) -> float:
        """How long the run has taken, without the time between its processes."""
        return self._before + time.monotonic() - self._start

    def take(self, loss: Tensor, norm: Tensor, parts: Mapping[str, Tensor], lr: float) -> None:
        """Take note of a step."""
        self._last = loss, norm, parts, lr
        self._steps += 1

    def figures(self, batch_size: int) -> dict[str, float]:
        """Give the figures of the last step that are finite; the device is waited for.

        A scaled gradient may overflow, which is no event: then its length is left out.
        """
        if self._last is None:
            return {}
        loss, norm, parts, lr = self._last
        figures = {
            "train_loss": loss.item(),
            "lr": lr,
            "grad_norm": norm.item(),
            **{name: value.item() for name, value in parts.items()},
            "images_per_second": self._steps * batch_size / (time.monotonic() - self._start),
        }
        return {name: value for name, value in figures.items() if math.isfinite(value)}

    def report_unreadable(self, batch: Batch, view: Display) -> None:
        """Say once of each image that it cannot be read and is left out."""
        for key, reason in batch.failures:
            if key not in self._unreadable:
                self._unreadable.add(key)
                view.say(f"left out: {reason}")

    def of_checkpoint(self, ranks: int) -> dict[str, Any]:
        """Give what a checkpoint keeps beside its tensors."""
        return {"seconds": self.seconds, "conditions": conditions(ranks)}

    def of_run(self, device: torch.device) -> dict[str, Any]:
        """Give what is known when a run has ended."""
        return {
            "seconds": self.seconds,
            "peak_bytes": peak_bytes(device),
            "unreadable": len(self._unreadable),  # left out since the run last began
        }


def peak_bytes(device: torch.device) -> int:
    """Give the largest memory of this process so far, on the device."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024
