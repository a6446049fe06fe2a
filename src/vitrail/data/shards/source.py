"""Tar shards in WebDataset's layout, on the disk or behind an address."""

import functools
import os
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from vitrail.data.dataset import Labels, LabelSets
from vitrail.data.listing import Listing, number_classes
from vitrail.data.remote import find, is_remote, read_range
from vitrail.data.shards.index import open_index
from vitrail.data.shards.names import Shards, find_shards, names_shards, split_of
from vitrail.data.shards.samples import opened
from vitrail.data.shards.table import ShardIndex
from vitrail.errors import DataError, ImageError

CLASSES_NAME = "classes.txt"
CLASSES_LIMIT = 16 << 20  # bytes of that file
DESCRIPTORS = 64  # shards that a process keeps open


def matches(source: str) -> bool:
    """Whether a string names tar shards, or a folder that holds nothing else."""
    return names_shards(source)


def list_shards(source: str) -> Listing:
    """List the samples of shards, in the order in which they lie there.

    Class numbers get their names from `classes.txt` beside the shards, one a line. Splits are told
    by the names of the shards (`split_of`).

    Raises:
        DataError: a shard is missing or cannot be used, or a label is not in classes.txt.
    """
    shards = find_shards(source)
    index = open_index(shards)
    table = index.table
    classes, labels = _labels(shards, index)
    hashed = all(entry.hashed for entry in index.entries) and table.sha256 is not None
    weights = table.weights
    return Listing(
        name=_name(shards),
        where=shards.where,
        keys=table.keys,
        classes=classes,
        labels=labels,
        read=ShardReader(shards, index),
        splits=_splits(shards, index),
        weights=None if weights is None else np.where(np.isnan(weights), 1.0, weights),
        digest=Digests(table.sha256) if hashed and table.sha256 is not None else None,
        notes=_notes(shards, index),
    )


class Digests:
    """Gives the sha256 that an index knows of a sample."""

    def __init__(self, rows: NDArray[np.uint8]) -> None:
        """`rows` is n x 32."""
        self.rows = rows

    def __call__(self, i: int) -> bytes:
        """Give the sha256 of sample i."""
        return bytes(self.rows[i])


class ShardReader:
    """Reads the image of sample i out of its shard; can be sent to worker processes."""

    def __init__(self, shards: Shards, index: ShardIndex) -> None:
        """The samples of `index`, which lie in `shards`."""
        self.shards = shards
        self.firsts = index.firsts()
        self.keys = index.table.keys
        self.starts = index.table.starts
        self.sizes = index.table.sizes

    def __call__(self, i: int) -> bytes:
        """Give the bytes of sample i.

        Raises:
            ImageError: they cannot be read, or the shard changed since it was indexed.
        """
        i = range(len(self.sizes))[i]
        k = int(self.firsts.searchsorted(i, "right")) - 1
        path, start, size = self.shards.path(self.shards.names[k]), self.starts[i], self.sizes[i]
        if is_remote(path):
            return read_range(path, int(start), int(size))
        try:
            shard = _open(path, self.shards.found[k].stamp, os.getpid())
            data = os.pread(shard.descriptor, int(size), int(start))
        except OSError as error:
            raise ImageError(
                f"{self.shards.base}/{self.keys[i]}: {error.strerror or error}"
            ) from None
        if len(data) != size:
            raise ImageError(f"{self.shards.base}/{self.keys[i]}: its shard is cut off")
        return data


class _Open:
    """A file that is open as long as anybody uses it."""

    def __init__(self, path: str, stamp: str) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if str(os.fstat(self.descriptor).st_mtime_ns) != stamp:
            raise OSError("its shard changed since it was indexed; start again")

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


@functools.lru_cache(maxsize=DESCRIPTORS)
def _open(path: str, stamp: str, process: int) -> _Open:
    """Open a shard once in each process, whether it was forked or started afresh."""
    return _Open(path, stamp)


