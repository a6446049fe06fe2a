"""Files that are either whole or not there: temporary name, fsync, rename."""

import errno
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from vitrail.errors import StorageError

_REASONS = {
    errno.ENOSPC: "no space left on the disk; free some or write elsewhere",
    errno.EDQUOT: "the disk quota is used up; free some or write elsewhere",
    errno.EFBIG: "the file would be larger than the system allows; raise the limit, or write less",
    errno.EROFS: "the disk can only be read; write elsewhere",
    errno.EACCES: "no permission to write here; write elsewhere",
    errno.EPERM: "no permission to write here; write elsewhere",
    errno.EIO: "the disk failed while writing; check it or write elsewhere",
    errno.ENOTDIR: "a part of this path is a file, not a folder; choose another path",
    errno.EEXIST: "a part of this path is a file, not a folder, or a broken link; choose another",
    errno.ENOENT: "a part of this path is not there and cannot be made; choose another path",
    errno.EISDIR: "there is a folder of this name; choose another path",
    errno.ENOTEMPTY: "there is a folder of this name that is not empty; choose another path",
    errno.ENAMETOOLONG: "this name is too long; choose a shorter one",
    errno.ESTALE: "the network disk lost this file; check it or write elsewhere",
    errno.ETIMEDOUT: "the network disk does not answer; check it or write elsewhere",
}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the disk answers into one line with the path and what to do.

    Raises:
        StorageError: the disk is full, read-only, forbidden or failing.
    """
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0)
        if reason is None:
            raise
        raise StorageError(f"{path}: {reason}") from error


def write_atomic(path: Path, *pieces: bytes | memoryview) -> None:
    """Write a file so that whoever reads it, even after a crash, sees the old or the new one.

    Raises:
        StorageError: it cannot be written; what was there before is untouched.
    """
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_synced(scratch, *pieces)
            os.replace(scratch, path)
        finally:
            scratch.unlink(missing_ok=True)
        sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, readable and with a final line break.

    It is always valid UTF-8: where a file name that is not is among the text, all of it is escaped.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        data = text.encode()
    except UnicodeEncodeError:  # Python holds bytes that are not UTF-8 as lone surrogates
        data = json.dumps(value, indent=2, allow_nan=False).encode()
    write_atomic(path, data + b"\n")


def write_synced(path: Path, *pieces: bytes | memoryview) -> None:
    """Write a file and wait until the disk has it."""
    with open(path, "wb") as file:
        file.writelines(pieces)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Wait until the disk has the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Seal(NamedTuple):
    """What the content of a file is known by."""

    bytes: int
    sha256: str


def write_hashed(path: Path, pieces: Iterable[bytes | memoryview]) -> Seal:
    """Write a file piece by piece and wait until the disk has it; give what it must be."""
    digest, size = hashlib.sha256(), 0
    with open(path, "wb") as file:
        for piece in pieces:
            file.write(piece)
            digest.update(piece)
            size += len(piece)
        file.flush()
        os.fsync(file.fileno())
        _drop_cached(file.fileno())
    return Seal(size, digest.hexdigest())


def read_hashed(path: Path) -> Seal:
    """Read a file piece by piece; give what it is."""
    with open(path, "rb", buffering=0) as file:
        digest = hashlib.file_digest(file, "sha256")
        return Seal(file.tell(), digest.hexdigest())


def _drop_cached(descriptor: int) -> None:
    """Let memory forget a file that the disk has: it is then read back from the disk itself."""
    if hasattr(os, "posix_fadvise"):  # not on every system
        with suppress(OSError):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def cache_folder() -> Path:
    """Give the user's folder for what can be made again."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(base)) / "vitrail"


def plain_name(name: str) -> str:
    """Make a harmless file name of any text; different texts may share one."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:60] or "unnamed"
