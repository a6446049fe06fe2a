import json
from typing import Any

import pytest

from tests.train.helpers import tiny_config
from vitrail.errors import ConfigError, ModelError
from vitrail.recipes import RECIPES, find_recipe
from vitrail.train.config import ModelConfig, RunConfig, checked


@pytest.mark.parametrize("name", [*RECIPES, "tiny"])
def test_settings_survive_json(name: str) -> None:
    config = tiny_config("digits") if name == "tiny" else RECIPES[name]()
    text = json.dumps(config.to_json(), allow_nan=False)
    assert RunConfig.parse(json.loads(text), "config.json") == config


def test_an_empty_file_means_the_defaults() -> None:
    assert RunConfig.parse({}, "config.json") == RunConfig()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sead": 1}, r"^x: sead: unknown setting; did you mean 'seed'"),
        ({"train": {"lrr": 1}}, r"^x: train.lrr: unknown setting; did you mean 'lr'"),
        (
            {"model": {"path_size": 8}},
            r"model.path_size: unknown setting; did you mean 'patch_size'",
        ),
        ({"data": {"fractions": {"vall": 0.1}}}, r"data.fractions.vall: unknown.* mean 'val'"),
        ({"augment": {"mixupp": 1}}, r"augment.mixupp: unknown setting; did you mean 'mixup'"),
        ({"train": {"lr": 0}}, r"^x: train.lr=0: input should be greater than 0"),
        ({"train": {"lr": "fast"}}, r"^x: train.lr='fast': input should be a valid number"),
        ({"train": {"ema": 1}}, r"train.ema=1: input should be less than 1"),
        (
            {"train": {"batch_size": 0}},
            r"train.batch_size=0: input should be greater than or equal",
        ),
        ({"train": {"lr": float("nan")}}, r"train.lr=nan: input should be a finite number"),
        (
            {"precision": "fp8"},
            r"precision='fp8': input should be 'auto', 'float32', 'bf16' or 'fp16'",
        ),
        ({"input": {"channels": 0}}, r"input.channels=0: input should be greater than or equal"),
        ({"data": {"fraction": 0.1, "per_class": 5}}, r"fraction=0.1 and per_class=5 exclude"),
        ({"keep_checkpoints": 0}, r"keep_checkpoints=0"),
        ({"seed": -1}, r"seed=-1"),
    ],
)
def test_wrong_settings_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RunConfig.parse(values, "x")


@pytest.mark.parametrize("warmup", [3, 4])
def test_the_warm_up_must_end_before_the_training(warmup: int) -> None:
    with pytest.raises(
        ConfigError, match=rf"train.warmup_epochs={warmup} must be less than train.epochs=3"
    ):
        RunConfig.parse({"train": {"epochs": 3, "warmup_epochs": warmup}}, "x")


def test_checked_changes_are_checked() -> None:
    assert checked(RunConfig(), seed=4).seed == 4
    with pytest.raises(ConfigError, match=r"log_every=0"):
        checked(RunConfig(), log_every=0)


def test_a_model_takes_the_sizes_that_are_given() -> None:
    config = ModelConfig(name="ViT-S/16", image_size=(32, 48), depth=2).resolve(7, 1)
    values = config.model_dump()
    assert (values["image_size"], values["depth"], values["width"]) == ((32, 48), 2, 384)
    assert (values["classes"], values["in_channels"], values["patch_size"]) == (7, 1, 16)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModelError, match=r"image_size=30x48 must be a multiple of patch_size=16"):
        ModelConfig(name="ViT-S/16", image_size=(30, 48)).resolve(7, 3)
    with pytest.raises(ModelError, match=r"model='ViT-X/16': no such model; did you mean"):
        ModelConfig(name="ViT-X/16").resolve(7, 3)


def test_the_recipe_fits_the_data() -> None:
    assert find_recipe(None, "digits") == RECIPES["digits"]()
    assert find_recipe(None, "some/folder") == RECIPES["photos"]()
    assert find_recipe("photos", "digits") == RECIPES["photos"]()
    with pytest.raises(ConfigError, match=r"recipe='digit': no such recipe; did you mean 'digits'"):
        find_recipe("digit", "digits")


def test_letters_and_digits_are_never_mirrored_by_their_recipes() -> None:
    assert not RECIPES["glyphs"]().augment.flip
    assert not RECIPES["digits"]().augment.flip
