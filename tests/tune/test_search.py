import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.train.helpers import paint, tiny_config, weights
from tests.tune.conftest import SEARCH
from tests.tune.helpers import assert_same_search, finish, known
from vitrail.errors import ConfigError, DataError, DivergedError, ModelError, RunError
from vitrail.runs import Run
from vitrail.train import loop
from vitrail.train.config import RunConfig
from vitrail.train.loop import resume
from vitrail.tune.journal import Journal
from vitrail.tune.search import Search, begin, in_better_half, marks, reopen, trial_config
from vitrail.tune.space import SearchConfig, apply

Crash = ZeroDivisionError


def test_every_trial_is_an_ordinary_run(unbroken: Search, tmp_path: Path) -> None:
    trials = unbroken.journal.ended()
    assert [trial.number for trial in trials] == [0, 1, 2, 3, 4]
    assert {trial.end for trial in trials} == {"finished", "stopped early"}
    for trial in trials:
        run = Run.open(unbroken.folder(trial.number))
        recorded = RunConfig.parse(run.read_json("config.json"), "config.json")
        assert recorded.train.lr == trial.settings["lr"]
        assert recorded.train.epochs == 1.5  # a whole schedule, also of one that was ended early
        measured = {line["step"]: line["val_top1"] for line in run.history() if "val_top1" in line}
        assert measured == trial.scores
        assert (run.path / "finished.json").exists() == (trial.end == "finished")
    early = next(trial for trial in trials if trial.end == "stopped early")
    assert early.scores.keys() == {4}
    shutil.copytree(unbroken.folder(early.number), tmp_path / "copy")
    assert resume(tmp_path / "copy").read_json("finished.json")["steps"] == 8


def test_the_first_trial_is_the_base(unbroken: Search, base: RunConfig) -> None:
    first = unbroken.journal.trials[0]
    assert apply(base, first.settings) == base
    short = base.replace(train=base.train.lasting(1.5))
    alone = weights(loop.train(short, unbroken.path.parent / "alone"))
    mine = weights(Run.open(unbroken.folder(0)))
    assert [name for name in alone if not alone[name].equal(mine[name])] == []


def test_the_best_is_a_whole_configuration(unbroken: Search, base: RunConfig) -> None:
    best = unbroken.best()
    assert best is not None and best.end == "finished"
    finished = [trial for trial in unbroken.journal.ended() if trial.end == "finished"]
    assert best.score == max(trial.score or 0.0 for trial in finished)
    assert best.number == min(each.number for each in finished if each.score == best.score)
    written = json.loads((unbroken.path / "best.json").read_bytes())
    config = RunConfig.parse(written, "best.json")
    assert config.train.epochs == base.train.epochs  # not that of a trial
    assert (config.keep_checkpoints, config.eval_every_epochs) == (2, base.eval_every_epochs)
    assert config.train.lr == best.settings["lr"]


def crash_in_step(number: int, patch: pytest.MonkeyPatch) -> None:
    """Crash in a step, counted over all trials."""
    calls, real = iter(range(10**6)), loop.lr_at

    def lr_at(*args: Any) -> float:
        if next(calls) == number:
            raise Crash
        return real(*args)

    patch.setattr(loop, "lr_at", lr_at)


def crash_before_line(number: int, patch: pytest.MonkeyPatch) -> None:
    """Crash before a line of the journal is written."""
    calls, real = iter(range(10**6)), Journal._add

    def add(self: Journal, line: dict[str, Any]) -> Any:
        if next(calls) == number:
            raise Crash
        return real(self, line)

    patch.setattr(Journal, "_add", add)


def crash_after_line(number: int, patch: pytest.MonkeyPatch) -> None:
    """Crash after a line of the journal is written."""
    calls, real = iter(range(10**6)), Journal._add

    def add(self: Journal, line: dict[str, Any]) -> Any:
        trial = real(self, line)
        if next(calls) == number:
            raise Crash
        return trial

    patch.setattr(Journal, "_add", add)


