"""Searches compared bit for bit, and trials made up."""

from typing import Any

from tests.train.helpers import assert_same_run, curve
from vitrail.runs import Run
from vitrail.tune.journal import End, Trial
from vitrail.tune.search import Search


def finish(search: Search) -> list[Trial]:
    """Run what is left; give the trials that ended now."""
    return [trial for trial in search.run() if trial.end]


def known(search: Search) -> list[tuple[Any, ...]]:
    """Give what the search knows, without times."""
    trials = search.journal.trials.values()
    return [(trial.number, trial.settings, trial.scores, trial.end) for trial in trials]


def assert_same_search(search: Search, other: Search) -> None:
    """Compare two searches: what they know, their best settings, and every run of theirs."""
    assert known(search) == known(other)
    best = [(each.path / "best.json").read_bytes() for each in (search, other)]
    assert best[0] == best[1]
    for trial in search.journal.ended():
        mine, theirs = (Run.open(each.folder(trial.number)) for each in (search, other))
        assert curve(mine) == curve(theirs)
        if trial.end == "finished":
            assert_same_run(mine, theirs)


def tried(number: int, lr: float, score: float, end: End = "finished", **more: Any) -> Trial:
    """Make up a trial that was judged after 4 and, at its end, 8 steps."""
    scores = {"finished": {4: score, 8: score}, "stopped early": {4: score}, "diverged": {}}
    return Trial(number, {"lr": lr, **more}, scores[end], end)
