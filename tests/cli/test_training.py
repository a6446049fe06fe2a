"""How the train command puts its settings together, and the demo finds its run."""

import json
from pathlib import Path

import pytest

from tests.train.helpers import paint
from vitrail.cli import main
from vitrail.cli.demo import _free, _is_stopped, _taken
from vitrail.cli.flags import parse
from vitrail.cli.settings import adapt, vary
from vitrail.cli.training import _read_config
from vitrail.data.sources import open_data
from vitrail.errors import ConfigError, UsageError
from vitrail.recipes import find_recipe
from vitrail.runs import Run
from vitrail.train.config import RunConfig
from vitrail.train.setup import set_up


def test_another_model_brings_its_own_sizes() -> None:
    base = find_recipe("photos", "x")
    sizes = adapt(base, ["--model.name", "ViT-S/16"]).model.resolve(3, 3).model_dump()
    assert (sizes["image_size"], sizes["patch_size"]) == ((224, 224), 16)
    assert (sizes["width"], sizes["depth"], sizes["heads"]) == (384, 12, 6)
    same = adapt(base, ["--model.name", base.model.name])
    assert same.model == base.model


def test_a_short_training_gets_a_warm_up_that_fits() -> None:
    base = find_recipe("photos", "x")
    assert adapt(base, ["--train.epochs=2"]).train.warmup_epochs == 1
    assert adapt(base, ["--train.epochs", "50"]).train.warmup_epochs == base.train.warmup_epochs
    assert adapt(base, ["--train.epochs", "-3"]) == base  # the parser refuses it


def test_config_is_a_file_or_the_folder_of_a_run(tmp_path: Path) -> None:
    config = find_recipe("digits", "digits")
    (tmp_path / "config.json").write_text(json.dumps(config.to_json()))
    assert _read_config(tmp_path) == _read_config(tmp_path / "config.json") == config
    with pytest.raises(ConfigError, match="cannot be read"):
        _read_config(tmp_path / "none.json")


def test_a_run_is_found_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paint(tmp_path / "photos")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path)
    sizes = ["--image-size", "16", "24", "--patch-size", "8", "--model.width", "32"]
    small = [*sizes, "--model.depth", "1", "--model.heads", "2", "--epochs", "1"]
    assert main(["train", "--data", "photos", "--out", "run", *small]) == 0
    monkeypatch.chdir(tmp_path / "below")
    assert main(["evaluate", "../run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["split"] == "test"


def test_what_ran_is_what_is_recorded() -> None:
    config = find_recipe("digits", "digits")
    asked = config.replace(augment=config.augment.replace(flip=True))
    assert set_up(asked, open_data("digits")).config.augment.flip is False  # digits have a side


def test_the_demo_goes_on_only_with_its_own_kind(tmp_path: Path) -> None:
    out, config = tmp_path / "demo", find_recipe("digits", "digits")
    for path in (out, tmp_path / "demo-2"):
        Run.create(path).write_json("config.json", config.to_json())
    (out / "finished.json").write_text("{}")
    assert [_is_stopped(path, config) for path in _taken(out)] == [False, True]
    assert not _is_stopped(tmp_path / "demo-2", find_recipe("glyphs", "glyphs"))
    assert _free(out) == tmp_path / "demo-3"


def test_the_demo_refuses_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--data", "photos"]) == 2
    assert "vitrail train --data photos" in capsys.readouterr().err


def test_augreg_levels_are_a_start() -> None:
    base = vary(find_recipe("photos", "x"), "medium2")
    assert (base.augment.policy, base.augment.magnitude, base.augment.mixup) == (
        "randaugment",
        15.0,
        0.5,
    )
    assert base.augment.crop_area == (0.35, 1.0)  # what the level says nothing of stays
    config = parse(RunConfig, ["--augment.mixup", "0.1"], "train", default=base)
    assert (config.augment.mixup, config.augment.magnitude) == (0.1, 15.0)
    assert vary(base, None) == base
    with pytest.raises(UsageError, match="--augreg=strong: no such level; did you mean 'strong"):
        vary(base, "strong")
