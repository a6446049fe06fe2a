from typing import Any

import pytest

from tests.plan.helpers import MIB, forecast, round_of, settings
from vitrail.plan.suggest import Suggestion, suggest
from vitrail.recipes import RECIPES
from vitrail.train.learning import WeightsConfig

HOUR = 3600
EPOCH = 1000 / 32 * 0.356 + 0.01 * 100 / 5  # seconds: steps, and a fifth of a validation


def ask(hours: float | None = None, **changes: Any) -> Suggestion:
    return suggest(forecast(**changes), hours)


def test_recipes_are_those_there_are() -> None:
    weights = settings(weights=WeightsConfig(source="hf://some/model"))
    letters = settings()
    letters = letters.replace(data=letters.data.replace(source="glyphs"))
    found = [suggest(forecast(each), None).recipe for each in (weights, letters, settings())]
    assert found == ["finetune", "glyphs", "photos"]
    assert set(found) <= set(RECIPES)


def test_few_images_without_weights_are_told_of_weights() -> None:
    few, many = ask(), ask(train_images=10**6)
    assert any("--weights" in line for line in few.why)
    assert not any("--weights" in line for line in many.why)


def test_nothing_is_changed_where_all_is_well() -> None:
    assert ask().settings == {}


@pytest.mark.parametrize(
    ("free", "setting"), [(2000, {"train.accumulate": "4"}), (300, {})], ids=["parts", "nothing"]
)
def test_what_does_not_fit_is_made_to(free: int, setting: dict[str, str]) -> None:
    found = suggest(forecast(settings(256), free=free * MIB), None)
    assert found.settings == setting


def test_a_batch_that_cannot_be_cut_gets_smaller() -> None:
    heavy = [round_of(each, peak=400 * MIB + each * 100 * MIB) for each in (4, 8)]
    found = suggest(forecast(settings(7), *heavy, image_bytes=99 * MIB, free=1000 * MIB), None)
    assert found.settings == {"train.batch_size": "4"}


def test_workers_are_suggested() -> None:
    reading = [round_of(each, wait=0.02 * each) for each in (4, 8, 32)]
    assert suggest(forecast(settings(), *reading), None).settings == {"data.workers": "2"}


def test_time_that_suffices_changes_nothing() -> None:
    found = ask(hours=11 * EPOCH / HOUR)
    assert found.settings == {} and "10 passes take" in found.why[-1]
    assert "would do for" not in found.why[-1]
    assert "would do for 38" in ask(hours=40 * EPOCH / HOUR).why[-1]


def test_time_that_does_not_suffice_cuts_the_passes() -> None:
    found = ask(hours=6.4 * EPOCH / HOUR)  # of which 5 % are left
    assert found.settings == {"train.epochs": "6"}
    assert "6.1 fit in" in found.why[-1]


def test_very_few_passes_ask_for_less_work() -> None:
    found = ask(hours=0.5 * EPOCH / HOUR)
    assert found.settings == {"train.epochs": "1"}
    assert "--image-size" in found.why[-1]
