"""The index of shards: where each sample lies and what its label is, in one safetensors file.

The arrays are mapped, not read: of an index of a million samples only the pages that are used come
into memory. What stands in the file is checked before it is believed.
"""

import json
import stat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from vitrail.data.dataset import Names
from vitrail.data.shards.members import BLOCK
from vitrail.files import write_atomic

VERSION = 1
IMAGE_LIMIT = 1 << 30  # bytes of one image
DIGITS = 18  # of a class number at most

Word = tuple[bool, str]  # a label as it is written: whether it is a number, and its text


class Entry(NamedTuple):
    """What the index knows about one shard."""

    name: str
    size: int  # bytes
    stamp: str  # the version that was indexed
    mark: str  # what its global header says about its content; often nothing
    samples: int
    several: bool  # whether a sample has a set of labels
    hashed: bool  # whether the sha256 of its samples are known
    left_out: tuple[tuple[str, int, str], ...]  # members: why, how many, the first


class Table(NamedTuple):
    """Samples of one or more shards, in their order."""

    keys: Names  # shard, slash, member
    starts: NDArray[np.int64]  # of the image in its shard
    sizes: NDArray[np.int64]  # bytes
    labels: NDArray[np.int32]  # places in `words`, those of all samples
    label_ends: NDArray[np.int64]  # sample i has labels[label_ends[i - 1] : label_ends[i]]
    words: tuple[Word, ...]
    weights: NDArray[np.float64] | None = None  # NaN where a sample states none
    sha256: NDArray[np.uint8] | None = None  # n x 32, zero where it is not known
    origins: Names | None = None  # the keys in the source that was packed


class ShardIndex(NamedTuple):
    """Shards and all their samples, shard by shard."""

    entries: tuple[Entry, ...]
    table: Table

    def firsts(self) -> NDArray[np.int64]:
        """Give the place of the first sample of each shard, and the count of all."""
        return np.cumsum([0, *(entry.samples for entry in self.entries)], dtype=np.int64)


def write_index(path: Path, index: ShardIndex) -> None:
    """Write an index atomically. Raises StorageError."""
    table = index.table
    texts = Names.of([text for _, text in table.words])
    arrays = {
        "keys": table.keys.block,
        "key_ends": table.keys.ends,
        "starts": table.starts,
        "sizes": table.sizes,
        "labels": table.labels,
        "label_ends": table.label_ends,
        "words": texts.block,
        "word_ends": texts.ends,
        "word_numbers": np.array([number for number, _ in table.words], np.uint8),
    }
    if table.weights is not None:
        arrays["weights"] = table.weights
    if table.sha256 is not None:
        arrays["sha256"] = table.sha256
    if table.origins is not None:
        arrays |= {"origins": table.origins.block, "origin_ends": table.origins.ends}
    about = json.dumps({"version": VERSION, "shards": index.entries})
    data = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_atomic(path, safetensors.numpy.save(data, {"vitrail": about}))


def read_index(path: Path) -> ShardIndex | None:
    """Open an index; None where there is none, or where it is damaged or tells lies.

    What is checked: every sample lies inside its shard, counts agree, and no place leads outside an
    array. So a wrong index can name wrong bytes of the user's shards, and nothing else.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would never answer
            return None
        with safetensors.safe_open(path, "pt") as file:  # mapped; "np" would copy
            about = json.loads((file.metadata() or {})["vitrail"])
            arrays = {name: file.get_tensor(name).numpy() for name in file.keys()}
        if about["version"] != VERSION:
            return None
        index = ShardIndex(tuple(map(_entry, about["shards"])), _table(arrays))
        return index if _is_sound(index) else None
    except (OSError, safetensors.SafetensorError, RecursionError):
        return None
    except (ValueError, KeyError, TypeError, IndexError, OverflowError):  # another form
        return None


def _entry(values: Any) -> Entry:
    name, size, stamp, mark, count, several, hashed, left_out = values
    reasons = tuple((str(why), int(number), str(first)) for why, number, first in left_out)
    if not (isinstance(name, str) and isinstance(stamp, str) and isinstance(mark, str)):
        raise TypeError("texts expected")
    return Entry(name, int(size), stamp, mark, int(count), bool(several), bool(hashed), reasons)


def _table(arrays: dict[str, NDArray[Any]]) -> Table:
    def take(name: str, kind: type, columns: int = 0) -> NDArray[Any]:
        array = arrays[name]
        if array.dtype != kind or array.ndim != 1 + bool(columns):
            raise ValueError(f"{name} has another form")
        if columns and array.shape[1] != columns:
            raise ValueError(f"{name} has another width")
        return array

    texts = _names(take("words", np.uint8), take("word_ends", np.int64))
    numbers = take("word_numbers", np.uint8).tolist()
    if any(number and not _is_number(text) for number, text in zip(numbers, texts, strict=True)):
        raise ValueError("a class number is none")
    return Table(
        _names(take("keys", np.uint8), take("key_ends", np.int64)),
        take("starts", np.int64),
        take("sizes", np.int64),
        take("labels", np.int32),
        take("label_ends", np.int64),
        tuple((bool(number), text) for number, text in zip(numbers, texts, strict=True)),
        take("weights", np.float64) if "weights" in arrays else None,
        take("sha256", np.uint8, 32) if "sha256" in arrays else None,
        _names(take("origins", np.uint8), take("origin_ends", np.int64))
        if "origins" in arrays
        else None,
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= DIGITS


def _names(block: NDArray[np.uint8], ends: NDArray[np.int64]) -> Names:
    if not _rise_to(ends, len(block)):
        raise ValueError("names do not fill their block")
    return Names(block, ends)


def _rise_to(ends: NDArray[np.int64], last: int) -> bool:
    """Whether ends never fall, from 0 to the length of what they divide."""
    if not len(ends):
        return last == 0
    return bool(ends[0] >= 0 and ends[-1] == last and (ends[1:] >= ends[:-1]).all())


def _is_sound(index: ShardIndex) -> bool:
    """Whether all parts have the same length and every sample lies in its shard."""
    entries, table = index
    n = len(table.keys)
    counts = np.array([entry.samples for entry in entries], np.int64)
    sizes = np.array([entry.size for entry in entries], np.int64)
    columns = [table.starts, table.sizes, table.label_ends, table.weights, table.sha256]
    columns += [None if table.origins is None else table.origins.ends]
    if (
        (counts < 0).any()
        or int(counts.sum()) != n
        or len({e.name for e in entries}) < len(entries)
    ):
        return False
    if any(column is not None and len(column) != n for column in columns):
        return False
    if not _rise_to(table.label_ends, len(table.labels)):
        return False
    if len(table.labels) and not (
        0 <= table.labels.min() and table.labels.max() < len(table.words)
    ):
        return False
    if table.weights is not None and not ((table.weights < np.inf) | np.isnan(table.weights)).all():
        return False
    if table.weights is not None and (table.weights < 0).any():
        return False
    within = np.repeat(sizes, counts)
    return bool(
        (table.starts >= BLOCK).all()
        and ((table.sizes >= 0) & (table.sizes <= IMAGE_LIMIT)).all()
        and (table.starts <= within - table.sizes).all()  # no sum that could overflow
    )
