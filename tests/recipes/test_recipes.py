"""Every recipe is a whole configuration that is sure to train, and says where it comes from."""

import json
import math
import re
from pathlib import Path

import pytest

from tests.recipes.docstrings import paper, sections
from tests.train.helpers import paint_splits
from tests.weights.references import ready_model
from vitrail.cli import main
from vitrail.cli.settings import take
from vitrail.cli.training import TRAIN_ONLY, compose
from vitrail.data.loading.order import part_size
from vitrail.errors import ConfigError
from vitrail.recipes import FINE_TUNING, PRETRAINING, RECIPES, SMALL, common, find_recipe
from vitrail.recipes.common import passes
from vitrail.train.config import RunConfig
from vitrail.train.optim import lr_at
from vitrail.weights.load import save_model

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"
OF_PAPERS = [*PRETRAINING, *FINE_TUNING]


def steps_of(epochs: float, images: int, batch_size: int) -> int:
    """How many steps a training takes, as `Setup.steps_of` counts them."""
    return math.ceil(epochs * images / batch_size)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_json_and_its_model_resolves(name: str) -> None:
    config = RECIPES[name]()
    assert RunConfig.parse(json.loads(json.dumps(config.to_json())), name) == config
    assert find_recipe(name, "photos") == config
    sizes = config.model.resolve(7, config.input.channels)
    assert (sizes.classes, sizes.in_channels) == (7, config.input.channels)
    if config.model.image_size is not None:
        assert sizes.image_size == config.model.image_size
    assert config.input.preprocess(sizes.image_size).size == sizes.image_size


@pytest.mark.parametrize("name", RECIPES)
def test_its_batch_can_be_cut_for_8_ranks(name: str) -> None:
    config = RECIPES[name]()
    mixed = bool(config.augment.mixup or config.augment.cutmix)
    size = config.train.batch_size
    repeats = config.data.sampling.repeats
    assert part_size(size, 8, repeats=repeats, pairs=mixed) == size // 8


@pytest.mark.parametrize("images", [1_000, common.IMAGENET])
@pytest.mark.parametrize("name", RECIPES)
def test_its_learning_rate_rises_once_and_falls(name: str, images: int) -> None:
    train = RECIPES[name]().train
    steps, warmup = (
        max(1, steps_of(epochs, images, train.batch_size))
        for epochs in (train.epochs, train.warmup_epochs)
    )
    warmup = warmup if train.warmup_epochs else 0
    spots = {round(i * (steps - 1) / 200) for i in range(201)} | {max(0, warmup - 1)}
    rates = [lr_at(step, steps, warmup, 0, train) for step in sorted(spots)]
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1]) and min(rates) > 0
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert max(rates) == pytest.approx(train.lr, rel=0.02)


@pytest.mark.parametrize("name", RECIPES)
def test_it_measures_and_saves_before_the_end(name: str) -> None:
    config = RECIPES[name]()
    assert config.eval_every_epochs <= config.train.epochs / 4
    assert config.save_every_epochs <= config.train.epochs / 4


@pytest.mark.parametrize(
    ("name", "images", "steps", "warmup"),
    [
        ("vit_finetune_imagenet", common.IMAGENET, 20_000, 500),
        ("vit_finetune_cifar10", common.CIFAR, 10_000, 500),
        ("vit_finetune_cifar100", common.CIFAR, 10_000, 500),
        ("vit_finetune_pets", common.PETS, 500, 100),
        ("vit_finetune_flowers", common.FLOWERS, 500, 100),
        ("vit_finetune_vtab", common.VTAB_1K, 2_500, 500),
        ("vit_b16_imagenet", common.IMAGENET, 93_836, 10_000),
        ("vit_b16_imagenet21k", common.IMAGENET_21K, 311_950, 10_000),
        ("vit_l16_jft300m", common.JFT_300M, 1_035_645, 10_000),
        ("plain_vit_s16_90", common.IMAGENET, 112_603, 10_000),
        ("augreg_b16_imagenet21k", common.IMAGENET_21K, 1_039_829, 10_000),
    ],
)
def test_passes_are_the_steps_of_the_paper(name: str, images: int, steps: int, warmup: int) -> None:
    train = RECIPES[name]().train
    assert steps_of(train.warmup_epochs, images, train.batch_size) == warmup
    assert abs(steps_of(train.epochs, images, train.batch_size) - steps) <= 1


@pytest.mark.parametrize(
    ("name", "optimizer", "batch", "lr", "decay", "clip"),
    [
        ("vit_b16_jft300m", "adamw", 4096, 8e-4, 0.1, None),
        ("vit_l16_jft300m", "adamw", 4096, 4e-4, 0.1, None),
        ("vit_h14_jft300m", "adamw", 4096, 3e-4, 0.1, None),
        ("vit_l16_imagenet21k", "adamw", 4096, 1e-3, 0.03, None),
        ("vit_b16_imagenet", "adamw", 4096, 3e-3, 0.3, 1.0),
        ("vit_finetune_cifar10", "sgd", 512, 0.03, 0.0, 1.0),
        ("plain_vit_s16_300", "adamw", 1024, 1e-3, 0.1, 1.0),
        ("deit_b16", "adamw", 1008, 5e-4 * 1008 / 512, 0.05, None),
        ("deit3_b16", "lamb", 2016, 3e-3, 0.05, 1.0),
        ("swin_t", "adamw", 1024, 1e-3, 0.05, 5.0),
        ("resnet50_a1", "lamb", 2016, 5e-3, 0.01, None),
        ("resnet50_a3", "lamb", 2048, 8e-3, 0.02, None),
        ("resnet50_90", "sgd", 256, 0.1, 1e-4, None),
    ],
)
def test_the_optimiser_is_that_of_the_paper(
    name: str, optimizer: str, batch: int, lr: float, decay: float, clip: float | None
) -> None:
    train = RECIPES[name]().train
    assert (train.optimizer, train.batch_size, train.clip_norm) == (optimizer, batch, clip)
    assert (train.lr, train.weight_decay) == pytest.approx((lr, decay))
    assert (train.beta1, train.beta2, train.ema) == (0.9, 0.999, 0.0)


