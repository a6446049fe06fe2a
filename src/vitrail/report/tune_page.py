"""The page of a search: one HTML file that loads nothing and runs nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrail.files import write_atomic
from vitrail.report.page import render_page
from vitrail.report.text import percent, visible

Value = float | str


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One trial."""

    number: int
    settings: Mapping[str, Value]
    steps: int  # that it was trained for, at its last measurement
    score: float | None  # of its last measurement, in [0, 1]
    end: str  # finished, stopped early, diverged or under way


@dataclass(frozen=True, kw_only=True)
class TuneContent:
    """Everything that the page of a search shows."""

    title: str
    data: str
    names: Sequence[str]  # of the settings that were searched
    logarithmic: Sequence[str]  # those of them whose axis is logarithmic
    steps: int  # of a trial that is not ended early
    trials: Sequence[Tried]
    best: int | None  # its number


def write_tune_page(path: Path, content: TuneContent) -> None:
    """Write the page atomically. The same content gives the same bytes.

    Raises:
        StorageError: it cannot be written; what was there before is untouched.
    """
    write_atomic(path, render_tune(content).encode("utf-8"))


def render_tune(content: TuneContent) -> str:
    """Give the page as one HTML document."""
    return render_page("tune.html", ("report.css",), _context(content))


def _context(content: TuneContent) -> dict[str, Any]:
    """Prepare every part of the page."""
    from vitrail.report import tune_plots  # loads matplotlib only when it is needed

    ends = [trial.end for trial in content.trials]
    best = next((each for each in content.trials if each.number == content.best), None)
    return {
        "title": visible(content.title, 120),
        "data": visible(content.data, 200, keep_end=True),
        "trials": len(ends),
        "steps": f"{content.steps:,}",
        "counts": [(end, ends.count(end)) for end in dict.fromkeys(ends)],
        "best": None if best is None else _row(content, best),
        "plots": tune_plots.drawings(content),
        "names": [words(name) for name in content.names],
        "rows": [_row(content, each) for each in sorted(content.trials, key=_rank)],
    }


def _row(content: TuneContent, trial: Tried) -> dict[str, Any]:
    """Give one trial as the template shows it."""
    values = [_value(trial.settings[name]) for name in content.names]
    return {
        "number": f"{trial.number:04d}",
        "named": list(zip(map(words, content.names), values, strict=True)),
        "score": percent(trial.score),
        "steps": f"{trial.steps:,}",
        "end": trial.end,
        "best": trial.number == content.best,
    }


def _rank(trial: Tried) -> tuple[bool, float, int]:
    """Order trials: those at their end first, the best of them before the others."""
    return (trial.end != "finished", -(trial.score or 0.0), trial.number)


def words(name: str) -> str:
    """Write the name of a setting as people read it."""
    return "learning rate" if name == "lr" else visible(name.replace("_", " "), 40)


def _value(value: Value) -> str:
    return visible(value, 40) if isinstance(value, str) else f"{value:.4g}"
