"""Whether a run has a place for its checkpoints."""

import errno
import shutil
from pathlib import Path

import pytest

from tests.checkpoints.helpers import kept, make_run
from vitrail import files
from vitrail.checkpoints import space
from vitrail.checkpoints.space import require_space
from vitrail.errors import StorageError


def give_space(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil._ntuple_diskusage(10**15, 10**15 - free, free)
    monkeypatch.setattr(space.shutil, "disk_usage", lambda _: usage)


def test_room_for_all_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give_space(4_000_000, monkeypatch)
    require_space(tmp_path / "run", 1_000_000, keep=2)
    assert kept(tmp_path / "run") == []


def test_too_little_room_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give_space(3_999_999_999, monkeypatch)
    with pytest.raises(
        StorageError,
        match=r"run/checkpoints: 4,000.0 MB are free, and checkpoints need 4,000.0 MB "
        r"\(4 times 1,000.0 MB\); free some, write elsewhere, or keep fewer \(keep_checkpoints=2\)",
    ):
        require_space(tmp_path / "run", 1_000_000_000, keep=2)


def test_those_that_are_there_need_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path, 1, 2, 3)
    give_space(1_000_000, monkeypatch)
    require_space(tmp_path, 1_000_000, keep=2)
    require_space(tmp_path, 1_000_000, keep=1)
    with pytest.raises(StorageError, match=r"need 1.0 MB \(1 times 1.0 MB\)"):
        require_space(tmp_path, 1_000_001, keep=1)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_folder_that_cannot_be_written_is_refused(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(files.os, call, fail)
    with pytest.raises(StorageError, match=r"probe.tmp: the disk can only be read"):
        require_space(tmp_path / "run", 1, keep=1)
    assert kept(tmp_path / "run") == []
