"""One checkpoint that many ranks write."""

import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from torch import Tensor

from tests.checkpoints.driver import share_of, tensors_of
from tests.checkpoints.helpers import (
    contents,
    driving,
    folder,
    kept,
    make_run,
    newest_whole_step,
    same,
)
from vitrail import files
from vitrail.checkpoints import parts
from vitrail.checkpoints.reading import newest_checkpoint, read_checkpoint
from vitrail.checkpoints.saver import Saver
from vitrail.errors import StorageError


@contextmanager
def savers(
    run: Path, ranks: int, attempt: str = "now", timeout: float = 60.0
) -> Iterator[list[Saver]]:
    """One saver for each rank, in this process; each has its own thread."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                Saver(
                    run,
                    keep=2,
                    keep_best=False,
                    rank=rank,
                    ranks=ranks,
                    attempt=attempt,
                    timeout=timeout,
                )
            )
            for rank in range(ranks)
        ]


def outcome(saver: Saver) -> str:
    try:
        saver.wait()
    except StorageError as error:
        return str(error)
    return ""


def outcomes(team: list[Saver]) -> list[str]:
    with ThreadPoolExecutor(len(team)) as pool:
        return list(pool.map(outcome, team))


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_the_shares_of_any_number_of_ranks_make_one_checkpoint(ranks: int, tmp_path: Path) -> None:
    with savers(tmp_path, ranks) as team:
        for step in (4, 8, 12):
            for rank, saver in enumerate(team):
                share = share_of(tensors_of(step), rank, ranks)
                saver.save(step, share, {"seconds": 1.0 if rank == 0 else 9.0})
        assert outcomes(team) == [""] * ranks
    assert kept(tmp_path) == ["step-00000008", "step-00000012"]
    assert newest_whole_step(tmp_path) == 12
    assert read_checkpoint(tmp_path / "checkpoints", 12).state["seconds"] == 1.0
    models = {1: {"model.safetensors"}}.get(
        ranks, {f"model-{rank:05d}-of-{ranks:05d}.safetensors" for rank in (1, 2)}
    )
    assert set(contents(folder(tmp_path, 12))) == models | {
        "optimizer.safetensors",  # one tensor: of one rank alone
        "state.json",
        "manifest.json",
    }


def test_processes_write_together(tmp_path: Path) -> None:
    base = make_run(tmp_path / "base", 4)
    with driving() as driver:
        answers = driver.save(base, tmp_path / "run", step=8, then=12, ranks=3, keep=3)
    assert [answer["error"] for answer in answers] == [None] * 3
    assert kept(tmp_path / "run") == ["step-00000004", "step-00000008", "step-00000012"]
    assert newest_whole_step(tmp_path / "run") == 12


def test_a_rank_without_a_share_takes_part(tmp_path: Path) -> None:
    with savers(tmp_path, 2) as team:
        team[0].save(4, tensors_of(4) | {"empty": {}}, {})
        team[1].save(4, {"empty": {}}, {})
        assert outcomes(team) == ["", ""]
    checkpoint, _ = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None and len(checkpoint.tensors["empty"]) == 0
    assert same(checkpoint.tensors["model"], tensors_of(4)["model"])
    assert "model.safetensors" in contents(folder(tmp_path, 4))


def test_a_step_is_written_anew(tmp_path: Path) -> None:
    with savers(tmp_path, 2) as team:
        for shift in (99, 4):
            for rank, saver in enumerate(team):
                saver.save(4, share_of(tensors_of(shift), rank, 2), {})
        assert outcomes(team) == ["", ""]
    assert kept(tmp_path) == ["step-00000004"] and newest_whole_step(tmp_path) == 4


def test_ranks_that_are_not_heard_of_are_named(tmp_path: Path) -> None:
    make_run(tmp_path, 4)
    with savers(tmp_path, 4, timeout=0.2) as team:
        for rank in (0, 2):
            team[rank].save(8, share_of(tensors_of(8), rank, 4), {})
        first, _, third, _ = outcomes(team)
    assert "no part came from rank 1, 3 of 4 within 0.2 s; see what holds it up" in first
    assert "rank 0" in third  # either its failure is seen, or that it does not finish
    assert newest_whole_step(tmp_path) == 4
    make_run(tmp_path)
    assert kept(tmp_path) == ["step-00000004"]


def test_without_rank_0_the_others_do_not_wait_for_ever(tmp_path: Path) -> None:
    with savers(tmp_path, 2, timeout=0.2) as team:
        team[1].save(8, share_of(tensors_of(8), 1, 2), {})
        (error,) = outcomes(team[1:])
    assert "step-00000008: rank 0 did not finish within 0.2 s; see what holds it up" in error


@pytest.mark.parametrize("faulty", [0, 1])
def test_a_rank_that_fails_says_so_to_all(
    faulty: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path, 4)
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if f"model-0000{faulty + 1}" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", fsync)
    with savers(tmp_path, 2, timeout=600.0) as team:  # nobody waits that long
        for rank, saver in enumerate(team):
            saver.save(8, share_of(tensors_of(8), rank, 2), {})
        errors = outcomes(team)
    assert "step-00000008: no space left on the disk" in errors[faulty]
    assert f"rank {faulty} could not write its part: " in errors[1 - faulty]
    assert "no space left on the disk" in errors[1 - faulty]
    assert newest_whole_step(tmp_path) == 4
    with savers(tmp_path, 2, attempt="later"):
        assert kept(tmp_path) == ["step-00000004"]


def test_after_a_failure_the_next_save_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with savers(tmp_path, 2) as team:
        with monkeypatch.context() as patch:
            patch.setattr(parts, "undivide", lambda *_: (_ for _ in ()).throw(OSError(5, "bad")))
            for rank, saver in enumerate(team):
                saver.save(8, share_of(tensors_of(8), rank, 2), {})
            assert ["the disk failed while writing" in error for error in outcomes(team)] == [
                True,
                True,
            ]
        for rank, saver in enumerate(team):
            saver.save(8, share_of(tensors_of(8), rank, 2), {})
        assert outcomes(team) == ["", ""]
    assert kept(tmp_path) == ["step-00000008"] and newest_whole_step(tmp_path) == 8


def test_parts_of_an_earlier_start_are_never_mixed_in(tmp_path: Path) -> None:
    stale: dict[str, dict[str, Tensor]] = share_of(tensors_of(99), 1, 2)
    with savers(
        tmp_path, 2, attempt="first", timeout=0.0
    ) as team:  # and killed: rank 0 did nothing
        team[1].save(8, stale, {})
        outcomes(team)
    with savers(tmp_path, 2, attempt="second") as team:
        for rank, saver in enumerate(team):
            saver.save(8, share_of(tensors_of(8), rank, 2), {})
        assert outcomes(team) == ["", ""]
    assert kept(tmp_path) == ["step-00000008"] and newest_whole_step(tmp_path) == 8


def test_a_part_of_another_size_is_refused(tmp_path: Path) -> None:
    make_run(tmp_path, 4)
    scratch = tmp_path / "checkpoints/step-00000008.now-1.tmp"
    scratch.mkdir()
    name = parts.part_name("model", 1, 2)
    (scratch / name).write_bytes(b"12")
    parts.report(scratch, 1, {name: files.Seal(3, "0123")})
    with savers(tmp_path, 2) as team:
        team[0].save(8, share_of(tensors_of(8), 0, 2), {})
        (error,) = outcomes(team[:1])
    assert f"{name}: not of the size that its rank wrote" in error
    assert newest_whole_step(tmp_path) == 4
