"""Checkpoints that are written while the training goes on."""

import errno
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
import torch

from tests.checkpoints.driver import tensors_of
from tests.checkpoints.helpers import contents, folder, kept, make_run, newest_whole_step, same
from vitrail import files
from vitrail.checkpoints import saver as module
from vitrail.checkpoints.reading import newest_checkpoint, read_checkpoint
from vitrail.checkpoints.saver import Saver
from vitrail.checkpoints.staging import Staging
from vitrail.errors import StorageError
from vitrail.files import Seal

KINDS = {
    "bf16": torch.randn(3, 5).bfloat16(),
    "bool": torch.tensor([True, False, True]),
    "number": torch.tensor(3),
    "nothing": torch.zeros(0, 4),
    "turned": torch.arange(6.0).reshape(2, 3).T,
    "small": torch.tensor([1.5, -0.0, 3e-41]),
    "long": torch.tensor([2**62], dtype=torch.int64),
    "weight": torch.nn.Parameter(torch.ones(2, 2)),
}


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The disk answers only once this is set."""
    event = threading.Event()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        event.wait()
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", fsync)
    yield event
    event.set()


def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", fail)


def test_every_kind_of_tensor_comes_back_bit_for_bit(tmp_path: Path) -> None:
    with Saver(tmp_path, keep=1, keep_best=False) as saver:
        saver.save(3, {"model": KINDS, "empty": {}}, {"seconds": 1.5, "ü": [None]})
    checkpoint, damaged = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None and damaged == []
    assert checkpoint.state == {"step": 3, "seconds": 1.5, "ü": [None], "score": None}
    assert same(checkpoint.tensors["model"], KINDS) and len(checkpoint.tensors["empty"]) == 0
    assert (
        checkpoint.tensors["model"]["small"].numpy().tobytes() == KINDS["small"].numpy().tobytes()
    )
    assert kept(tmp_path) == ["step-00000003"]


def test_the_originals_may_change_while_the_disk_is_slow(
    tmp_path: Path, gate: threading.Event
) -> None:
    parts = tensors_of(4)
    with Saver(tmp_path, keep=1, keep_best=False) as saver:
        saver.save(4, parts, {})
        assert kept_or_none(tmp_path, 4) is None
        for part in parts.values():
            for tensor in part.values():
                tensor.zero_()
        gate.set()
        saver.wait()
        assert newest_whole_step(tmp_path) == 4


def kept_or_none(run: Path, step: int) -> Path | None:
    return folder(run, step) if folder(run, step).exists() else None


def test_a_save_waits_for_the_one_before(tmp_path: Path, gate: threading.Event) -> None:
    with Saver(tmp_path, keep=2, keep_best=False) as saver:
        saver.save(4, tensors_of(4), {})
        second = threading.Thread(target=saver.save, args=(8, tensors_of(8), {}))
        second.start()
        assert second.is_alive() and kept_or_none(tmp_path, 4) is None
        gate.set()
        second.join()
        assert kept_or_none(tmp_path, 4)
    assert kept(tmp_path) == ["step-00000004", "step-00000008"]
    assert newest_whole_step(tmp_path) == 8


def test_memory_is_used_again() -> None:
    staging = Staging()
    first = staging.copy({"model": {"a": torch.ones(3), "b": torch.ones(2)}})
    places = {name: tensor.data_ptr() for name, tensor in first["model"].items()}
    again = staging.copy({"model": {"a": torch.zeros(3), "b": torch.zeros(2, 2)}})
    assert again["model"]["a"].data_ptr() == places["a"] and not again["model"]["a"].any()
    assert again["model"]["b"].shape == (2, 2)


def test_an_error_of_the_thread_comes_at_the_next_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Saver(tmp_path, keep=2, keep_best=False) as saver:
        saver.save(4, tensors_of(4), {})
        saver.wait()
        with monkeypatch.context() as patch:
            full_disk(patch)
            saver.save(8, tensors_of(8), {})
            with pytest.raises(StorageError, match=r"step-00000008: no space left on the disk"):
                saver.save(12, tensors_of(12), {})
        assert kept(tmp_path) == ["step-00000004"]
        saver.save(16, tensors_of(16), {})  # it was said; things go on
    assert kept(tmp_path) == ["step-00000004", "step-00000016"]


@pytest.mark.parametrize("how", ["wait", "close"])
def test_an_error_of_the_last_save_is_not_lost(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_disk(monkeypatch)
    saver = Saver(tmp_path, keep=2, keep_best=False)
    saver.save(4, tensors_of(4), {})
    with pytest.raises(StorageError, match=r"step-00000004: no space left on the disk"):
        saver.wait() if how == "wait" else saver.close()
    saver.close()
    assert kept(tmp_path) == []


def test_a_save_that_was_not_waited_for_is_not_forgotten(
    tmp_path: Path, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with Saver(tmp_path, keep=2, keep_best=False) as saver:
        saver.save(4, tensors_of(4), {})
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Future, "result", interrupt)
            saver.wait()
        gate.set()
        saver.save(8, tensors_of(8), {})  # not over the memory from which 4 is written
    assert kept(tmp_path) == ["step-00000004", "step-00000008"]
    assert same(
        read_checkpoint(tmp_path / "checkpoints", 4).tensors["model"], tensors_of(4)["model"]
    )


def test_where_the_training_failed_that_error_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_disk(monkeypatch)
    with pytest.raises(ZeroDivisionError) as caught:
        with Saver(tmp_path, keep=2, keep_best=False) as saver:
            saver.save(4, tensors_of(4), {})
            raise ZeroDivisionError
    (note,) = caught.value.__notes__
    assert note.startswith("and the last checkpoint was not saved: ") and "no space left" in note


def test_a_training_that_failed_still_gets_its_last_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        with Saver(tmp_path, keep=2, keep_best=False) as saver:
            saver.save(4, tensors_of(4), {})
            raise ZeroDivisionError
    assert newest_whole_step(tmp_path) == 4


def test_a_disk_that_gives_back_something_else_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path, 4)
    before = contents(folder(tmp_path, 4))
    monkeypatch.setattr(module, "read_hashed", lambda _: Seal(3, "0123"))
    with pytest.raises(
        StorageError, match=r"model.safetensors: the disk gives back something else"
    ):
        make_run(tmp_path, 8, keep=1)
    assert kept(tmp_path) == ["step-00000004"] and contents(folder(tmp_path, 4)) == before


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_must_be_finite(score: float, tmp_path: Path) -> None:
    with Saver(tmp_path, keep=1, keep_best=True) as saver:
        with pytest.raises(ValueError, match="not JSON compliant"):
            saver.save(4, tensors_of(4), {}, score)
    assert not (tmp_path / "checkpoints").exists()


# --- which are kept ---


def save_scores(
    run: Path, scores: dict[int, float | None], keep: int, keep_best: bool
) -> list[int]:
    for step, score in scores.items():  # each in a process of its own, as it were
        with Saver(run, keep=keep, keep_best=keep_best) as saver:
            saver.save(step, tensors_of(step), {}, score)
    return [int(name.removeprefix("step-")) for name in kept(run)]


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    scores = {1: 0.5, 2: 0.9, 3: 0.7, 4: None, 5: 0.8, 6: 0.1}
    assert save_scores(tmp_path / "a", scores, 2, keep_best=True) == [2, 5, 6]
    assert save_scores(tmp_path / "b", scores, 2, keep_best=False) == [5, 6]
    assert save_scores(tmp_path / "c", scores, 5, keep_best=True) == [2, 3, 4, 5, 6]


def test_of_equally_good_ones_the_newest_is_kept(tmp_path: Path) -> None:
    scores = {1: -3.0, 2: -3.0, 3: -4.0, 4: -5.0}
    assert save_scores(tmp_path, scores, 1, keep_best=True) == [2, 4]


def test_without_scores_none_is_best(tmp_path: Path) -> None:
    assert save_scores(tmp_path, {1: None, 100_000_000: None}, 1, keep_best=True) == [100_000_000]


def test_a_run_that_went_back_drops_what_it_left(tmp_path: Path) -> None:
    scores = {4: 0.5, 8: 0.6, 12: 0.9}
    assert save_scores(tmp_path, scores, 3, keep_best=True) == [4, 8, 12]
    assert save_scores(tmp_path, {6: 0.1}, 3, keep_best=True) == [4, 6]


# --- what is in the way ---


def test_a_step_is_written_anew(tmp_path: Path) -> None:
    with Saver(tmp_path, keep=1, keep_best=False) as saver:
        saver.save(4, tensors_of(999), {})
        saver.save(4, tensors_of(4), {})
    assert kept(tmp_path) == ["step-00000004"] and newest_whole_step(tmp_path) == 4


def test_what_was_replaced_is_found_until_the_new_one_has_the_name(tmp_path: Path) -> None:
    make_run(tmp_path, 4, 8)
    folder(tmp_path, 8).rename(tmp_path / "checkpoints/step-00000008.old")  # and killed
    assert newest_whole_step(tmp_path) == 8
    make_run(tmp_path)  # the next start
    assert kept(tmp_path) == ["step-00000004", "step-00000008"]
    assert newest_whole_step(tmp_path) == 8


def test_the_next_start_removes_what_killed_saves_left(tmp_path: Path) -> None:
    make_run(tmp_path, 4, 8)
    names = ("step-00000012.tmp", "step-00000004.gone.tmp", "step-00000009.a1-3.tmp")
    for name in names:
        (tmp_path / "checkpoints" / name).mkdir()
        (tmp_path / "checkpoints" / name / "state.json").write_text("{")
    (tmp_path / "checkpoints/step-00000008.old").mkdir()
    assert newest_whole_step(tmp_path) == 8
    with Saver(tmp_path, keep=2, keep_best=False, rank=1, ranks=2, attempt="a2"):
        assert len(kept(tmp_path)) == 6  # only rank 0 does
    with Saver(tmp_path, keep=2, keep_best=False, ranks=2, attempt="a1"):
        assert kept(tmp_path) == ["step-00000004", "step-00000008", names[2]]  # may be of now
    make_run(tmp_path)
    assert kept(tmp_path) == ["step-00000004", "step-00000008"]
