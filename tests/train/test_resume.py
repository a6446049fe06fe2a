import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.helpers import assert_same_run, paint, png, tiny_config
from vitrail.cli import main
from vitrail.data.sources import open_data
from vitrail.errors import RunError, StorageError
from vitrail.runs import Run
from vitrail.train import ending, loop
from vitrail.train.data import require_same_data
from vitrail.train.loop import resume, train
from vitrail.train.optim import lr_at

STEPS = 12  # 30 training images, 8 a step, 3 passes

# Runs the command line after arranging that the process sends itself a signal at one step.
DRIVER = """
import os, sys, torch
from vitrail.cli import main
from vitrail.train import loop
threads, number, last, *args = sys.argv[1:]
torch.set_num_threads(int(threads))
real = loop.lr_at
def lr_at(step, *rest):
    if step == int(last):
        os.kill(os.getpid(), int(number))
    return real(step, *rest)
loop.lr_at = lr_at
sys.exit(main(args))
"""


def crash_at(step: int, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def lr(now: int, *rest: Any) -> float:
        if now == step:
            raise error
        return lr_at(now, *rest)

    monkeypatch.setattr(loop, "lr_at", lr)


def in_subprocess(number: int, step: int, *args: str) -> subprocess.CompletedProcess[str]:
    source = Path(loop.__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-c", DRIVER, str(torch.get_num_threads()), str(number), str(step), *args],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(source)},
    )


def test_sigterm_saves_and_resume_ends_with_the_same_bits(unbroken: Run, tmp_path: Path) -> None:
    out, config = str(tmp_path / "run"), str(unbroken.path / "config.json")
    done = in_subprocess(signal.SIGTERM, 5, "train", "--config", config, "--out", out)
    assert done.returncode == 143, done.stderr
    assert f"stopped by SIGTERM after step 6; go on with: vitrail train --resume {out}" in (
        done.stderr
    )
    checkpoint, damaged = Run.open(out).newest_checkpoint()
    assert checkpoint is not None and checkpoint.step == 6 and damaged == []
    assert not (tmp_path / "run" / "finished.json").exists()
    assert main(["train", "--resume", out]) == 0
    assert_same_run(unbroken, Run.open(out))


def test_sigint_exits_as_a_shell_expects(unbroken: Run, tmp_path: Path) -> None:
    out, config = str(tmp_path / "run"), str(unbroken.path / "config.json")
    done = in_subprocess(signal.SIGINT, 0, "train", "--config", config, "--out", out)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert resume(out).history()[-1]["step"] == STEPS


def test_a_killed_run_resumes_to_the_same_bits(unbroken: Run, tmp_path: Path) -> None:
    out, config = str(tmp_path / "run"), str(unbroken.path / "config.json")
    done = in_subprocess(signal.SIGKILL, 6, "train", "--config", config, "--out", out)
    assert done.returncode == -signal.SIGKILL
    checkpoint, _ = Run.open(out).newest_checkpoint()
    assert checkpoint is not None and checkpoint.step in (0, 4)  # it may have been half written
    assert_same_run(unbroken, resume(out))


@pytest.mark.parametrize("step", [0, 1, 4, 9, 11])
def test_a_crash_at_any_step_changes_no_bit(
    step: int, photos: Path, unbroken: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        crash_at(step, patch, ZeroDivisionError())
        train(tiny_config(photos), tmp_path / "run")
    assert_same_run(unbroken, resume(tmp_path / "run"))


def test_crashes_over_and_over_change_no_bit(
    photos: Path, unbroken: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        crash_at(5, patch, ZeroDivisionError())
        train(tiny_config(photos), tmp_path / "run")
    for step in (6, 10):
        with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
            crash_at(step, patch, ZeroDivisionError())
            resume(tmp_path / "run")
    assert_same_run(unbroken, resume(tmp_path / "run"))


def test_a_crash_after_the_last_step_loses_nothing(
    photos: Path, unbroken: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(ending, "save_model", crash)
        train(tiny_config(photos), tmp_path / "run")
    assert_same_run(unbroken, resume(tmp_path / "run"))


def test_a_damaged_newest_checkpoint_costs_only_time(
    photos: Path, unbroken: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        crash_at(9, patch, ZeroDivisionError())
        train(tiny_config(photos), tmp_path / "run")
    newest = tmp_path / "run/checkpoints/step-00000008/model.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.warns(
        UserWarning, match=r"passed over: .*step-00000008/model.safetensors: damaged"
    ):
        run = resume(tmp_path / "run")
    assert_same_run(unbroken, run)


def test_resuming_a_finished_run_does_nothing(unbroken: Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in unbroken.path.rglob("*")}
    assert resume(unbroken.path).path == unbroken.path
    assert {path: path.stat().st_mtime_ns for path in unbroken.path.rglob("*")} == before


def test_changed_data_refuse_to_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = paint(tmp_path / "photos")
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        crash_at(5, patch, ZeroDivisionError())
        train(tiny_config(photos), tmp_path / "run")
    (photos / "red" / "new.png").write_bytes(png((200, 40, 40), 999))
    with pytest.raises(
        RunError, match=r"images have changed since the run began \(\d+ then, \d+ now"
    ):
        resume(tmp_path / "run")
    (photos / "red" / "new.png").unlink()
    (photos / "red").rename(photos / "rouge")
    with pytest.raises(RunError, match=r"the classes of the data have changed"):
        resume(tmp_path / "run")


def test_the_same_data_are_accepted(unbroken: Run, photos: Path) -> None:
    require_same_data(unbroken, open_data(str(photos)))


def test_a_full_disk_leaves_the_earlier_checkpoint(
    photos: Path, unbroken: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if (tmp_path / "run/checkpoints/step-00000008.tmp").exists():
            raise OSError(28, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(StorageError, match=r"step-00000008: no space left on the disk"):
            train(tiny_config(photos), tmp_path / "run")
    checkpoint, damaged = Run.open(tmp_path / "run").newest_checkpoint()
    assert checkpoint is not None and (checkpoint.step, damaged) == (4, [])
    assert_same_run(unbroken, resume(tmp_path / "run"))


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGUSR1, 143), (signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_r6_before_the_first_step_a_signal_ends_at_once(
    number: int, code: int, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def set_up(*_: object) -> None:
        signal.raise_signal(number)

    before = signal.getsignal(number)
    monkeypatch.setattr(loop, "set_up", set_up)
    args = ["--data", str(photos), "--out", str(tmp_path / "run")]
    assert main(["train", *args]) == code
    assert signal.getsignal(number) is before
    assert not (tmp_path / "run").exists()
