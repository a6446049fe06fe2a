import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.helpers import assert_same_run, curve, paint, png, tiny_config, weights
from vitrail.cli import main
from vitrail.data.sources import open_data
from vitrail.errors import DivergedError, RunError, StorageError
from vitrail.runs import Run
from vitrail.train import loop
from vitrail.train.environment import environment
from vitrail.train.loop import describe_data, due, require_finite, require_same_data, resume, train
from vitrail.train.optim import lr_at

STEPS = 12  # 30 training images, 8 a step, 3 passes
CROPS = {"augment__crop_area": (0.4, 1.0)}

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


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture(scope="module")
def unbroken(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tiny_config(photos), tmp_path_factory.mktemp("runs") / "unbroken")


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


def test_the_same_seed_gives_the_same_bits(photos: Path, unbroken: Run, tmp_path: Path) -> None:
    torch.manual_seed(99)  # nothing of the process may matter
    again = train(tiny_config(photos), tmp_path / "again")
    assert_same_run(unbroken, again)
    assert len(curve(again)) == STEPS


def test_another_seed_gives_another_run(photos: Path, unbroken: Run, tmp_path: Path) -> None:
    other = train(tiny_config(photos, seed=4), tmp_path / "other")
    assert curve(other)[0]["train_loss"] != curve(unbroken)[0]["train_loss"] or (
        curve(other)[3] != curve(unbroken)[3]
    )
    assert not torch.equal(weights(other)["head.weight"], weights(unbroken)["head.weight"])


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("crops", [{}, CROPS], ids=["whole", "crops"])
def test_workers_change_no_bit(
    precision: str, crops: dict[str, Any], photos: Path, tmp_path: Path
) -> None:
    changes = {"precision": precision, "train__epochs": 1.5, **crops}
    alone = train(tiny_config(photos, **changes), tmp_path / "alone")
    helped = train(tiny_config(photos, data__workers=2, **changes), tmp_path / "helped")
    assert_same_run(alone, helped)


def test_what_a_run_leaves(unbroken: Run, photos: Path) -> None:
    names = {path.name for path in unbroken.path.iterdir()}
    assert {"config.json", "data.json", "environment.json", "finished.json"} < names
    assert {"model.json", "model.safetensors", "metrics.jsonl", "checkpoints"} < names
    assert unbroken.read_json("config.json")["precision"] == "float32"
    assert unbroken.read_json("finished.json")["steps"] == STEPS
    kept = sorted(path.name for path in (unbroken.path / "checkpoints").iterdir())
    assert kept == ["step-00000008", "step-00000012"]
    history = unbroken.history()
    assert [line["step"] for line in history] == list(range(1, STEPS + 1))
    measured = [line["step"] for line in history if "val_loss" in line]
    assert measured == [6, 12]
    assert all(line["val_images"] == 3 for line in history if "val_loss" in line)


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
    assert checkpoint is not None and checkpoint.step == 4  # steps 5 and 6 are lost
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
        patch.setattr(loop, "save_model", crash)
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


def test_without_averaging_the_last_weights_are_saved(photos: Path, tmp_path: Path) -> None:
    run = train(tiny_config(photos, train__ema=0.0), tmp_path / "run")
    checkpoint, _ = run.newest_checkpoint()
    assert checkpoint is not None and set(checkpoint.tensors) == {"model", "optimizer"}
    final = weights(run)
    assert all(
        torch.equal(final[name], value) for name, value in checkpoint.tensors["model"].items()
    )


def test_the_loss_goes_down_on_digits(tmp_path: Path) -> None:
    config = tiny_config(
        "digits",
        model__image_size=(8, 8),
        model__patch_size=2,
        input__channels=1,
        augment=tiny_config("digits").augment.replace(erase=0, mixup=0),
        train__epochs=4,
        train__batch_size=64,
        train__lr=1e-2,
    )
    run = train(config, tmp_path / "run")
    history = run.history()
    assert history[0]["train_loss"] == pytest.approx(2.3026, abs=0.01)  # ln 10: all as likely
    assert history[-1]["train_loss"] < 1.9
    assert history[-1]["val_top1"] > 0.5


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run(value: float) -> None:
    with pytest.raises(DivergedError, match=rf"step 7: .* is {value}; lower train.lr"):
        require_finite(value, 7)
    assert require_finite(1.5, 7) == 1.5


def test_a_diverging_run_says_so(photos: Path, tmp_path: Path) -> None:
    config = tiny_config(photos, train__lr=1e30, train__clip_norm=1e30, train__warmup_epochs=0)
    with pytest.raises(DivergedError, match=r"^step \d+: loss or gradient is (nan|inf); lower"):
        train(config, tmp_path / "run")


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


def test_broken_images_are_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = paint(tmp_path / "photos")
    for i in range(4):
        (photos / "red" / f"broken{i}.png").write_bytes(b"\x89PNG" + bytes([i]) * 100)
    run = train(tiny_config(photos, train__epochs=2), tmp_path / "run")
    assert run.history()[-1]["step"] > 0
    said = capsys.readouterr().err.replace("\n", "")
    assert said.count("left out: ") == len(set(said.split("left out: ")[1:])) > 0
    again = train(tiny_config(photos, train__epochs=2), tmp_path / "again")
    assert_same_run(run, again)


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


def test_drop_path_is_a_function_of_seed_and_step() -> None:
    def draws(seed: int, step: int) -> list[float]:
        loop._seed_step(seed, step)
        return torch.rand(8).tolist()

    first = draws(3, 5)
    torch.rand(17)
    assert draws(3, 5) == first
    assert len({tuple(draws(seed, step)) for seed in (3, 4) for step in range(50)}) == 100


def test_due() -> None:
    assert [done for done in range(1, 11) if due(done, 4, 10)] == [4, 8, 10]


def test_data_and_environment_are_json(photos: Path) -> None:
    described = json.loads(json.dumps(describe_data(open_data(str(photos)))))
    assert described["classes"] == ["blue", "green", "red"]
    assert {name: len(keys) for name, keys in described["splits"].items()} == {
        "train": 30,
        "val": 3,
        "test": 3,
    }
    machine = json.loads(json.dumps(environment("cpu")))
    assert machine["packages"]["torch"] == torch.__version__
    assert machine["threads"] == torch.get_num_threads()
