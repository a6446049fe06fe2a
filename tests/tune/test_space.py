from typing import get_args

import pytest
from pydantic import ValidationError

from vitrail.config import describe
from vitrail.data.augmentation.policies import AUGREG
from vitrail.train.config import RunConfig
from vitrail.train.learning import WeightsConfig
from vitrail.tune.space import (
    Choice,
    Level,
    Range,
    SearchConfig,
    apply,
    make_space,
    settings_of,
)


def test_every_level_of_augreg_can_be_searched() -> None:
    assert set(get_args(Level)) == {"base", *AUGREG}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"lr": (1e-2, 1e-4)}, "lr=(0.01, 0.0001) must go from the smaller to the larger"),
        ({"drop_path": (0.1, 0.1)}, "drop_path=(0.1, 0.1) must go from"),
        ({"layer_decay": (0.5, 1.5)}, "layer_decay.1=1.5"),
        ({"lr": (0, 1)}, "lr.0=0"),
        ({"augment": ()}, "augment=() must name levels, each once"),
        ({"augment": ("none", "none")}, "must name levels, each once"),
        ({"augment": ("weak",)}, "augment.0='weak'"),
        ({"over": ("lrr",)}, "over.0='lrr'"),
        ({"trials": 0}, "trials=0"),
        ({"halvings": 7}, "halvings=7"),
        ({"hours": 0}, "hours=0"),
    ],
)
def test_searches_that_are_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SearchConfig(**changes)
    assert reason in describe(caught.value, SearchConfig)


def test_the_learning_rate_is_searched_around_that_of_the_base(base: RunConfig) -> None:
    space = make_space(SearchConfig(), base)
    lr = space["lr"]
    assert isinstance(lr, Range) and lr.log
    assert (lr.low, lr.high) == pytest.approx((1e-4, 9e-2))
    given = make_space(SearchConfig(lr=(1e-5, 1e-3)), base)["lr"]
    assert given == Range(1e-5, 1e-3, log=True)


def test_layer_decay_is_searched_only_over_weights(base: RunConfig) -> None:
    fresh = ["lr", "weight_decay", "drop_path", "augment"]
    assert list(make_space(SearchConfig(), base)) == fresh
    tuned = base.replace(weights=WeightsConfig(source="runs/first"))
    assert list(make_space(SearchConfig(), tuned)) == [fresh[0], "layer_decay", *fresh[1:]]
    asked = SearchConfig(over=("augment", "layer_decay"), augment=("none", "light1"))
    assert make_space(asked, base) == {
        "augment": Choice(("none", "light1")),
        "layer_decay": Range(0.5, 1.0),
    }


def test_the_settings_of_the_base_change_nothing(base: RunConfig) -> None:
    space = make_space(SearchConfig(over=("lr", "layer_decay", "drop_path", "augment")), base)
    own = settings_of(base, space)
    assert own == {"lr": 3e-3, "layer_decay": 1.0, "drop_path": 0.3, "augment": "base"}
    assert apply(base, own) == base
    named = base.replace(model=base.model.replace(drop_path=None))  # the name's own
    assert settings_of(named, space)["drop_path"] == 0.0


def test_settings_are_put_where_they_belong(base: RunConfig) -> None:
    config = apply(base, {"lr": 0.01, "weight_decay": 0.2, "drop_path": 0.1, "augment": "medium2"})
    assert (config.train.lr, config.train.weight_decay, config.model.drop_path) == (0.01, 0.2, 0.1)
    assert {name: getattr(config.augment, name) for name in AUGREG["medium2"]} == AUGREG["medium2"]
    assert config.augment.rotate == base.augment.rotate  # not a part of AugReg
    rest = {"train", "model", "augment"}
    assert config.model_dump(exclude=rest) == base.model_dump(exclude=rest)


def test_values_are_short_and_stay_inside() -> None:
    part = Range(0.00012345678, 0.98765432, log=True)
    assert part.tidy(0.0123456789) == 0.01235
    assert part.tidy(part.low) == 0.0001235
    assert part.tidy(part.high) == part.high  # 0.9877 would lie outside
    assert part.holds(part.low) and not part.holds(1.0) and not part.holds("none")
    assert Choice(("none",)).holds("none") and not Choice(("none",)).holds("base")
