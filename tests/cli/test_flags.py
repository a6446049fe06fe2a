from pathlib import Path
from typing import Any

import pytest

from vitrail.cli.demo import run_demo
from vitrail.cli.flags import known_flags, parse
from vitrail.cli.settings import SHORT_FLAGS, lengthen
from vitrail.errors import UsageError
from vitrail.recipes import RECIPES
from vitrail.train.config import RunConfig

# A value for every setting that is not its default: flag, words on the command line, value.
VALUES: dict[str, tuple[str, Any]] = {
    "--data.source": ("photos", "photos"),
    "--data.fractions.val": ("0.2", 0.2),
    "--data.fractions.test": ("0.25", 0.25),
    "--data.fractions.seed": ("7", 7),
    "--data.quarantine": ("none", "none"),
    "--data.fraction": ("0.5", 0.5),
    "--data.per-class": ("3", 3),
    "--data.sampling.balance": ("sqrt", "sqrt"),
    "--data.sampling.weighted": ("", True),
    "--data.sampling.repeats": ("2", 2),
    "--data.no-check": ("", False),
    "--data.cache": ("ram", "ram"),
    "--data.workers": ("2", 2),
    "--model.name": ("ViT-B/16", "ViT-B/16"),
    "--model.image-size": ("16 24", (16, 24)),
    "--model.patch-size": ("8", 8),
    "--model.width": ("32", 32),
    "--model.depth": ("2", 2),
    "--model.heads": ("2", 2),
    "--model.mlp-ratio": ("3", 3.0),
    "--model.drop-path": ("0.1", 0.1),
    "--model.patch-dropout": ("0.25", 0.25),
    "--model.pool": ("mean", "mean"),
    "--model.registers": ("4", 4),
    "--model.layer-scale": ("1e-5", 1e-5),
    "--model.depths": ("1 2 3", (1, 2, 3)),
    "--model.window-size": ("4 6", (4, 6)),
    "--input.channels": ("1", 1),
    "--input.depth": ("16", 16),
    "--input.resize": ("pad", "pad"),
    "--input.interpolation": ("bilinear", "bilinear"),
    "--input.crop-fraction": ("0.9", 0.9),
    "--input.mean": ("0.4", 0.4),
    "--input.std": ("0.3 0.2 0.1", (0.3, 0.2, 0.1)),
    "--input.normalise": ("data", "data"),
    "--augment.crop-area": ("0.4 1", (0.4, 1.0)),
    "--augment.crop-aspect": ("1.5", 1.5),
    "--augment.no-flip": ("", False),
    "--augment.flip-vertical": ("", True),
    "--augment.policy": ("3-augment", "3-augment"),
    "--augment.layers": ("1", 1),
    "--augment.magnitude": ("7", 7.0),
    "--augment.magnitude-std": ("0.5", 0.5),
    "--augment.jitter": ("0.1 0.2 0.3 0.05", (0.1, 0.2, 0.3, 0.05)),
    "--augment.rotate": ("10", 10.0),
    "--augment.translate": ("0.1", 0.1),
    "--augment.scale": ("0.1", 0.1),
    "--augment.shear": ("5", 5.0),
    "--augment.warp": ("0.1", 0.1),
    "--augment.erase": ("0.1", 0.1),
    "--augment.mixup": ("0.1", 0.1),
    "--augment.cutmix": ("0.5", 0.5),
    "--train.epochs": ("9", 9.0),
    "--train.batch-size": ("8", 8),
    "--train.lr": ("1e-4", 1e-4),
    "--train.final-lr": ("0.5", 0.5),
    "--train.warmup-epochs": ("1", 1.0),
    "--train.weight-decay": ("0.3", 0.3),
    "--train.beta2": ("0.9", 0.9),
    "--train.clip-norm": ("2", 2.0),
    "--train.label-smoothing": ("0", 0.0),
    "--train.ema": ("0", 0.0),
    "--train.accumulate": ("2", 2),
    "--train.optimizer": ("lamb", "lamb"),
    "--train.schedule": ("rsqrt", "rsqrt"),
    "--train.cooldown-epochs": ("1 --train.schedule wsd", 1.0),
    "--train.layer-decay": ("0.75", 0.75),
    "--train.beta1": ("0.8", 0.8),
    "--train.momentum": ("0.9", 0.9),
    "--train.freeze": ("pos_embed blocks.0.*", ("pos_embed", "blocks.0.*")),
    "--train.freeze-depth": ("3", 3),
    "--weights.source": ("runs/first", "runs/first"),
    "--weights.head": ("new", "new"),
    "--weights.format": ("mae", "mae"),
    "--weights.trained-size": ("32 48", (32, 48)),
    "--lora.rank": ("4", 4),
    "--lora.alpha": ("8", 8.0),
    "--lora.targets": ("mlp.fc1 mlp.fc2", ("mlp.fc1", "mlp.fc2")),
    "--loss.kind": ("sigmoid", "sigmoid"),
    "--loss.focal": ("2", 2.0),
    "--loss.class-weights": ("balanced", "balanced"),
    "--loss.logit-adjustment": ("1", 1.0),
    "--guard.spike": ("20", 20.0),
    "--guard.skip": ("2", 2),
    "--guard.slow-down": ("0.3", 0.3),
    "--guard.limit": ("5", 5),
    "--guard.forgive": ("100", 100),
    "--team.strategy": ("fsdp", "fsdp"),
    "--team.timeout": ("60", 60.0),
    "--seed": ("5", 5),
    "--device": ("cpu", "cpu"),
    "--precision": ("bf16", "bf16"),
    "--log-every": ("3", 3),
    "--eval-every-epochs": ("2.5", 2.5),
    "--save-every-epochs": ("2.5", 2.5),
    "--keep-checkpoints": ("4", 4),
    "--no-keep-best": ("", False),
    "--compile": ("", True),
    "--recompute": ("", True),
}


