"""What a person sees while a model trains."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vitrail.errors import printable


class Display:
    """A line that moves: steps, rate, remaining time, loss; and lasting lines above it."""

    def __init__(self, progress: Progress, steps: int, first: int) -> None:
        """Use `display` instead."""
        self._progress = progress
        self._task = progress.add_task("train", total=steps, completed=first, figures="")

    def step(self, done: int, figures: Mapping[str, float]) -> None:
        """Show that `done` steps are done, and the newest figures, if there are new ones."""
        if "train_loss" in figures:
            shown = {"loss": figures["train_loss"], "images/s": figures["images_per_second"]}
            text = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
            self._progress.update(self._task, figures=text)
        self._progress.update(self._task, completed=done)

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._progress.console.print(printable(line), markup=False, highlight=False, emoji=False)


@contextmanager
def display(
    steps: int, first: int, console: Console | None = None, *, quiet: bool = False
) -> Iterator[Display]:
    """Show a progress line on stderr while the block runs; `quiet` shows nothing."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
        console=console or Console(stderr=True, quiet=quiet),
    )
    with progress:
        yield Display(progress, steps, first)
