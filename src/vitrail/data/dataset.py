"""What every source of images gives: named samples with labels, by split."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import SupportsIndex, overload

import numpy as np
from numpy.typing import NDArray

CHUNK = 16384  # names that are copied at a time: an index of every letter is eight times as large


class Names(Sequence[str]):
    """Many strings in one block of memory, without an object for each.

    A million names of 30 letters take 38 MB instead of 90, and worker processes that only read them
    share the block with their parent: nothing in it is counted, so nothing is copied.
    """

    def __init__(self, block: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        """`block` holds the UTF-8 of all names without gaps; name i stops before `ends[i]`."""
        self.block = block
        self.ends = ends

    @classmethod
    def of(cls, names: Iterable[str]) -> "Names":
        """Pack strings; bytes that are no UTF-8, as file names may have, are kept."""
        encoded = [name.encode("utf-8", "surrogateescape") for name in names]
        ends = np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)))
        return cls(np.frombuffer(b"".join(encoded), np.uint8), ends)

    def __len__(self) -> int:
        """Count the names."""
        return len(self.ends)

    @overload
    def __getitem__(self, i: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, i: slice) -> "tuple[str, ...]": ...
    def __getitem__(self, i: SupportsIndex | slice) -> "str | tuple[str, ...]":
        """Give name i, or some of them."""
        if isinstance(i, slice):
            return tuple(self[k] for k in range(*i.indices(len(self))))
        i = range(len(self))[i]  # counts from the end, and refuses what is outside
        start = int(self.ends[i - 1]) if i else 0
        return self.block[start : int(self.ends[i])].tobytes().decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        """Give all names, faster than one by one."""
        text, start = self.block.tobytes(), 0
        for end in self.ends.tolist():
            yield text[start:end].decode("utf-8", "surrogateescape")
            start = end

    def __eq__(self, other: object) -> bool:
        """Whether another sequence has the same names in the same order."""
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def take(self, places: NDArray[np.int64]) -> "Names":
        """Give the names at these places, in this order."""
        parts = [self._part(places[k : k + CHUNK]) for k in range(0, len(places), CHUNK)]
        if not parts:
            return Names(self.block[:0], self.ends[:0])
        lengths = np.concatenate([each for _, each in parts])
        return Names(np.concatenate([block for block, _ in parts]), np.cumsum(lengths))

    def _part(self, places: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Copy a few names out: their letters, and how many each has."""
        starts = np.where(places > 0, self.ends[places - 1], 0)
        lengths = self.ends[places] - starts
        ends = np.cumsum(lengths)
        within = np.arange(int(ends[-1])) - np.repeat(ends - lengths, lengths)
        return self.block[np.repeat(starts, lengths) + within], lengths


@dataclass(frozen=True)
class LabelSets:
    """The labels of a multi-label data set: any number for each sample, none included.

    Sample i has `values[ends[i - 1] : ends[i]]`, in rising order.
    """

    values: NDArray[np.int64]
    ends: NDArray[np.int64]
    classes: int

    @classmethod
    def of(cls, sets: Iterable[Iterable[int]], classes: int) -> "LabelSets":
        """Pack the labels of each sample; one that is named twice counts once."""
        rows = [sorted(set(each)) for each in sets]
        values = np.array([label for row in rows for label in row], np.int64)
        ends = np.cumsum(np.fromiter(map(len, rows), np.int64, len(rows)))
        return cls(values, ends, classes)

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.ends)

    def __getitem__(self, i: int) -> NDArray[np.int64]:
        """Give the labels of sample i."""
        return self.values[self.ends[i - 1] if i else 0 : self.ends[i]]

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        """Give the labels of each sample."""
        return (self[i] for i in range(len(self)))

    def take(self, places: NDArray[np.int64]) -> "LabelSets":
        """Give the samples at these places, in this order."""
        starts = np.where(places > 0, self.ends[places - 1], 0)
        lengths = self.ends[places] - starts
        ends = np.cumsum(lengths)
        within = np.arange(int(lengths.sum())) - np.repeat(ends - lengths, lengths)
        return LabelSets(self.values[np.repeat(starts, lengths) + within], ends, self.classes)

    def hot(self) -> NDArray[np.int64]:
        """Give [n, classes]: 1 where a sample has the class, else 0."""
        result = np.zeros((len(self), self.classes), np.int64)
        result[np.repeat(np.arange(len(self)), np.diff(self.ends, prepend=0)), self.values] = 1
        return result


Labels = NDArray[np.int64] | LabelSets  # one class for each sample, or a set of classes


def digest(values: Labels | NDArray[np.float64]) -> str:
    """Name the labels or weights of a split, so that a change is seen."""
    parts = [values.values, values.ends] if isinstance(values, LabelSets) else [values]
    data = b"".join(part.astype(part.dtype.newbyteorder("<")).tobytes() for part in parts)
    return hashlib.sha256(data).hexdigest()[:16]


@dataclass(frozen=True)
class Split:
    """One part of a data set.

    `keys` are unique and stable: the path relative to the root for a folder. `read(i)` gives the
    bytes of the image file of sample i; it raises ImageError where the file cannot be read. It can
    be sent to worker processes. `weights`, where the data set states them, are how often a sample
    is drawn, relative to the others.
    """

    keys: Sequence[str]
    labels: Labels
    read: Callable[[int], bytes]
    weights: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.keys)

    def counts(self, classes: int) -> NDArray[np.int64]:
        """Count the samples of each class; a sample of several classes counts in each."""
        values = self.labels.values if isinstance(self.labels, LabelSets) else self.labels
        return np.bincount(values, minlength=classes)

    def take(self, places: NDArray[np.int64]) -> "Split":
        """Give the samples at these places, in this order."""
        labels = self.labels
        return Split(
            take_names(self.keys, places),
            labels.take(places) if isinstance(labels, LabelSets) else labels[places],
            Chosen(self.read, places),
            None if self.weights is None else self.weights[places],
        )


def take_names(names: Sequence[str], places: NDArray[np.int64]) -> Sequence[str]:
    """Give the names at these places, packed if they were."""
    if isinstance(names, Names):
        return names.take(places)
    return tuple(names[i] for i in places.tolist())


class Chosen:
    """Reads chosen samples through another reader."""

    def __init__(self, read: Callable[[int], bytes], places: NDArray[np.int64]) -> None:
        """Sample i is `places[i]` there."""
        self.read = read
        self.places = places

    def __call__(self, i: int) -> bytes:
        """Give the bytes of sample i. Raises ImageError."""
        return self.read(int(self.places[i]))


@dataclass(frozen=True)
class Data:
    """A data set: class names in label order, and its splits (`train`, `val`, `test`)."""

    name: str
    classes: tuple[str, ...]
    splits: dict[str, Split]
    flips_safe: bool = True  # whether a mirrored image keeps its class; letters do not
    notes: tuple[str, ...] = ()  # what was decided for the user, such as how a split was made

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several classes, or none."""
        return any(isinstance(split.labels, LabelSets) for split in self.splits.values())
