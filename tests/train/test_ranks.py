"""Several processes train together: the same curve as one, whatever happens to one of them."""

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.train.helpers import assert_same_run, curve, paint, tiny_config
from tests.train.ranks import alone, orphans, torchrun
from vitrail.files import write_json
from vitrail.runs import Run
from vitrail.train.loop import resume, train

CLOSE = ("train_loss", "grad_norm", "val_loss")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings with everything random, in a file for --config."""
    root = tmp_path_factory.mktemp("ranks")
    settings = tiny_config(
        paint(root / "photos"),
        model__patch_dropout=0.2,
        team__timeout=8.0,
        save_every_epochs=0.5,
        data__check=False,
    )
    write_json(root / "config.json", settings.to_json())
    return root / "config.json"


@pytest.fixture(scope="module")
def single(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "single"
    done = alone("train", "--config", str(config), "--out", str(out))
    assert done.returncode == 0, done.stderr
    return Run.open(out)


@pytest.fixture(scope="module")
def pair(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "pair"
    done = torchrun(2, "train", "--config", str(config), "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("trained:") == 1  # one rank speaks for all
    return Run.open(out)


def assert_close(run: Run, other: Run) -> None:
    mine, theirs = run.history(), other.history()
    assert [line["step"] for line in mine] == [line["step"] for line in theirs]
    for line, expected in zip(mine, theirs, strict=True):
        assert line.keys() == expected.keys()
        for name in CLOSE:
            if name in line:
                assert line[name] == pytest.approx(expected[name], rel=1e-5), line["step"]


def test_two_ranks_take_the_same_way_as_one(single: Run, pair: Run) -> None:
    assert_close(pair, single)


@pytest.mark.parametrize(
    ("ranks", "settings"),
    [
        (2, ["--team.strategy", "fsdp"]),
        (2, ["--team.strategy", "fsdp", "--train.accumulate", "2", "--recompute"]),
        (2, ["--train.accumulate", "4"]),
        pytest.param(4, [], marks=pytest.mark.slow),
        pytest.param(4, ["--team.strategy", "fsdp"], marks=pytest.mark.slow),
    ],
)
def test_no_way_to_share_the_work_changes_the_curve(
    ranks: int, settings: list[str], config: Path, single: Run, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    done = torchrun(ranks, "train", "--config", str(config), "--out", str(out), *settings)
    assert done.returncode == 0, done.stderr
    assert_close(Run.open(out), single)


def test_parts_of_a_batch_change_only_rounding(config: Path, single: Run, tmp_path: Path) -> None:
    from vitrail.train.config import RunConfig

    settings = RunConfig.parse(single.read_json("config.json"), "x")
    run = train(settings.replace(train=settings.train.replace(accumulate=4)), tmp_path / "run")
    assert_close(run, single)
