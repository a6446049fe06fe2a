"""Files that are either whole or not there."""

import errno
import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from vitrail import files
from vitrail.errors import StorageError
from vitrail.files import read_hashed, write_atomic, write_hashed, write_json

REASONS = {
    errno.ENOSPC: "no space left on the disk; free some",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk can only be read",
    errno.EACCES: "no permission to write here",
    errno.EPERM: "no permission to write here",
    errno.EIO: "the disk failed while writing",
}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail(code: int) -> Any:
    def failing(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return failing


def test_write_atomic(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folders" / "x.bin"
    for data in (b"old", b"", b"new" * 10_000):
        write_atomic(path, data)
        assert path.read_bytes() == data
        assert names(path.parent) == ["x.bin"]


@pytest.mark.parametrize("code", REASONS)
@pytest.mark.parametrize("call", ["fsync", "open", "replace"])
def test_a_failing_disk_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, call: str
) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")
    with monkeypatch.context() as patch:
        if call == "open":
            patch.setattr(files, "open", fail(code), raising=False)
        else:
            patch.setattr(files.os, call, fail(code))
        with pytest.raises(StorageError, match=rf"x\.bin: {REASONS[code]}") as caught:
            write_atomic(path, b"new")
    assert isinstance(caught.value.__cause__, OSError)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x.bin"]


def test_an_unknown_error_keeps_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files.os, "fsync", fail(errno.EBADF))
    with pytest.raises(OSError, match="Bad file descriptor"):
        write_atomic(tmp_path / "x.bin", b"new")
    assert names(tmp_path) == []


def test_an_interrupt_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    (tmp_path / "x.bin").write_bytes(b"old")
    monkeypatch.setattr(files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "x.bin", b"new")
    assert names(tmp_path) == ["x.bin"]
    assert (tmp_path / "x.bin").read_bytes() == b"old"


def test_the_content_is_synced_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)

        def noted(*args: Any, name: str = name, real: Any = real) -> None:
            calls.append(name)
            real(*args)

        monkeypatch.setattr(files.os, name, noted)
    write_atomic(tmp_path / "x.bin", b"new")
    assert calls == ["fsync", "replace", "fsync"]  # content, name, folder


@pytest.mark.parametrize("below", ["x.bin", "deeper/x.bin"])
def test_a_file_where_a_folder_should_be(tmp_path: Path, below: str) -> None:
    (tmp_path / "runs").write_bytes(b"a file")
    with pytest.raises(StorageError, match=r"x\.bin: a part of this path is a file, not a folder"):
        write_atomic(tmp_path / "runs" / below, b"new")
    assert (tmp_path / "runs").read_bytes() == b"a file"


def test_a_folder_where_the_file_should_be(tmp_path: Path) -> None:
    (tmp_path / "x.bin").mkdir()
    with pytest.raises(StorageError, match=r"x\.bin: there is a folder of this name"):
        write_atomic(tmp_path / "x.bin", b"new")
    assert names(tmp_path) == ["x.bin"]


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="this name is too long"):
        write_atomic(tmp_path / ("x" * 300), b"new")


# --- JSON ---


def test_write_json_is_readable(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"class": "Käfer", "n": [1, 2.5, None]})
    text = path.read_text(encoding="utf-8")
    assert text.startswith('{\n  "class": "Käfer",\n') and text.endswith("}\n")
    assert json.loads(text) == {"class": "Käfer", "n": [1, 2.5, None]}


def test_file_names_that_are_not_utf8_come_back(tmp_path: Path) -> None:
    key = os.fsdecode(b"K\xe4fer/\xff.png")
    value = {"keys": [key, "Käfer", "😀"], key: 1}
    write_json(tmp_path / "x.json", value)
    again = json.loads((tmp_path / "x.json").read_bytes().decode("utf-8"))
    assert again == value
    assert os.fsencode(again["keys"][0]) == b"K\xe4fer/\xff.png"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_has_not_are_refused(tmp_path: Path, value: float) -> None:
    (tmp_path / "x.json").write_text("old")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"loss": value})
    assert (tmp_path / "x.json").read_text() == "old"


# --- hashes ---


def test_a_file_is_hashed_while_it_is_written_and_when_it_is_read(tmp_path: Path) -> None:
    pieces = [b"one", memoryview(bytearray(3_000_000)), b"", b"two" * 100_000]
    data = b"".join(pieces)
    seal = write_hashed(tmp_path / "x.bin", pieces)
    assert (tmp_path / "x.bin").read_bytes() == data
    assert seal == (len(data), sha256(data).hexdigest()) == read_hashed(tmp_path / "x.bin")
    assert write_hashed(tmp_path / "x.bin", []) == (0, sha256().hexdigest())
    assert read_hashed(tmp_path / "x.bin") == (0, sha256().hexdigest())
