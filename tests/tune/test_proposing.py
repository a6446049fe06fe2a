import importlib.util
import math
import random
import sys

import numpy as np
import pytest

from tests.tune.helpers import tried
from vitrail.errors import ConfigError
from vitrail.tune.journal import Trial
from vitrail.tune.proposing import propose, require_optuna
from vitrail.tune.space import Choice, Range, Space

SPACE: Space = {
    "lr": Range(1e-5, 1e-1, log=True),
    "weight_decay": Range(0.0, 0.3),
    "augment": Choice(("base", "none", "light2")),
}


def score(lr: float) -> float:
    """Give the best score, 1, at a learning rate of 1e-3."""
    return 1 / (1 + math.log10(lr / 1e-3) ** 2)


def searched(seed: int, trials: int) -> list[Trial]:
    space, done = {"lr": SPACE["lr"]}, [tried(0, 1e-5, score(1e-5))]
    for number in range(1, trials):
        lr = propose(space, done, seed, number)["lr"]
        assert isinstance(lr, float)
        done.append(tried(number, lr, score(lr)))
    return done


def test_a_proposal_depends_on_seed_number_and_trials_alone() -> None:
    before = [
        tried(i, 10 ** -(i / 3 + 1), i / 10, weight_decay=0.1, augment="none") for i in range(9)
    ]
    first = propose(SPACE, before, 3, 9)
    random.seed(99)
    np.random.seed(99)  # nothing of the process may matter
    assert propose(SPACE, before, 3, 9) == first
    others = [propose(SPACE, before, 4, 9), propose(SPACE, before, 3, 10)]
    assert first not in others
    assert list(first) == list(SPACE)
    assert all(part.holds(first[name]) for name, part in SPACE.items())


def test_later_trials_are_better_than_the_first() -> None:
    for seed in range(3):
        scores = [trial.score or 0.0 for trial in searched(seed, 24)]
        assert max(scores) > 0.95
        assert np.mean(scores[-8:]) > np.mean(scores[1:7]) + 0.1


def test_what_diverged_is_avoided() -> None:
    space, done = {"lr": SPACE["lr"]}, [tried(0, 1e-3, 0.5)]
    for number in range(1, 24):
        lr = propose(space, done, 0, number)["lr"]
        assert isinstance(lr, float)
        end = "diverged" if lr > 1e-2 else "finished"
        done.append(tried(number, lr, 0.5 + score(lr) / 10, end))
    assert [trial.end for trial in done[-8:]].count("diverged") <= 1
    assert [trial.end for trial in done].count("diverged") >= 1  # they do count: it was tried


def test_trials_outside_the_ranges_and_ended_early_are_taken() -> None:
    before = [
        tried(0, 5.0, 0.9, weight_decay=0.1, augment="base"),  # the base's own
        tried(1, 1e-2, 0.1, "stopped early", weight_decay=0.1, augment="none"),
        tried(2, 1e-3, 0.0, "diverged", weight_decay=0.1, augment="light2"),
    ]
    settings = propose(SPACE, before, 0, 3)
    assert all(part.holds(settings[name]) for name, part in SPACE.items())


def test_one_line_says_how_to_get_optuna(monkeypatch: pytest.MonkeyPatch) -> None:
    require_optuna()
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'vitrail\[tune\]'"):
        require_optuna()
