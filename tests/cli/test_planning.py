"""`vitrail plan`, from the command line to a plan."""

import json
from pathlib import Path

import pytest

from tests.cli.helpers import SHORT, Captured, refused
from tests.plan.helpers import measured
from vitrail.cli import main
from vitrail.cli.planning import suggested_command
from vitrail.cli.settings import take
from vitrail.plan import make
from vitrail.plan.measured import Measured
from vitrail.train.config import RunConfig


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """Make the measurements up; give the settings that were to be measured."""
    found: list[RunConfig] = []

    def measure(config: RunConfig) -> Measured:
        found.append(config)
        return measured()

    monkeypatch.setattr(make, "measure", measure)
    return found


def test_settings_are_those_of_a_training(
    asked: list[RunConfig], photos: Path, capsys: Captured
) -> None:
    flags = [*SHORT, "--data", str(photos), "--batch-size", "32", "--recompute", "--seed", "5"]
    assert main(["plan", *flags]) == 0
    (config,) = asked
    assert (config.train.batch_size, config.recompute, config.seed) == (32, True, 5)
    assert config.model.image_size == (16, 24) and config.train.epochs == 1
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said[:4]] == ["training", "memory", "step", "whole"]
    assert said[-1] == f"command     vitrail train {' '.join(flags)} --out runs/mine"


def test_json_has_every_figure(asked: list[RunConfig], photos: Path, capsys: Captured) -> None:
    args = ["plan", *SHORT, "--data", str(photos), "--batch-size", "32", "--json", "--hours", "1"]
    assert main(args) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["seconds_per_step"] == pytest.approx(0.356)
    assert plan["bound"] == "compute" and plan["suggestion"]["recipe"] == "photos"
    assert len(asked) == 1


def test_the_tiniest_training_is_planned_for_real(photos: Path, capsys: Captured) -> None:
    before = sorted(photos.rglob("*"))
    assert main(["plan", *SHORT, "--data", str(photos), "--batch-size", "2", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["fits"] and plan["measured_batch"] and plan["batch_size"] == 2
    assert sorted(photos.rglob("*")) == before


@pytest.mark.parametrize(
    ("args", "line"),
    [
        ([], "error: plan: --data is missing; name a folder of images, or glyphs or digits"),
        (["--resume", "r"], "error: plan --resume: plans a new training"),
        (["--data", "digits", "--hours", "0"], "error: plan: --hours=0 must be a number above 0"),
        (["--data", "digits", "--hours", "nan"], "error: plan: --hours=nan must be a number"),
        (["--data", "digits", "--hours"], "error: plan: --hours needs a value"),
        (["--data", "digits", "--bath-size", "3"], "error: plan: --bath-size: unknown setting"),
        (["--data", "digits", "--batch-size", "0"], "error: plan: --train.batch_size=0: "),
    ],
)
def test_a_wrong_command_is_refused_before_anything_is_measured(
    asked: list[RunConfig], capsys: Captured, args: list[str], line: str
) -> None:
    assert refused(capsys, "plan", *args).startswith(line)
    assert asked == []


def test_one_process_is_rehearsed(
    asked: list[RunConfig], capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "without torchrun" in refused(capsys, "plan", "--data", "digits")


def test_help_says_what_only_a_plan_has(capsys: Captured) -> None:
    assert main(["plan", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--hours H" in text and "--train.batch-size" in text


@pytest.mark.parametrize(
    ("args", "command"),
    [
        ("--data d --epochs 9", "--data d --epochs 4 --train.accumulate 2 --out runs/mine"),
        ("--train.epochs=9 --data d", "--data d --epochs 4 --train.accumulate 2 --out runs/mine"),
        ("--hours 2 --data d --out o", "--data d --out o --epochs 4 --train.accumulate 2"),
        (
            "--image-size 8 9 --epochs 9 --data d",
            "--image-size 8 9 --data d --epochs 4 --train.accumulate 2 --out runs/mine",
        ),
        (
            "--data 'my pictures'",
            "--data 'my pictures' --epochs 4 --train.accumulate 2 --out runs/mine",
        ),
    ],
)
def test_the_suggested_command_replaces_what_was_asked(args: str, command: str) -> None:
    words = args.replace("'my pictures'", "my_pictures").split()
    words = [word.replace("my_pictures", "my pictures") for word in words]
    special, _ = take(words, ("--out", "--hours"), "plan")
    settings = {"train.epochs": "4", "train.accumulate": "2"}
    assert suggested_command(words, special, settings) == f"vitrail train {command}"
