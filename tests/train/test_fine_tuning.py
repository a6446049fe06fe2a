"""Settings of a training that are taken from weights of every maker."""

from pathlib import Path
from typing import Any

import pytest

from tests.train.helpers import tiny_config
from tests.weights import test_timm as timm_models
from tests.weights import transformers_models
from tests.weights.references import ready_model
from vitrail.data.preprocess import Preprocess
from vitrail.errors import ConfigError, WeightsError
from vitrail.models import Backbone
from vitrail.recipes import find_recipe
from vitrail.train.config import InputConfig, ModelConfig, RunConfig
from vitrail.train.fine_tuning import (
    absolute_weights,
    changed_sizes,
    contract,
    read_weights,
    with_weights,
)
from vitrail.train.learning import WeightsConfig
from vitrail.weights.load import save_model

CONTRACT = {
    "resize": "squash",
    "interpolation": "bilinear",
    "crop_fraction": 0.9,
    "mean": (0.1, 0.2, 0.3),
    "std": (0.5, 0.25, 0.5),
}


def saved(folder: Path, kind: str = "vit", **contract: Any) -> Path:
    """Save a tiny model with a contract of its own."""
    model = ready_model(kind)
    model.name = "vit_tiny_patch16_224"
    values = CONTRACT | contract
    model.preprocess = Preprocess(size=model.config.image_size, **values)
    save_model(model, folder / kind, quiet=True)
    return folder / kind


def test_the_file_says_the_model_and_its_input(tmp_path: Path) -> None:
    path, base = saved(tmp_path), find_recipe("finetune", "x")
    config = with_weights(base, path)
    assert config.weights.source == str(path)
    assert config.model == ModelConfig(
        name="vit_tiny_patch16_224",
        image_size=(32, 48),
        patch_size=8,
        width=32,
        depth=2,
        heads=2,
        mlp_ratio=4.0,
        pool="token",
        registers=0,
        drop_path=base.model.drop_path,
    )
    assert config.input == InputConfig(**CONTRACT)
    assert config.replace(weights=base.weights, model=base.model, input=base.input) == base
    assert RunConfig.parse(config.to_json(), "x") == config
    assert with_weights(config, path) == config


@pytest.mark.parametrize("kind", ["swin", "resnet", "bit", "hybrid", "vit-dinov3", "vit-map"])
def test_every_kind_has_settings(kind: str, tmp_path: Path) -> None:
    path = saved(tmp_path, kind)
    config = with_weights(tiny_config("x"), path)
    foreign, _ = read_weights(config.weights)
    assert config.model.image_size == (32, 48) and config.model.drop_path == 0.3
    assert changed_sizes(config, foreign)["image_size"] == (32, 48)
    assert config.model.heads == (
        None if kind == "swin" else getattr(foreign.config, "heads", None)
    )


@pytest.mark.parametrize(
    ("model", "size"),
    [
        (ModelConfig(image_size=(64, 96)), (64, 96)),  # a recipe that says at which size to tune
        (ModelConfig(image_size=(64, 96), drop_path=0.2), (64, 96)),
        (ModelConfig(image_size=(64, 96), patch_size=4), (32, 48)),  # one that has its own model
        (ModelConfig(), (32, 48)),
    ],
)
def test_the_image_size_of_a_recipe(
    model: ModelConfig, size: tuple[int, int], tmp_path: Path
) -> None:
    config = with_weights(RunConfig(model=model), saved(tmp_path))
    assert (config.model.image_size, config.model.patch_size) == (size, 8)


def test_other_channels_average_mean_and_deviation(tmp_path: Path) -> None:
    grey = with_weights(RunConfig(), saved(tmp_path), channels=1).input
    assert (grey.channels, grey.mean, grey.std) == (1, pytest.approx(0.2), pytest.approx(1.25 / 3))
    assert grey.resize == "squash"
    bands = with_weights(RunConfig(), tmp_path / "vit", channels=5).input
    assert (bands.channels, bands.mean, bands.std) == (5, 0.5, 0.5)  # nobody knows theirs


