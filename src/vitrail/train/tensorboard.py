"""The training curve as TensorBoard events, where tensorboard is installed (extra `track`)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Mirror:
    """Writes the figures of metrics.jsonl once more, under RUN/tb; idle without tensorboard."""

    def __init__(self, run: Path, first: int, *, idle: bool = False) -> None:
        """Events from step `first` on, left by a run that was killed, are replaced."""
        self._idle = idle
        self._folder = run / "tb"
        self._first = first
        self._writer: Any = None

    def __enter__(self) -> "Mirror":
        """Open the event file."""
        if self._idle:
            return self
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError:  # the extra is not installed; metrics.jsonl holds the same figures
            return self
        self._writer = SummaryWriter(str(self._folder), purge_step=self._first)
        return self

    def rewind(self, first: int) -> None:
        """Replace events from step `first` on: the training went back."""
        self.__exit__()
        self._first = first
        self.__enter__()

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Write one point of each curve."""
        if self._writer is not None:
            for name, value in figures.items():
                self._writer.add_scalar(name, value, step)

    def __exit__(self, *_: object) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
