"""Several processes train together: the same curve as one, whatever happens to one of them."""

from pathlib import Path

import pytest

from tests.train.helpers import assert_same_run
from tests.train.ranks import alone, orphans, torchrun, write_settings
from vitrail.runs import Run
from vitrail.train.config import RunConfig
from vitrail.train.loop import train

CLOSE = ("train_loss", "grad_norm", "val_loss")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_settings(
        tmp_path_factory.mktemp("ranks"), team__timeout=8.0, save_every_epochs=0.5
    )


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


@pytest.mark.parametrize(
    ("fault", "rank"),
    [
        ("kill", 1),
        ("stop", 1),
        pytest.param("error", 0, marks=pytest.mark.slow),
        pytest.param("error-from-a-thread", 1, marks=pytest.mark.slow),
        pytest.param("exit", 0, marks=pytest.mark.slow),
        pytest.param("abort", 1, marks=pytest.mark.slow),
        pytest.param("segfault", 0, marks=pytest.mark.slow),
        pytest.param("kill", 0, marks=pytest.mark.slow),
        pytest.param("stop", 0, marks=pytest.mark.slow),
        pytest.param("stall", 1, marks=pytest.mark.slow),
        pytest.param("stall", 0, marks=pytest.mark.slow),
        pytest.param("stall-in-c", 1, marks=pytest.mark.slow),
    ],
)
def test_r10_a_rank_that_fails_is_started_anew_to_the_same_bits(
    fault: str, rank: int, config: Path, pair: Run, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    args = ("train", "--config", str(config), "--out", str(out))
    done = torchrun(2, *args, fault=fault, rank=rank, step=6, restarts=1)
    assert done.returncode == 0, done.stderr
    if fault.startswith("st"):  # it stood still: the other rank says so
        assert f"error: rank {rank} (" in done.stderr and "stands still for 8 s" in done.stderr
    assert_same_run(Run.open(out), pair)
    assert orphans(out) == []


def test_r10_a_rank_that_stands_still_ends_the_job(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    args = ("train", "--config", str(config), "--out", str(out))
    done = torchrun(2, *args, fault="stall", rank=1, step=2)
    assert done.returncode != 0
    assert "preparing of step 2) stands still for 8 s; the job ends" in done.stderr
    assert orphans(out) == []


@pytest.mark.parametrize(
    "fault", ["launcher-sigterm", pytest.param("sigusr1", marks=pytest.mark.slow)]
)
def test_r6_a_signal_to_one_rank_or_the_launcher_saves_on_all(
    fault: str, config: Path, pair: Run, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    args = ("train", "--config", str(config), "--out", str(out))
    done = torchrun(2, *args, fault=fault, rank=1, step=5)
    assert done.returncode != 0 and "stopped by SIG" in done.stderr, done.stderr
    checkpoint, damaged = Run.open(out).newest_checkpoint()
    assert checkpoint is not None and 6 <= checkpoint.step <= 8 and damaged == []
    assert torchrun(2, *args, "--continue").returncode == 0
    assert_same_run(Run.open(out), pair)
    assert orphans(out) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [(1, 2), (2, 1)]
    + [
        pytest.param(n, m, marks=pytest.mark.slow)
        for n in (1, 2, 4)
        for m in (1, 2, 4)
        if (n, m) not in ((1, 2), (2, 1))
    ],
)
@pytest.mark.parametrize("strategy", ["fsdp"])
def test_r11_saved_on_some_ranks_and_loaded_on_others(
    before: int, after: int, strategy: str, config: Path, single: Run, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    args = ("train", "--config", str(config), "--out", str(out), "--team.strategy", strategy)
    stopped = torchrun(before, *args, fault="sigusr1", step=6)
    assert stopped.returncode != 0
    checkpoint, _ = Run.open(out).newest_checkpoint()
    assert checkpoint is not None and checkpoint.step < 12
    done = torchrun(after, *args, "--continue")
    assert done.returncode == 0, done.stderr
    assert ("differs by rounding" in done.stderr) == (before != after)
    assert_close(Run.open(out), single)


def test_parts_of_a_batch_change_only_rounding(config: Path, single: Run, tmp_path: Path) -> None:
    settings = RunConfig.parse(single.read_json("config.json"), "x")
    run = train(settings.replace(train=settings.train.replace(accumulate=4)), tmp_path / "run")
    assert_close(run, single)
