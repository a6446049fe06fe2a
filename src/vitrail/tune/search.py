"""The search: trials one after the other, each an ordinary run, the worse ones ended early."""

import math
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from vitrail.data.sources import quarantined
from vitrail.errors import DataError, DivergedError, RunError
from vitrail.files import write_json
from vitrail.runs import Run
from vitrail.train import loop
from vitrail.train.config import RunConfig
from vitrail.train.data import open_training
from vitrail.train.stopping import Stopped
from vitrail.train.validate import score_of
from vitrail.tune.journal import Journal, Trial
from vitrail.tune.proposing import propose, require_optuna
from vitrail.tune.space import SearchConfig, apply, make_space, settings_of
from vitrail.tune.stopped import SearchStopped, leaving

ABOUT = "search.json"


class Search:
    """One search directory: search.json, study.jsonl, trials/0000 … and best.json."""

    def __init__(self, path: Path, base: RunConfig, search: SearchConfig, images: int) -> None:
        """Use `begin` or `reopen` instead. `images` are those that a pass has."""
        self.path = path
        self.base = base
        self.search = search
        self.space = make_space(search, base)
        self.journal = Journal(path / "study.jsonl")
        self.marks = marks(trial_config(base, search), images, search.halvings)

    @property
    def steps(self) -> int:
        """Steps of a trial that is not ended early."""
        return self.marks[-1]

    def best(self) -> Trial | None:
        """Give the best trial of those that were trained to their end; of equals the first."""
        finished = [trial for trial in self.journal.ended() if trial.end == "finished"]
        return max(finished, key=lambda trial: trial.score or 0.0, default=None)

    def folder(self, number: int) -> Path:
        """Give the run directory of a trial."""
        return self.path / "trials" / f"{number:04d}"

    def run(self) -> Iterator[Trial]:
        """Run what is left, and give a trial whenever it begins, was measured or ended.

        Raises:
            VitrailError: settings, data or disk do not allow it; nothing is lost.
            SearchStopped: a signal came; the search can be resumed.
        """
        with leaving(self.path):
            self._write_best()  # a crash may have come before it
            while (number := len(self.journal.ended())) < self.search.trials:
                if number not in self.journal.trials and self._out_of_time():
                    break
                yield from self._trial(number)
                self._write_best()

    def _write_best(self) -> None:
        """Write the best settings, at the length of the base, as `vitrail train` takes them."""
        best = self.best()
        if best is not None:
            write_json(self.path / "best.json", apply(self.base, best.settings).to_json())

    def _out_of_time(self) -> bool:
        spent = sum(trial.seconds for trial in self.journal.trials.values())
        return self.search.hours is not None and spent >= 3600 * self.search.hours

    def _trial(self, number: int) -> Iterator[Trial]:
        """Begin a trial or go on with it, up to its end."""
        trial = self.journal.trials.get(number)
        if trial is None:
            settings = settings_of(self.base, self.space)
            if number > 0:
                settings = propose(self.space, self.journal.ended(), self.base.seed, number)
            trial = self.journal.begin(number, settings)
        yield trial
        for step in self.marks:
            if step not in trial.scores:
                trial = self._reach(trial, step)
                yield trial
            if trial.end:
                return
            if step < self.steps and not self._goes_on(trial, step):
                yield self.journal.end(number, "stopped early")
                return
        yield self.journal.end(number, "finished")

    def _reach(self, trial: Trial, step: int) -> Trial:
        """Train up to a step and measure there."""
        config = apply(trial_config(self.base, self.search), trial.settings)
        path, started = self.folder(trial.number), time.monotonic()
        if not (path / "config.json").exists():
            shutil.rmtree(path, ignore_errors=True)  # killed before it was a run
        try:
            run = loop.train(config, path, again=True, until=step)
        except DivergedError:
            return self.journal.end(trial.number, "diverged", time.monotonic() - started)
        except Stopped as stopped:
            why = f"trial {trial.number:04d} {stopped}"
            raise SearchStopped(why, stopped.exit_code, self.path) from None
        score = _score_at(run, step)
        return self.journal.measured(trial.number, step, score, time.monotonic() - started)

    def _goes_on(self, trial: Trial, step: int) -> bool:
        """Whether a trial is in the better half of all that came to this step before it."""
        before = [self.journal.trials[number] for number in range(trial.number)]
        others = [each.scores[step] for each in before if step in each.scores]
        return in_better_half(trial.scores[step], others)


