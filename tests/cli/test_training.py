"""How the train command puts its settings together, and the demo finds its run."""

import json
from pathlib import Path

import pytest
import torch

from tests.cli.helpers import refused
from tests.train.helpers import paint
from tests.weights.references import ready_model
from vitrail.cli import main
from vitrail.cli.demo import _free, _is_stopped, _taken
from vitrail.cli.flags import parse
from vitrail.cli.settings import adapt, take, vary
from vitrail.cli.training import TRAIN_ONLY, _read_config, compose
from vitrail.data.preprocess import Preprocess
from vitrail.data.sources import open_data
from vitrail.errors import ConfigError, UsageError
from vitrail.recipes import find_recipe
from vitrail.runs import Run
from vitrail.train.config import RunConfig
from vitrail.train.setup import set_up
from vitrail.train.team import Team
from vitrail.weights.load import load_model, save_model


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
    assert (
        set_up(asked, open_data("digits"), Team(torch.device("cpu"))).config.augment.flip is False
    )  # digits have a side


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


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a tiny model with a name, five classes and a contract of its own."""
    model = ready_model()
    model.name = "vit_tiny_patch16_224"
    model.preprocess = Preprocess(size=(32, 48), mean=(0.4, 0.5, 0.6), crop_fraction=0.9)
    folder = tmp_path_factory.mktemp("weights") / "base"
    save_model(model, folder, quiet=True)
    return folder


def compose_from(source: Path | str, *args: str) -> RunConfig:
    special, rest = take(["--data", "x", "--weights", str(source), *args], TRAIN_ONLY, "train")
    return compose(special, rest, "train", RunConfig)


def test_weights_are_the_base_that_flags_change(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(base.parent)
    config = compose_from("base")
    assert config.weights.source == str(base)
    recipe = find_recipe("finetune", "x")
    assert (config.train, config.augment) == (recipe.train, recipe.augment)
    assert (config.model.name, config.model.image_size) == ("vit_tiny_patch16_224", (32, 48))
    assert (config.model.width, config.model.drop_path) == (32, recipe.model.drop_path)
    assert (config.input.mean, config.input.crop_fraction) == ((0.4, 0.5, 0.6), 0.9)
    sizes = ["--image-size", "24", "40", "--model.drop-path", "0", "--input.crop-fraction=1"]
    changed = compose_from("base", *sizes, "--weights.head", "new", "--lora.rank", "4")
    assert (changed.model.image_size, changed.model.drop_path) == ((24, 40), 0)
    assert (changed.input.crop_fraction, changed.input.mean) == (1, (0.4, 0.5, 0.6))
    assert (changed.weights.head, changed.lora.rank) == ("new", 4)
    assert changed.weights.source == str(base)


def test_weights_take_another_recipe_and_other_channels(base: Path) -> None:
    config = compose_from(base, "--recipe", "photos")
    recipe = find_recipe("photos", "x")
    assert config.train == recipe.train and config.model.drop_path == recipe.model.drop_path
    assert (config.model.image_size, config.model.patch_size) == ((32, 48), 8)  # of the file
    grey = compose_from(base, "--input.channels", "1").input
    assert (grey.channels, grey.mean) == (1, pytest.approx(0.5))
    given = compose_from(base, "--input.channels=1", "--input.mean", "0.3").input
    assert (given.channels, given.mean, given.std) == (1, 0.3, 0.5)


def test_a_training_from_weights_can_be_given_again(base: Path, tmp_path: Path) -> None:
    config = compose_from(base, "--image-size", "24", "40")
    (tmp_path / "config.json").write_text(json.dumps(config.to_json()))
    special, rest = take(["--config", str(tmp_path), "--seed", "2"], TRAIN_ONLY, "train")
    assert compose(special, rest, "train", RunConfig) == config.replace(seed=2)


def test_fine_tuning_by_command(base: Path, tmp_path: Path) -> None:
    photos, out = paint(tmp_path / "photos"), tmp_path / "run"
    begin = ["train", "--data", str(photos), "--weights", str(base), "--device", "cpu"]
    short = ["--epochs", "1", "--batch-size", "16", "--image-size", "24", "40"]
    assert main([*begin, "--out", str(out), *short]) == 0
    assert main(["predict", str(out), str(photos / "red" / "0.png")]) == 0
    model = load_model(out, quiet=True)
    assert (model.name, model.config.image_size) == ("vit_tiny_patch16_224", (24, 40))
    again = ["--weights", str(out), "--out", str(tmp_path / "second")]  # a run of our own
    assert main(["train", "--data", str(photos), "--epochs", "1", *again]) == 0


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--model.heads", "4"], "model.heads=4: BASE has heads=2; only"),
        (["--model", "ViT-S/16"], "model.name='ViT-S/16': BASE holds vit_tiny_patch16_224; leave"),
        (["--weights.head", "keep"], "BASE: class 'blue' is not one of its 5 classes"),
        (["--weights.format", "dino"], "BASE: is of format vitrail (model.json); leave format out"),
        (["--image-size", "25", "31"], "BASE: image_size=25x31 must be a multiple of"),
        (["--lora.rank", "40"], "lora.rank=40 must be at most 32, the smaller side of blocks.0."),
        (["--lora.rank", "4", "--lora.targets", "qvk"], "lora.targets='qvk': no linear layer"),
        (["--weights", "BASE/none"], "BASE/none: no such file or folder; give a folder, a"),
        (["--weights", "BASE/model.json"], "BASE/model.json: not a weights file"),
        (["--weights", "PHOTOS"], "PHOTOS: not a trained model; it needs model.json and"),
        (["--weights", "BASE/cut.safetensors"], "BASE/cut.safetensors: not a whole safetensors"),
        (["--weights", "hf://a"], "hf://a: must be hf://owner/name or hf://owner/name@revision"),
        (["--weights", "hf://nobody/nothing"], "hf://nobody/nothing: cannot be fetched: "),
    ],
)
def test_wrong_weights_are_one_line(
    args: list[str], line: str, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = paint(tmp_path / "photos", each=4)
    (base / "cut.safetensors").write_bytes((base / "model.safetensors").read_bytes()[:999])

    def put(text: str) -> str:
        return text.replace("BASE", str(base)).replace("PHOTOS", str(photos))

    source = [] if "--weights" in args else ["--weights", str(base)]
    out = tmp_path / "run"
    given = ["train", "--data", photos, "--out", out, "--device", "cpu", *source, *map(put, args)]
    assert refused(capsys, *given).startswith(f"error: {put(line)}")
    assert not out.exists()