@pytest.mark.parametrize(
    ("crash", "numbers"),
    [
        (crash_in_step, (0, 3, 4, 21)),
        (crash_before_line, (0, 1, 3, 4)),
        (crash_after_line, (0, 1, 4, 8)),
    ],
)
def test_a_crash_at_any_moment_changes_no_trial(
    crash: Callable[[int, pytest.MonkeyPatch], None],
    numbers: tuple[int, ...],
    base: RunConfig,
    unbroken: Search,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    search = begin(base, SEARCH, tmp_path / "search")
    for number in numbers:  # over and over, each time counted from there
        with monkeypatch.context() as patch, pytest.raises(Crash):
            crash(number, patch)
            finish(search)
        search = reopen(tmp_path / "search")
    finish(search)
    assert_same_search(search, unbroken)


def test_what_is_finished_is_not_run_again(
    unbroken: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash_in_step(0, monkeypatch)
    again, best = reopen(unbroken.path), unbroken.path / "best.json"
    before = best.read_bytes()
    best.unlink()  # as if it was killed just before it wrote this
    assert finish(again) == []
    assert again.journal.trials == unbroken.journal.trials
    assert best.read_bytes() == before


def test_more_trials_begin_as_the_longer_search_would(base: RunConfig, tmp_path: Path) -> None:
    quick = SearchConfig(trials=2, epochs_each=0.2, halvings=0)
    short, long = begin(base, quick, tmp_path / "short"), quick.replace(trials=3)
    finish(short)
    finish(begin(base, long, tmp_path / "long"))
    extended = reopen(tmp_path / "short", trials=3)
    assert [trial.number for trial in finish(extended)] == [2]
    assert_same_search(extended, reopen(tmp_path / "long"))
    assert reopen(tmp_path / "short").search.trials == 3


def test_no_trial_begins_after_the_hours(base: RunConfig, tmp_path: Path) -> None:
    quick = SearchConfig(trials=9, hours=1e-9, epochs_each=0.2, halvings=0)
    search = begin(base, quick, tmp_path / "search")
    assert len(finish(search)) == 1
    assert finish(reopen(search.path)) == []
    assert reopen(search.path, trials=2, hours=5.0).search.hours == 5
    assert len(finish(reopen(search.path))) == 1


def test_a_trial_that_diverged_is_not_the_end(
    base: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = loop.train

    def train(config: RunConfig, out: Path, **how: Any) -> Run:
        if out.name != "0001":
            raise DivergedError("step 3: loss or gradient is nan")
        return real(config, out, **how)

    monkeypatch.setattr(loop, "train", train)
    quick = SearchConfig(trials=3, epochs_each=0.2, halvings=0)
    search = begin(base, quick, tmp_path / "search")
    assert [trial.end for trial in finish(search)] == ["diverged", "finished", "diverged"]
    best = search.best()
    assert best is not None and best.number == 1
    assert known(reopen(search.path)) == known(search)


def test_the_worse_half_is_ended_early() -> None:
    assert in_better_half(0.1, [])
    assert not in_better_half(0.1, [0.2]) and in_better_half(0.2, [0.1])
    assert in_better_half(0.2, [0.1, 0.3])  # the middle one
    assert not in_better_half(0.2, [0.1, 0.3, 0.4])
    assert in_better_half(0.5, [0.5] * 9)  # equals go on: nothing speaks against them


@pytest.mark.parametrize("images", [3, 42, 43, 1000])
@pytest.mark.parametrize("halvings", [0, 1, 2, 3])
def test_trials_are_judged_where_they_are_measured(
    images: int, halvings: int, base: RunConfig
) -> None:
    config = trial_config(base, SearchConfig(halvings=halvings, epochs_each=8))
    found = marks(config, images, halvings)
    assert found == sorted(set(found)) and len(found) <= halvings + 1
    every = marks(config.replace(train=config.train.lasting(config.eval_every_epochs)), images, 0)
    assert all(step % every[0] == 0 for step in found[:-1])
    if images == 1000:
        wanted = [1000 / 2**times for times in range(halvings, -1, -1)]
        assert found == pytest.approx(wanted, abs=2)  # steps; measurements are whole steps apart


def test_the_steps_are_those_of_the_training(unbroken: Search) -> None:
    run = Run.open(unbroken.folder(0))
    assert unbroken.marks == [4, 8]
    assert run.read_json("finished.json")["steps"] == unbroken.steps


def test_what_cannot_be_searched_leaves_nothing(base: RunConfig, tmp_path: Path) -> None:
    unknown = base.replace(model=base.model.replace(name="vit_tinny"))
    with pytest.raises(ModelError, match="no such model"):
        begin(unknown, SEARCH, tmp_path / "search")
    nowhere = base.replace(data=base.data.replace(source=str(tmp_path / "nothing")))
    with pytest.raises(DataError, match="no such file or folder"):
        begin(nowhere, SEARCH, tmp_path / "search")
    assert not (tmp_path / "search").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(RunError, match="exists and is not an empty folder"):
        begin(base, SEARCH, tmp_path / "full")


def test_what_cannot_be_gone_on_with(unbroken: Search, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a search"):
        reopen(tmp_path)
    with pytest.raises(RunError, match="not a search"):
        reopen(unbroken.folder(0))
    with pytest.raises(ConfigError, match=r"search.json: trials=0"):
        reopen(unbroken.path, trials=0)
    photos = paint(tmp_path / "photos", each=4)
    search = begin(tiny_config(photos), SEARCH, tmp_path / "search")
    for folder in photos.iterdir():
        (folder / "0.png").unlink()
    with pytest.raises(RunError, match="training images, and were"):
        reopen(search.path)