def begin(base: RunConfig, search: SearchConfig, out: str | Path) -> Search:
    """Make a new search directory; no trial has begun.

    Raises:
        VitrailError: settings, data or disk do not allow it.
    """
    require_optuna()
    base = loop.absolute(base)
    settings_of(base, make_space(search, base))  # an impossible model is refused before anything
    images = _images(base)
    path = Run.create(out).path
    about = {"search": search.to_json(), "base": base.to_json(), "images": images}
    write_json(path / ABOUT, about)
    return Search(path, base, search, images)


def reopen(path: str | Path, trials: int | None = None, hours: float | None = None) -> Search:
    """Open a search directory to go on where it was.

    Args:
        trials: so many in all, instead of the number that it began with.
        hours: likewise.
    Raises:
        RunError: it is none, or is damaged, or the data have changed.
        ConfigError: a number is out of range.
        DataError: the data are not there any more.
    """
    require_optuna()
    run = Run(Path(path).expanduser())
    if not (run.path / ABOUT).is_file():
        raise RunError(f"{path}: not a search (no {ABOUT}); `vitrail tune` makes one")
    about, where = run.read_json(ABOUT), str(run.path / ABOUT)
    changes = {"trials": trials, "hours": hours}
    given = {name: value for name, value in changes.items() if value is not None}
    search = SearchConfig.parse({**about["search"], **given}, where)
    base = RunConfig.parse(about["base"], where)
    images = _images(base)
    if images != about["images"]:
        raise RunError(
            f"{path}: there are {images} training images, and were {about['images']} when the "
            "search began; restore them or begin anew"
        )
    if given:
        write_json(run.path / ABOUT, {**about, "search": search.to_json()})
    return Search(run.path, base, search, images)


def trial_config(base: RunConfig, search: SearchConfig) -> RunConfig:
    """Give what all trials have in common: their length, when they are measured, what they keep."""
    if search.epochs_each is not None:
        base = base.replace(train=base.train.lasting(search.epochs_each))
    first = base.train.epochs / 2**search.halvings  # it must be measured there
    return base.replace(
        eval_every_epochs=first / math.ceil(first / base.eval_every_epochs),
        keep_checkpoints=1,
        keep_best=False,
    )


def marks(config: RunConfig, images: int, halvings: int) -> list[int]:
    """List the steps after which a trial is judged, each of which is measured; the last is its end.

    Args:
        images: of a pass.
        halvings: how often it is judged before its end, if it has so many measurements.
    """
    steps, every = (
        max(1, math.ceil(epochs * images / config.train.batch_size))
        for epochs in (config.train.epochs, config.eval_every_epochs)
    )
    wanted = [steps / 2**times for times in range(halvings, 0, -1)]
    measured = sorted({every * max(1, round(step / every)) for step in wanted})
    return [*(step for step in measured if step < steps), steps]


def in_better_half(score: float, others: Sequence[float]) -> bool:
    """Whether a score is in the better half of all; equal ones are, and the middle one is.

    Source: Jamieson and Talwalkar 2016, arXiv:1502.07943; one after the other as in ASHA, Li et al.
    2020, arXiv:1810.05934, with half instead of a third or a quarter.
    """
    better = sum(other > score for other in others)
    return better < math.ceil((len(others) + 1) / 2)


def _images(base: RunConfig) -> int:
    """Count the training images. Raises DataError."""
    left_out = quarantined(base.data.source, base.data.quarantine)
    return len(open_training(base, left_out).splits["train"])


def _score_at(run: Run, step: int) -> float:
    """Find what was measured after a step. Raises DataError."""
    lines = [line for line in run.history() if line["step"] == step]
    values = {name: value for line in lines for name, value in line.items()}
    score = score_of({name: float(values[name]) for name in values if name.startswith("val_")})
    if score is None:
        raise DataError(f"{run.path}: nothing can be measured on the val split; see its labels")
    return score
