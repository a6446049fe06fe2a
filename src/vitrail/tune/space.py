"""What is searched: the settings, their ranges, and the trainings that they make."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from vitrail.config import Config
from vitrail.data.augmentation.policies import AUGREG
from vitrail.train.config import RunConfig
from vitrail.train.learning import Count, Positive

Name = Literal["lr", "layer_decay", "weight_decay", "drop_path", "augment"]
Level = Literal["base", "none", "light1", "light2", "medium1", "medium2", "strong1", "strong2"]
Rate = Annotated[float, Field(gt=0)]
Part = Annotated[float, Field(ge=0, lt=1)]
Settings = dict[str, float | str]  # a value for each name of the space

REACH = 30.0  # the learning rate is searched so many times below and above the base's
DIGITS = 4  # of a value that is tried: more would only make commands long


class SearchConfig(Config):
    """How settings are searched, over those of a base."""

    trials: Positive = 20
    """Trainings in all; the first has the settings of the base."""
    hours: Annotated[float, Field(gt=0)] | None = None
    """No further trial begins after so many hours of trials."""
    epochs_each: Annotated[float, Field(gt=0)] | None = None
    """Passes of each trial, with its whole schedule; None: as many as the base has."""
    halvings: Annotated[Count, Field(le=6)] = 2
    """How often a trial must be among the better half before its end: 2 asks after a quarter and
    after half of its steps; 0 trains every trial to its end."""
    over: tuple[Name, ...] = ()
    """Which settings are searched; empty: all, but layer_decay only where training begins with
    weights."""
    lr: tuple[Rate, Rate] | None = None
    """Lowest and highest learning rate; None: a thirtieth of the base's to thirty times it."""
    layer_decay: tuple[Rate, Annotated[float, Field(le=1)]] = (0.5, 1.0)
    """Lowest and highest factor of the learning rate from a block to the one before it."""
    weight_decay: tuple[Annotated[float, Field(ge=0)], Rate] = (0.0, 0.3)
    """Lowest and highest weight decay."""
    drop_path: tuple[Part, Part] = (0.0, 0.3)
    """Lowest and highest chance to leave out a residual branch of the last block."""
    augment: tuple[Level, ...] = ("base", "none", "light2", "medium1", "strong1")
    """Which augmentations: levels of AugReg, or that of the base."""

    @model_validator(mode="after")
    def _check(self) -> "SearchConfig":
        for name in ("lr", "layer_decay", "weight_decay", "drop_path"):
            ends = getattr(self, name)
            if ends is not None and not ends[0] < ends[1]:
                raise ValueError(f"{name}={ends} must go from the smaller to the larger")
        if len(set(self.augment)) < max(1, len(self.augment)):
            raise ValueError(f"augment={self.augment} must name levels, each once")
        return self


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, alike in steps or, with `log`, in factors."""

    low: float
    high: float
    log: bool = False

    def holds(self, value: float | str) -> bool:
        """Whether a value is one of these."""
        return not isinstance(value, str) and self.low <= value <= self.high

    def tidy(self, value: float) -> float:
        """Round a value to few digits, inside the range."""
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)


@dataclass(frozen=True)
class Choice:
    """One of some names."""

    options: tuple[str, ...]

    def holds(self, value: float | str) -> bool:
        """Whether a value is one of these."""
        return value in self.options


Space = dict[str, Range | Choice]


def make_space(search: SearchConfig, base: RunConfig) -> Space:
    """Give what is searched, by name."""
    lr = search.lr or (base.train.lr / REACH, base.train.lr * REACH)
    whole: Space = {
        "lr": Range(*lr, log=True),
        "layer_decay": Range(*search.layer_decay),
        "weight_decay": Range(*search.weight_decay),
        "drop_path": Range(*search.drop_path),
        "augment": Choice(search.augment),
    }
    return {name: whole[name] for name in search.over or _sensible(base)}


def _sensible(base: RunConfig) -> list[str]:
    """List what is searched unless the user says it: fresh weights have no layers to spare."""
    return [name for name in get_args(Name) if name != "layer_decay" or base.weights.source]


def settings_of(base: RunConfig, space: Space) -> Settings:
    """Give the base's own values of what is searched. Raises ModelError."""
    sizes = base.model.resolve(2, base.input.channels)  # any classes: only drop_path is wanted
    values: dict[str, Any] = {**dict(base.train), "drop_path": sizes.drop_path, "augment": "base"}
    return {name: values[name] for name in space}


def apply(base: RunConfig, settings: Settings) -> RunConfig:
    """Give the base with other values."""
    changes: dict[str, Any] = dict(settings)
    model, augment = base.model, base.augment
    if "drop_path" in changes:
        model = model.replace(drop_path=changes.pop("drop_path"))
    level = changes.pop("augment", "base")
    if level != "base":
        augment = augment.replace(**AUGREG[level])
    return base.replace(train=base.train.replace(**changes), model=model, augment=augment)
