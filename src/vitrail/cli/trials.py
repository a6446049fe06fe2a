"""A search as a person sees it: a row for each trial, a line that moves, the result, the page."""

import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from vitrail.cli.consoles import NOTE, OUT
from vitrail.data.remote import shown
from vitrail.errors import printable
from vitrail.report.tune_page import Tried, TuneContent, write_tune_page
from vitrail.tune.journal import Trial
from vitrail.tune.search import Search
from vitrail.tune.space import Range

WIDTH = 13  # of a column of settings
TAIL = 4096  # bytes at the end of metrics.jsonl that hold its last line


def run_search(search: Search) -> None:
    """Run what is left of a search; what its trainings say goes to a file."""
    NOTE.print(printable(f"what the trainings say: {search.path / 'log.txt'}"))
    with (
        watching(search) as view,
        open(search.path / "log.txt", "a", encoding="utf-8", errors="backslashreplace") as log,
        redirect_stderr(log),
    ):
        for trial in search.run():
            view.show(trial)
    _conclude(search)


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


def newest_line(path: Path) -> dict[str, float | int]:
    """Read the last whole line of a file that is being written; nothing if there is none."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL))
            lines = file.read().split(b"\n")
        line: dict[str, float | int] = json.loads(lines[-2])
    except (OSError, ValueError, IndexError):
        return {}
    return line


class View:
    """The rows, and the line below them."""

    def __init__(self, search: Search, progress: Progress) -> None:
        """Use `watching` instead."""
        self._search = search
        self._progress = progress
        done = search.journal.ended()
        self._task = progress.add_task(
            "trials",
            total=search.search.trials,
            completed=len(done),
            steps=search.steps,
            folder=None,
            best=best_so_far(search),
        )
        names = [*search.space, "score", "steps"]
        self._say("trial  " + "".join(f"{name.replace('_', ' '):<{WIDTH}}" for name in names))
        for trial in done:
            self._say(row(trial, search.steps))

    def show(self, trial: Trial) -> None:
        """Print the row of a trial that has ended, and say which one runs and which is best."""
        if trial.end:
            self._say(row(trial, self._search.steps))
        self._progress.update(
            self._task,
            completed=len(self._search.journal.ended()),
            folder=None if trial.end else self._search.folder(trial.number),
            best=best_so_far(self._search),
        )

    def _say(self, line: str) -> None:
        self._progress.console.print(line.rstrip())


def best_so_far(search: Search) -> str:
    """Say how good the best trial is, and which it is."""
    best = search.best()
    return "" if best is None else f"best {best.score:.1%} ({best.number:04d})"


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
        TimeRemainingColumn(),
        TextColumn("{task.fields[best]}"),
        Newest(),
        console=console,
        speed_estimate_period=math.inf,  # trials are few and long
    )
    with progress:
        yield View(search, progress)


def _conclude(search: Search) -> None:
    """Say what was found, and write the page."""
    page, best = search.path / "tune.html", search.best()
    write_tune_page(page, _content(search))
    if best is None:
        NOTE.print("no trial was trained to its end; see the log")
    else:
        settings = "  ".join(f"{name} {value}" for name, value in best.settings.items())
        OUT.print(printable(f"best: trial {best.number:04d}, {best.score:.1%}: {settings}"))
        file = search.path / "best.json"
        NOTE.print(printable(f"next: vitrail train --config {file} --out runs/best"))
    NOTE.print(printable(f"page: {page}"))


def _content(search: Search) -> TuneContent:
    """Give the page what it shows."""
    best = search.best()
    tried = [
        Tried(
            number=trial.number,
            settings=trial.settings,
            steps=max(trial.scores, default=0),
            score=trial.score,
            end=trial.end or "under way",
        )
        for trial in search.journal.trials.values()
    ]
    return TuneContent(
        title=search.path.name,
        data=shown(search.base.data.source),
        names=tuple(search.space),
        logarithmic=tuple(
            name for name, part in search.space.items() if isinstance(part, Range) and part.log
        ),
        steps=search.steps,
        trials=tried,
        best=None if best is None else best.number,
    )