def _name(shards: Shards) -> str:
    """Name the data after its folder, or after its only shard."""
    if len(shards.names) == 1:
        return shards.names[0].rpartition("/")[2].removesuffix(".tar")
    return shards.base.rpartition("/")[2] or shards.base


def _labels(shards: Shards, index: ShardIndex) -> tuple[tuple[str, ...], Labels]:
    """Number the classes, and give each sample its number or numbers."""
    table = index.table
    used = np.bincount(table.labels, minlength=len(table.words)) > 0
    words = [word if used[k] else None for k, word in enumerate(table.words)]
    listed = _read_classes(shards)
    if listed is None:
        classes = number_classes((word[1] for word in words if word), shards.where)
        numbers = {name: k for k, name in enumerate(classes)}
        order = [numbers[word[1]] if word else -1 for word in words]
    else:
        classes = listed
        numbers = {name: k for k, name in enumerate(listed)}
        order = [_number(word, numbers, shards.where) if word else -1 for word in words]
    values = np.array(order, np.int64)[table.labels]
    if not any(entry.several for entry in index.entries):
        return classes, values
    ends = table.label_ends.tolist()
    sets = (values[a:b].tolist() for a, b in zip([0, *ends[:-1]], ends, strict=True))
    return classes, LabelSets.of(sets, len(classes))


def _number(word: tuple[bool, str], numbers: dict[str, int], where: str) -> int:
    """Find a label in classes.txt."""
    is_number, text = word
    if is_number and int(text) < len(numbers):
        return int(text)
    if not is_number and text in numbers:
        return numbers[text]
    what = f"class number {text}" if is_number else f"class {text!r}"
    raise DataError(
        f"{where}: {what} is not among the {len(numbers)} of {CLASSES_NAME}; add it there"
    )


def _read_classes(shards: Shards) -> tuple[str, ...] | None:
    """Read the class names beside the shards, if they are there. Raises DataError."""
    path = shards.path(CLASSES_NAME)
    if shards.remote:
        found = find(path)
        size = None if found is None else found.size
    else:
        size = os.path.getsize(path) if os.path.isfile(path) else None
    if size is None:
        return None
    shown = f"{shards.base}/{CLASSES_NAME}"
    if size > CLASSES_LIMIT:
        raise DataError(f"{shown}: has {size} bytes; at most {CLASSES_LIMIT} are read")
    with opened(path, size) as read:
        text = read(0, size).decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    names = tuple(line.removesuffix("\r") for line in text.removesuffix("\n").split("\n"))
    number_classes(names, shown)  # checks each
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{shown}: class {twice[0]!r} stands there twice; names must differ")
    return names


def _splits(shards: Shards, index: ShardIndex) -> dict[str, NDArray[np.int64]]:
    """Tell the splits by the names of the shards. Raises DataError where only some tell one."""
    told = [split_of(name) for name in shards.names]
    if not any(told):
        return {}
    if not all(told):
        raise DataError(
            f"{shards.where}: shard {shards.names[told.index('')]!r} stands beside shards of "
            "splits; allowed beside train are val and test"
        )
    firsts = index.firsts().tolist()
    ranges: dict[str, list[NDArray[np.int64]]] = {}
    for split, first, last in zip(told, firsts, firsts[1:], strict=False):
        ranges.setdefault(split, []).append(np.arange(first, last))
    return {split: np.concatenate(places) for split, places in ranges.items()}


def _notes(shards: Shards, index: ShardIndex) -> tuple[str, ...]:
    """Say what was left out, by reason."""
    counts: Counter[str] = Counter()
    firsts: dict[str, str] = {}
    for entry in index.entries:
        for why, count, first in entry.left_out:
            counts[why] += count
            firsts.setdefault(why, f"{first!r} in {entry.name}")
    return tuple(
        f"{shards.where}: {count} members are left out ({why}), the first {firsts[why]}"
        for why, count in counts.items()
    )