def test_what_has_no_setting_comes_from_the_file_too(tmp_path: Path) -> None:
    path = saved(tmp_path, resize="pad", crop_fraction=1.0, pad_fill=3, max_pixels=10_000)
    config = with_weights(find_recipe("finetune", "x"), path)
    assert config.input.resize == "pad" and config.augment.crop_area is None
    given = read_weights(config.weights)[0].preprocess
    made = contract(config.input, given, (16, 24))
    assert (made.pad_fill, made.max_pixels, made.size) == (3, 10_000, (16, 24))
    assert contract(config.input, None, (16, 24)).pad_fill == Preprocess(size=(1, 1)).pad_fill
    nearest = saved(tmp_path / "nearest", interpolation="nearest")  # which training does not offer
    assert with_weights(RunConfig(), nearest).input.interpolation == "bicubic"


@pytest.mark.peer
def test_weights_of_timm_and_transformers(tmp_path: Path) -> None:
    timm_model = timm_models.reference("vit_tiny_patch16_224", img_size=(64, 96), num_classes=7)
    path = timm_models.timm_folder(timm_model, tmp_path / "timm")
    config = with_weights(RunConfig(), path)
    assert config.model.name == "vit_tiny_patch16_224"
    assert (config.model.image_size, config.model.width) == ((64, 96), 192)
    assert (config.input.mean, config.input.crop_fraction) == (0.5, 0.9)
    hugging = transformers_models.reference("dinov2")
    path = transformers_models.saved(hugging, tmp_path / "transformers")
    config = with_weights(RunConfig(), path)
    assert (config.model.image_size, config.model.layer_scale) == ((32, 32), 0.5)
    assert config.model.patch_size == 8


def refuse_sizes(path: Path, **changes: Any) -> str:
    config = with_weights(RunConfig(), path)
    config = config.replace(model=config.model.replace(**changes))
    with pytest.raises(ConfigError) as caught:
        changed_sizes(config, read_weights(config.weights)[0])
    return str(caught.value)


def test_sizes_that_weights_depend_on_cannot_change(tmp_path: Path) -> None:
    path = saved(tmp_path)
    assert refuse_sizes(path, heads=4).startswith(f"model.heads=4: {path} has heads=2; only ")
    assert "has depth=2" in refuse_sizes(path, depth=1)
    assert "has depths=None" in refuse_sizes(path, depths=(2, 2))  # a ViT has no stages
    assert "holds vit_tiny_patch16_224; leave" in refuse_sizes(path, name="vit_small_patch16_224")
    config = with_weights(RunConfig(), path)
    config = config.replace(model=config.model.replace(name="ViT-Ti/16", patch_size=4, pool="mean"))
    sizes = changed_sizes(config, read_weights(config.weights)[0])
    assert (sizes["patch_size"], sizes["pool"], sizes["in_channels"]) == (4, "mean", 3)


def test_a_model_without_a_name_is_called_so(tmp_path: Path) -> None:
    model: Backbone = ready_model()
    save_model(model, tmp_path / "base", quiet=True)
    config = with_weights(RunConfig(), tmp_path / "base")
    assert config.model.name == ""
    with pytest.raises(ConfigError, match="holds a model without a name"):
        named = config.replace(model=config.model.replace(name="vit_tiny_patch16_224"))
        changed_sizes(named, read_weights(config.weights)[0])


def test_sources_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert absolute_weights("runs/a") == str(tmp_path / "runs" / "a")
    assert absolute_weights("~/a") == str(tmp_path / "home" / "a")
    assert [absolute_weights(each) for each in ("", "hf://a/b")] == ["", "hf://a/b"]


def test_nothing_known_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    for name, match in (("none", "no such file or folder"), ("notes.txt", "not a weights file")):
        with pytest.raises(WeightsError, match=match):
            with_weights(RunConfig(), tmp_path / name)
    config = RunConfig(weights=WeightsConfig(format="tinm"))
    with pytest.raises(WeightsError, match="'tinm' is not a format"):
        with_weights(config, saved(tmp_path))
