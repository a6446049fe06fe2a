from typing import Any

import pytest

from tests.plan.helpers import MIB, forecast, round_of, settings
from vitrail.plan.suggest import Suggestion, suggest
from vitrail.recipes import RECIPES
from vitrail.train.learning import WeightsConfig

HOUR = 3600
EPOCH = 1000 / 32 * 0.356 + 0.01 * 100 / 5  # seconds: steps, and a fifth of a validation
START = 5 / 0.95 / HOUR  # hours


def ask(hours: float | None = None, **changes: Any) -> Suggestion:
    return suggest(forecast(**changes), hours)


@pytest.mark.parametrize(
    ("source", "data", "images", "recipe"),
    [
        ("hf://some/model", "somewhere", 1000, "finetune_few"),
        ("hf://some/model", "somewhere", 1001, "finetune"),
        ("", "glyphs", 9000, "glyphs"),
        ("", "somewhere", 9000, "photos"),
        ("", "somewhere", 10**6, "plain_vit_s16_90"),
    ],
)
def test_the_recipe_is_for_so_many_images(source: str, data: str, images: int, recipe: str) -> None:
    config = settings(weights=WeightsConfig(source=source))
    config = config.replace(data=config.data.replace(source=data))
    found = suggest(forecast(config, train_images=images), None)
    assert found.recipe == recipe and recipe in RECIPES
    assert found.why[0].startswith(f"recipe {recipe}: ")


@pytest.mark.parametrize(("images", "told"), [(1000, True), (200_000, False)])
def test_few_images_without_weights_are_told_of_weights(images: int, told: bool) -> None:
    assert any("--weights" in line for line in ask(train_images=images).why) is told


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
    found = ask(hours=START + 11 * EPOCH / HOUR)
    assert found.settings == {} and "10 passes take" in found.why[-1]
    assert "would do for" not in found.why[-1]
    assert "it would do for 38" in ask(hours=START + 40 * EPOCH / HOUR).why[-1]


def test_time_that_does_not_suffice_cuts_the_passes() -> None:
    found = ask(hours=START + 6.4 * EPOCH / HOUR)  # of which 5 % are left
    assert found.settings == {"train.epochs": "6"}
    assert "6.1 fit in" in found.why[-1]


def test_no_time_at_all_is_one_pass() -> None:
    assert ask(hours=0.0001).settings == {"train.epochs": "1"}


def test_very_few_passes_ask_for_less_work() -> None:
    found = ask(hours=START + 0.5 * EPOCH / HOUR)
    assert found.settings == {"train.epochs": "1"}
    assert "--image-size" in found.why[-1]
