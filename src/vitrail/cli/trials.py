"""What a person sees while a search runs: a row for each trial, and a line that moves."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from vitrail.tune.journal import Trial
from vitrail.tune.search import Search

WIDTH = 13  # of a column of settings
TAIL = 4096  # bytes at the end of metrics.jsonl that hold its last line


class Newest(ProgressColumn):
    """Where the training is that runs now."""

    max_refresh = 1.0  # seconds; it is read from its metrics.jsonl

    def render(self, task: Task) -> Text:
        """Give its number, its steps and its newest loss."""
        folder: Path | None = task.fields["folder"]
        if folder is None:
            return Text("")
        line = newest_line(folder / "metrics.jsonl")
        loss = f", loss {line['train_loss']:.3f}" if "train_loss" in line else ""
        where = f"step {line.get('step', 0):.0f} of {task.fields['steps']}"
        return Text(f"trial {folder.name}: {where}{loss}")


def newest_line(path: Path) -> dict[str, float]:
    """Read the last whole line of a file that is being written; nothing if there is none."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL))
            lines = file.read().split(b"\n")
        line: dict[str, float] = json.loads(lines[-2])
    except (OSError, ValueError, IndexError):
        return {}
    return line


class View:
    """The rows, and the line below them."""

    def __init__(self, search: Search, progress: Progress) -> None:
        """Use `watching` instead."""
        self._search = search
        self._progress = progress
        self._task = progress.add_task(
            "trials", total=search.search.trials, folder=None, steps=search.steps, best=""
        )
        names = [*search.space, "score", "steps"]
        self._say("trial  " + "".join(f"{name.replace('_', ' '):<{WIDTH}}" for name in names))
        for trial in search.journal.ended():
            self.show(trial)

    def show(self, trial: Trial) -> None:
        """Print the row of a trial that has ended, and say which one runs and which is best."""
        done = self._search.journal.ended()
        if trial.end:
            self._say(row(trial, self._search.steps))
        best = self._search.best()
        self._progress.update(
            self._task,
            completed=len(done),
            folder=None if trial.end else self._search.folder(trial.number),
            best="" if best is None else f"best {best.score:.1%} ({best.number:04d})",
        )

    def _say(self, line: str) -> None:
        self._progress.console.print(line)


def row(trial: Trial, steps: int) -> str:
    """Write a trial as a row of the table."""
    values = [
        value if isinstance(value, str) else f"{value:.4g}" for value in trial.settings.values()
    ]
    score = "-" if trial.score is None else f"{trial.score:.1%}"
    done = f"{max(trial.scores, default=0)}/{steps}"
    how = "" if trial.end == "finished" else f"  {trial.end}"
    cells = "".join(f"{cell:<{WIDTH}}" for cell in (*values, score, done))
    return f"{trial.number:04d}   {cells.rstrip()}{how}"


@contextmanager
def watching(search: Search) -> Iterator[View]:
    """Show a search on stderr, as it is now, while the block runs."""
    console = Console(file=sys.stderr, soft_wrap=True, highlight=False, markup=False, emoji=False)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[best]}"),
        Newest(),
        console=console,
    )
    with progress:
        yield View(search, progress)