@pytest.mark.parametrize("name", RECIPES)
def test_its_docstring_says_command_and_source(name: str) -> None:
    found = sections(RECIPES[name])
    assert found["Command"].startswith("vitrail train ") and found["Source"]
    for other in re.findall(r"\b(?:as|after|from) (\w+_\w+)", " ".join(found.values())):
        assert other in RECIPES
    if name in OF_PAPERS:
        assert "%" in found["Score"] and "not run here" in found["Time"]
        assert f"--recipe {name} " in found["Command"]
        assert re.search(r"arXiv:\d{4}\.\d{5}", found["Source"])
    assert ("--weights " in found["Command"]) == (name in FINE_TUNING or "finetune" in name)


@pytest.mark.parametrize("name", [*SMALL, *PRETRAINING])
def test_its_command_is_accepted(name: str) -> None:
    words = sections(RECIPES[name])["Command"].split()[2:]
    if "--weights" in words:
        at = words.index("--weights")
        words[at : at + 2] = ["--recipe", name]  # there are none here
    special, rest = take(words, TRAIN_ONLY, "train")
    config = compose(special, rest, "train", RunConfig)
    assert config.replace(data=RECIPES[name]().data) == RECIPES[name]()


def test_the_page_lists_every_recipe() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    listed = [line.strip("| ").split(" | ") for line in lines if line.startswith("| `")]
    expected = []
    for name, recipe in RECIPES.items():
        found = sections(recipe)
        weights = "--weights" in found["Command"]
        model = "of the weights" if weights else f"`{recipe().model.name}`"
        score = found.get("Score", "depends on weights and images")
        expected.append([f"`{name}`", model, paper(found["Source"]), score])
        expected[-1].append(f"`{found['Command']}`")
    assert listed == expected


def test_the_page_turns_steps_into_passes() -> None:
    text = PAGE.read_text(encoding="utf-8")
    names = {
        "JFT-300M": common.JFT_300M,
        "ImageNet-21k": common.IMAGENET_21K,
        "ImageNet": common.IMAGENET,
        "CIFAR-10, CIFAR-100": common.CIFAR,
        "Oxford-IIIT Pets": common.PETS,
        "Oxford Flowers-102": common.FLOWERS,
        "a task of VTAB-1k": common.VTAB_1K,
    }
    for name, images in names.items():
        large, small = (f"{passes(10_000, size, images):,.3f} passes" for size in (4096, 512))
        assert f"| {name} | {images:,} | {large} | {small} |" in text


def test_an_unknown_recipe_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="deit3_s16"):
        find_recipe("deit3_s61", "photos")


TINY_VIT = ["--model.width", "32", "--model.depth", "2", "--model.heads", "2"]
TINY_VIT += ["--image-size", "16", "32", "--patch-size", "8"]
TINY_RESNET = ["--image-size", "32", "40", "--model.depths", "1", "1", "--model.width", "8"]
TINY_SWIN = ["--image-size", "32", "48", "--model.depths", "1", "1", "1", "1"]
TINY_SWIN += ["--model.width", "24", "--model.window-size", "2", "2"]


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("plain_vit_s16_90", TINY_VIT),
        ("deit_s16", TINY_VIT),
        ("deit3_b16", TINY_VIT),
        ("swin_t", TINY_SWIN),
        ("resnet50_90", TINY_RESNET),
    ],
)
def test_it_trains_on_small_pictures(name: str, sizes: list[str], tmp_path: Path) -> None:
    train(tmp_path, ["--recipe", name, *sizes])


@pytest.mark.parametrize("name", ["vit_finetune_pets", "deit3_finetune", "finetune_few"])
def test_it_fine_tunes_on_small_pictures(name: str, tmp_path: Path) -> None:
    save_model(ready_model("vit", image_size=(16, 16), patch_size=8), tmp_path / "weights")
    more = ["--weights", str(tmp_path / "weights"), "--image-size", "16", "24"]
    train(tmp_path, ["--recipe", name, *more])


def train(folder: Path, words: list[str]) -> None:
    """Take two steps on 12 pictures, by the command line."""
    paint_splits(folder / "photos")
    few = ["--epochs", "1", "--batch-size", "6", "--device", "cpu", "--precision", "float32"]
    out = folder / "run"
    code = main(["train", "--data", str(folder / "photos"), "--out", str(out), *few, *words])
    assert code == 0
    assert json.loads((out / "finished.json").read_text())["steps"] == 2
