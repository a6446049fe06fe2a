"""R1: killed at any moment, and killed again, a run ends with the same bits."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.train.helpers import assert_same_run
from tests.train.ranks import DRIVER, alone, environment, write_settings
from vitrail.runs import Run

FULL = 50  # kills of the whole form, of which every fifth is inside a save


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that has a state or draws: scaler, average, mixup, erasing, drop path, workers."""
    return write_settings(
        tmp_path_factory.mktemp("kills"),
        precision="fp16",
        augment__cutmix=0.3,
        train__accumulate=2,
        data__workers=2,
        data__cache="none",
        save_every_epochs=0.25,
        eval_every_epochs=0.5,
    )


@pytest.fixture(scope="module")
def unbroken(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "unbroken"
    done = alone("train", "--config", str(config), "--out", str(out))
    assert done.returncode == 0, done.stderr
    return Run.open(out)


def steps_logged(out: Path) -> int:
    try:
        lines = (out / "metrics.jsonl").read_bytes().split(b"\n")[:-1]
        return int(json.loads(lines[-1])["step"]) if lines else 0
    except FileNotFoundError:
        return 0


def is_saving(out: Path, since: int) -> bool:
    return steps_logged(out) >= since and any(out.glob("checkpoints/*.tmp"))


def kill_once(config: Path, out: Path, after: int, *, inside_save: bool, delay: float) -> int:
    """Start or go on with a run and kill it at a moment; give the exit code."""
    command = [sys.executable, str(DRIVER), "nothing", "0", "-1", "train", "--config", str(config)]
    process = subprocess.Popen(
        [*command, "--out", str(out), "--continue"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )
    while process.poll() is None:
        if is_saving(out, after) if inside_save else steps_logged(out) >= after:
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.0005)
    return process.wait()


def go_through_kills(config: Path, unbroken: Run, out: Path, seed: int, kills: int) -> None:
    draw = random.Random(seed)
    for number in range(kills):
        after = draw.randrange(12)
        inside = (seed + number) % 5 == 0
        delay = draw.random() * (0.003 if inside else 0.1)
        code = kill_once(config, out, after, inside_save=inside, delay=delay)
        if code == 0:  # it was through before the moment came
            break
        assert code == -signal.SIGKILL
    done = alone("train", "--config", str(config), "--out", str(out), "--continue")
    assert done.returncode == 0, done.stderr
    run = Run.open(out)
    assert_same_run(run, unbroken)
    mine, theirs = run.newest_checkpoint()[0], unbroken.newest_checkpoint()[0]
    assert mine is not None and theirs is not None and mine.step == theirs.step
    for file, tensors in theirs.tensors.items():  # weights, average, optimiser, scaler, guard
        other = mine.tensors[file]
        assert set(other) == set(tensors)
        assert [name for name in tensors if not tensors[name].equal(other[name])] == []


@pytest.mark.parametrize("seed", [0, 1])
def test_r1_killed_at_any_moment_it_ends_with_the_same_bits(
    seed: int, config: Path, unbroken: Run, tmp_path: Path
) -> None:
    go_through_kills(config, unbroken, tmp_path / "run", seed, 2)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(2, 2 + FULL // 2))
def test_r1_fifty_kills(seed: int, config: Path, unbroken: Run, tmp_path: Path) -> None:
    go_through_kills(config, unbroken, tmp_path / "run", seed, 2)
