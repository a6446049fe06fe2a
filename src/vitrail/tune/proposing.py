"""Which settings are tried next: a function of the seed and of the trials before."""

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vitrail.data.keyed import uniform
from vitrail.errors import ConfigError
from vitrail.tune.journal import Trial
from vitrail.tune.space import Choice, Range, Settings, Space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

AT_RANDOM = 6  # trials before the first whose settings depend on the scores


def require_optuna() -> None:
    """Refuse to search without optuna. Raises ConfigError."""
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError("tune needs optuna, which is not installed: pip install 'vitrail[tune]'")


def propose(space: Space, before: Sequence[Trial], seed: int, number: int) -> Settings:
    """Choose settings for trial `number` by a tree-structured Parzen estimator.

    A sampler of its own is made for each trial, so that nothing but the trials before matters, not
    even whether the search was stopped in between.

    Args:
        space: what is searched.
        before: all trials with smaller numbers. One that diverged counts as the worst there is.
    Source: Bergstra et al. 2011, NeurIPS, "Algorithms for Hyper-Parameter Optimization"; optuna.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {name: _distribution(part) for name, part in space.items()}
    sampler = optuna.samplers.TPESampler(
        seed=int(uniform("tune", seed, 0, number, 1)[0, 0] * 2**32), n_startup_trials=AT_RANDOM
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    inside = [each for each in before if _lies_in(space, each)]  # the base may lie outside
    study.add_trials([_told(each, distributions) for each in inside])
    values = study.ask(distributions).params
    return {name: _tidy(part, values[name]) for name, part in space.items()}


def _lies_in(space: Space, trial: Trial) -> bool:
    return all(part.holds(trial.settings[name]) for name, part in space.items())


def _tidy(part: Range | Choice, value: float | str) -> float | str:
    return part.tidy(float(value)) if isinstance(part, Range) else value


def _distribution(part: Range | Choice) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if isinstance(part, Range):
        return FloatDistribution(part.low, part.high, log=part.log)
    return CategoricalDistribution(part.options)


def _told(trial: Trial, distributions: "dict[str, BaseDistribution]") -> "FrozenTrial":
    """Write a trial as optuna knows it; one that did not reach its end ranks below all that did."""
    from optuna.trial import TrialState, create_trial

    finished = trial.end == "finished"
    return create_trial(
        state=TrialState.COMPLETE if finished else TrialState.PRUNED,
        value=trial.score if finished else None,
        intermediate_values=trial.scores,
        params=trial.settings,
        distributions=distributions,
    )
