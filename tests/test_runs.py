import errno
import fcntl
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vitrail.checkpoints import Saver
from vitrail.errors import RunError, StorageError, WeightsError
from vitrail.runs import Predictions, Run

PREDICTIONS = Predictions(
    split="test",
    keys=("a/ü 1.png", "b/2.png"),
    classes=("a", "b", "c"),
    logits=torch.tensor([[1.5, -0.0, 3e-41], [1.0, 2.0, 3.0]]),
    labels=torch.tensor([0, 2]),
    preprocess_hash="0123",
    unreadable=(("c/3.png", "c/3.png: empty"),),
)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run.create(tmp_path / "run")
    run.write_json("config.json", {})
    return run


def test_create_makes_every_folder_above(tmp_path: Path) -> None:
    assert Run.create(tmp_path / "a" / "b").path.is_dir()
    assert Run.create(str(tmp_path / "a" / "b")).path.is_dir()  # empty ones are taken


@pytest.mark.parametrize("kind", ["file", "full folder"])
def test_create_refuses_what_is_there(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "run"
    if kind == "file":
        path.write_text("mine")
    else:
        (path / "mine").mkdir(parents=True)
    with pytest.raises(RunError, match=r"run: exists and is not an empty folder; choose another"):
        Run.create(path)
    assert path.exists()


def test_create_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/run: a part of this path is a file"):
        Run.create(tmp_path / "file" / "run")


def test_open_refuses_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"nothing: no such folder; `vitrail train` makes one"):
        Run.open(tmp_path / "nothing")
    with pytest.raises(RunError, match=r"not a run directory \(no config.json\)"):
        Run.open(tmp_path)


def test_json_comes_back(run: Run) -> None:
    run.write_json("finished.json", {"steps": 3, "ü": [1.5, None]})
    assert Run.open(run.path).read_json("finished.json") == {"steps": 3, "ü": [1.5, None]}
    (run.path / "finished.json").write_text("{")
    for name in ("finished.json", "nothing.json"):
        with pytest.raises(RunError, match=rf"{name}: cannot be read"):
            run.read_json(name)


def test_figures_come_back_in_order(run: Run) -> None:
    assert run.history() == []
    run.log(1, loss=2.5)
    run.log(2, loss=0.1 + 0.2)
    assert run.history() == [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 0.1 + 0.2}]


@pytest.mark.parametrize("rest", ['{"st', '{"step": 3, "loss": 1.0}', "\0\0\0", "é"[:1]])
def test_a_line_that_a_crash_cut_is_left_out(rest: str, run: Run) -> None:
    run.log(1, loss=2.5)
    with open(run.path / "metrics.jsonl", "ab") as file:
        file.write(rest.encode()[:-1] or b"\xc3")
    assert run.history() == [{"step": 1, "loss": 2.5}]
    run.forget_after(1)
    run.log(2, loss=1.5)
    assert [line["step"] for line in run.history()] == [1, 2]


def test_a_line_that_is_damaged_is_named(run: Run) -> None:
    (run.path / "metrics.jsonl").write_text('{"step": 1}\nnonsense\n')
    with pytest.raises(RunError, match=r"metrics.jsonl: damaged .* remove the faulty line"):
        run.history()


def test_figures_beyond_a_step_are_forgotten(run: Run) -> None:
    for step in range(1, 6):
        run.log(step, loss=1 / step)
    before = (run.path / "metrics.jsonl").read_text().splitlines()
    run.forget_after(3)
    assert (run.path / "metrics.jsonl").read_text().splitlines() == before[:3]
    run.forget_after(0)
    assert run.history() == []
    assert not list(run.path.glob(".*"))  # no scratch file stays


def test_figures_must_be_finite(run: Run) -> None:
    with pytest.raises(ValueError, match=r"not JSON compliant"):
        run.log(1, loss=float("nan"))


# --- one process at a time ---

HOLDER = """
import fcntl, os, sys, time
file = open(sys.argv[1], "ab")
fcntl.lockf(file, fcntl.LOCK_EX)
if os.fork() == 0:  # a worker, which outlives it
    sys.stdin.read()
    sys.exit()
print("held", flush=True)
time.sleep(600)
"""


def test_another_process_that_trains_the_run_is_noticed(run: Run) -> None:
    command = [sys.executable, "-c", HOLDER, str(run.path / ".lock")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stdout.readline() == "held\n"
        with pytest.raises(RunError, match=r"run: is being trained by another process; wait"):
            with run.locked():
                pass
        process.kill()
        process.wait()
        with run.locked():  # the worker is still there
            assert (run.path / ".lock").exists()
    with run.locked():  # again
        pass


def test_a_disk_without_locks_is_warned_of(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", fail)
    entered = False
    with pytest.warns(UserWarning, match=r"this disk has no locks \(No locks available\)"):
        with run.locked():
            entered = True
    assert entered


def test_what_goes_wrong_under_the_lock_is_told_as_it_is(run: Run) -> None:
    with pytest.raises(OSError, match="No space") as caught:
        with run.locked():
            raise OSError(errno.ENOSPC, "No space left on device")
    assert not isinstance(caught.value, StorageError)


def test_scratch_files_of_a_killed_process_are_removed(run: Run) -> None:
    (run.path / ".metrics.jsonl.tmp").write_text("half")
    (run.path / ".config.json.0123.tmp").write_text("half")
    (run.path / "checkpoints" / "step-00000004.tmp").mkdir(parents=True)
    run.clean_up()
    assert [path.name for path in run.path.iterdir()] != []
    assert not list(run.path.rglob("*.tmp"))
    assert run.read_json("config.json") == {}


def test_checkpoints_come_back(run: Run) -> None:
    assert run.newest_checkpoint() == (None, [])
    with Saver(run.path, keep=2, keep_best=False) as saver:
        for step in (4, 8, 12):
            saver.save(step, {"model": {"a": torch.full((2, 3), step)}}, {"seconds": 1.5})
    checkpoint, damaged = run.newest_checkpoint()
    assert checkpoint is not None and (checkpoint.step, damaged) == (12, [])
    again = run.read_checkpoint(8)
    assert again.state["seconds"] == 1.5 and again.tensors["model"]["a"].tolist() == [[8] * 3] * 2
    with pytest.raises(RunError, match=r"step-00000004: no such checkpoint"):
        run.read_checkpoint(4)


def test_predictions_come_back_bit_for_bit(run: Run) -> None:
    run.write_predictions(PREDICTIONS)
    back = Run.open(run.path).read_predictions("test")
    assert back.logits.numpy().tobytes() == PREDICTIONS.logits.numpy().tobytes()
    assert torch.equal(back.labels, PREDICTIONS.labels) and back.labels.dtype == torch.int64
    for name in ("split", "keys", "classes", "preprocess_hash", "unreadable"):
        assert getattr(back, name) == getattr(PREDICTIONS, name)


def test_damaged_predictions_are_refused(run: Run) -> None:
    with pytest.raises(RunError, match=r"predictions/test.json: cannot be read"):
        run.read_predictions("test")
    run.write_predictions(PREDICTIONS)
    about = run.path / "predictions" / "test.json"
    for wrong in ({}, json.loads(about.read_text()) | {"unreadable": [1]}):
        about.write_text(json.dumps(wrong))
        with pytest.raises(RunError, match=r"test.json: damaged .* evaluate the run again"):
            run.read_predictions("test")
    cut(run.path / "predictions" / "test.safetensors")
    with pytest.raises(WeightsError, match=r"test.safetensors: not a whole safetensors file"):
        run.read_predictions("test")