def at(config: RunConfig, flag: str) -> Any:
    value: Any = config
    for name in flag.removeprefix("--").replace("no-", "").replace("-", "_").split("."):
        value = getattr(value, name)
    return value


def test_every_setting_is_known() -> None:
    listed = list(known_flags(RunConfig))
    assert sorted(listed) == sorted(flag.replace("no-", "") for flag in VALUES)


@pytest.mark.parametrize("flag", VALUES)
def test_every_setting_is_a_flag(flag: str) -> None:
    words, expected = VALUES[flag]
    base = RunConfig()
    config = parse(RunConfig, [flag, *words.split()], "train", default=base)
    assert at(config, flag) == expected != at(base, flag)
    assert type(at(config, flag)) is type(expected)
    if words and " " not in words:
        assert parse(RunConfig, [f"{flag}={words}"], "train", default=base) == config


@pytest.mark.parametrize("name", RECIPES)
def test_without_flags_a_recipe_stays_as_it_is(name: str) -> None:
    assert parse(RunConfig, [], "train", default=RECIPES[name]()) == RECIPES[name]()


@pytest.mark.parametrize("short", SHORT_FLAGS)
def test_short_flags_stand_for_settings(short: str) -> None:
    assert SHORT_FLAGS[short] in VALUES
    assert lengthen(f"{short}=3") == f"{SHORT_FLAGS[short]}=3"


@pytest.mark.parametrize("flag", VALUES)
def test_a_misspelled_flag_is_near_its_own(flag: str) -> None:
    wrong = f"{flag}x"
    with pytest.raises(
        UsageError, match=rf"^train: {wrong}: unknown setting; did you mean"
    ) as caught:
        parse(RunConfig, [wrong, "1"], "train", default=RunConfig())
    assert repr(flag.replace("no-", "")) in str(caught.value)


def test_the_flags_of_functions() -> None:
    assert list(known_flags(run_demo)) == ["--data", "--out", "--epochs"]

    def add(a: int, *, to: Path = Path("x")) -> tuple[int, Path]:
        return a, to

    assert parse(add, ["--a", "3", "--to", "y"], "add") == (3, Path("y"))
    with pytest.raises(UsageError, match=r"^add: --a is missing; see --help"):
        parse(add, [], "add")
    with pytest.raises(UsageError, match=r"^add: --a"):
        parse(add, ["--a", "three"], "add")


@pytest.mark.parametrize("words", ["", "a", "a b", "1 2 3", "0 1", "-1 1"])
def test_wrong_pairs_are_refused(words: str) -> None:
    with pytest.raises(UsageError, match=r"^train: ") as caught:
        parse(RunConfig, ["--model.image-size", *words.split()], "train", default=RunConfig())
    assert "\n" not in str(caught.value)
