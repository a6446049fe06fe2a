"""Which Parquet files a source names, which split each belongs to, and how one is opened."""

import glob
import io
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from vitrail.data import remote
from vitrail.data.arrow.columns import one_line, split_choice
from vitrail.data.folder import is_folder
from vitrail.data.naming import SPLIT_NAMES, is_image_name, natural_order
from vitrail.data.packing.started import require_finished
from vitrail.errors import DataError

SUFFIX = ".parquet"
DEEP = 3  # levels of a folder that are looked at: set, split, file
_MAGIC = re.compile(r"[*?\[]")


class Found(NamedTuple):
    """The files of a source."""

    name: str  # of the data set
    root: str  # a folder, or an address with ://
    files: list[str]  # relative to the root, with /
    splits: list[str] | None  # of each file, where their names tell


def matches(source: str) -> bool:
    """Whether a string names Parquet files, or a folder that holds them and no images."""
    place, _ = split_choice(source)
    path = os.path.expanduser(place)
    if not remote.is_remote(place) and os.path.isdir(path):
        return _holds_parquet(path)
    return place.lower().endswith(SUFFIX)


def find_files(place: str) -> Found:
    """Find the files of a source, in natural order, and their splits.

    Raises:
        DataError: there are none; some belong to no split, unlike others; or a folder holds the
            files of several data sets.
    """
    if remote.is_remote(place):
        found = _find_remote(place)
    elif os.path.isdir(path := os.path.expanduser(place)):
        files = natural_order(_walk(path))
        require_finished(path, len(files))
        _require_one_set(place, files)
        found = Found(os.path.basename(os.path.abspath(path)), path, files, _splits(place, files))
    elif _MAGIC.search(path) and not os.path.exists(path):
        root = _root(path)
        names = [name for name in glob.glob(path, recursive=True) if os.path.isfile(name)]
        files = natural_order(os.path.relpath(name, root) for name in names)
        found = Found(os.path.basename(os.path.abspath(root)), root, files, _splits(place, files))
    else:
        root, name = os.path.split(path)
        found = Found(name[: -len(SUFFIX)], root or ".", [name], None)
    if not found.files:
        raise DataError(f"{place}: no {SUFFIX} file there; name the files or their folder")
    return found


def _find_remote(place: str) -> Found:
    """Find the files behind an address."""
    root, _, name = place.rpartition("/")
    if not _MAGIC.search(place) or remote.is_http(place):  # there ? begins a query
        return Found(name[: -len(SUFFIX)], root, [name], None)
    root = _root(place)
    files = natural_order(remote.search(place, root))
    return Found(root.rpartition("/")[2] or "data", root, files, _splits(place, files))


def _root(pattern: str) -> str:
    """Give the folder above the first part of a pattern with a wildcard."""
    parts = pattern.split("/")
    first = next(i for i, part in enumerate(parts) if _MAGIC.search(part))
    return "/".join(parts[:first]) or ("/" if pattern.startswith("/") else ".")


def _holds_parquet(folder: str) -> bool:
    """Whether there are Parquet files and, as far as is looked, no images; stops at the first."""
    seen = False
    for name in _entries(folder, 1, ""):
        if is_image_name(name):
            return False
        seen = seen or name.lower().endswith(SUFFIX)
    return seen


def _walk(folder: str) -> Iterator[str]:
    return (name for name in _entries(folder, 1, "") if name.lower().endswith(SUFFIX))


def _entries(folder: str, level: int, prefix: str) -> Iterator[str]:
    """Give the files of a folder and below, relative to it; hidden ones are left out."""
    inner = []
    try:
        with os.scandir(folder) as entries:
            for each in entries:
                if each.name.startswith("."):
                    continue
                if not is_folder(each):
                    yield prefix + each.name
                elif level < DEEP:
                    inner.append(each.name)
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror or error}") from None
    for name in inner:
        yield from _entries(f"{folder}/{name}", level + 1, f"{prefix}{name}/")


def _splits(place: str, files: Sequence[str]) -> list[str] | None:
    """Tell the split of each file by its name, or none of any."""
    splits = [_split(name) for name in files]
    if not any(splits):
        return None
    if not all(splits):
        stranger = files[splits.index("")]
        raise DataError(
            f"{place}: {stranger!r} belongs to no split, but other files do by their names; "
            "allowed are train, val and test, as a folder or at the beginning of the name"
        )
    return splits


def _split(name: str) -> str:
    """Give the split that a folder, or the beginning of the file name, stands for."""
    *folders, file = name.lower().split("/")
    start = re.match("[a-z]*", file)
    words = [*reversed(folders), start[0] if start else ""]
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), "")


def _require_one_set(place: str, files: Sequence[str]) -> None:
    """Refuse a folder in which several folders have splits of their own."""
    sets = {}
    for name in files:
        folders = [word for word in name.split("/")[:-1] if word.lower() not in SPLIT_NAMES]
        sets["/".join(folders)] = name
    if len(sets) > 1 and any(_split(name) for name in files):
        names = natural_order(sets)
        raise DataError(
            f"{place}: several data sets in one folder: {', '.join(map(repr, names[:5]))}; "
            f"name one of them, such as {os.path.join(place, names[-1])}"
        )


def open_file(path: str) -> Any:
    """Open a file, local or behind an address, as `pyarrow.parquet.ParquetFile`.

    Raises:
        DataError: it is no Parquet file, damaged, or not there.
    """
    import pyarrow.parquet as pq

    size, _ = version(path)
    with one_line(path, "is no Parquet file, or damaged", "write or download it again"):
        file = pq.ParquetFile(_RemoteFile(path, size) if remote.is_remote(path) else path)
        rows = file.metadata.num_rows
    if not 0 <= rows <= size:  # before anything is made for so many
        raise DataError(f"{path}: {rows} rows in {size} bytes cannot be; write it again")
    return file


def read_footer(path: str, size: int) -> bytes:
    """Give the metadata at the end of a file: a thrift struct, its length, PAR1."""
    length = int.from_bytes(_read(path, size - 8, 4), "little")
    return _read(path, size - 8 - length, length)


def _read(path: str, start: int, count: int) -> bytes:
    if remote.is_remote(path):
        return remote.read_range(path, start, count)
    with open(path, "rb") as file:
        file.seek(start)
        return file.read(count)


def version(path: str) -> tuple[int, str]:
    """Give size and time of change of a file. Raises DataError if it is not there."""
    if not remote.is_remote(path):
        if os.path.isfile(path):
            return stamp(os.stat(path))
    elif found := remote.find(path):
        return found
    raise DataError(f"{path}: {'not a' if os.path.exists(path) else 'no such'} file")


def stamp(status: os.stat_result) -> tuple[int, str]:
    """Give size and time of change."""
    return status.st_size, str(status.st_mtime_ns)


class _RemoteFile(io.RawIOBase):
    """A file behind an address, as pyarrow reads it: each read is one request."""

    def __init__(self, url: str, size: int) -> None:
        self.url = url
        self.size = size
        self.at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self.at, os.SEEK_END: self.size}[whence]
        self.at = start + offset
        return self.at

    def read(self, size: int = -1) -> bytes:
        rest = max(self.size - self.at, 0)
        data = remote.read_range(self.url, self.at, rest if size < 0 else min(size, rest))
        self.at += len(data)
        return data
