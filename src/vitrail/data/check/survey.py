"""All records of a data set, and what belongs to each: its split, key and labels."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vitrail.data.check.duplicates import Rows
from vitrail.data.check.finding import Image
from vitrail.data.check.record import GOOD, RECORD, REFUSED, Record
from vitrail.data.dataset import Data

ORDER = ("train", "val", "test")
PURITY = {"val": 1, "test": 2}  # which split keeps an image that is in several; others: 0


class Survey:
    """One row for each image of a data set, split after split: train, val, test, then others."""

    def __init__(self, data: Data) -> None:
        """Make room for every image; none has been looked at."""
        self.data = data
        known = [name for name in ORDER if name in data.splits]
        self.names = (*known, *(name for name in data.splits if name not in ORDER))
        self.splits = tuple(data.splits[name] for name in self.names)
        self.starts = np.cumsum([0, *(len(split) for split in self.splits)])
        self.table = np.zeros(int(self.starts[-1]), RECORD)
        self.reasons: dict[int, str] = {}  # why a row cannot be used

    def __len__(self) -> int:
        """Count the images."""
        return len(self.table)

    def add(self, part: int, i: int, answer: Record | str) -> None:
        """Keep what was found out about sample i of a split: its record, or why it has none."""
        row = int(self.starts[part]) + i
        if isinstance(answer, str):
            self.table["status"][row] = REFUSED
            self.reasons[row] = answer
        else:
            self.table[row] = answer

    @cached_property
    def parts(self) -> NDArray[np.int8]:
        """Which split each row belongs to."""
        return np.repeat(np.arange(len(self.splits), dtype=np.int8), np.diff(self.starts))

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """One number for the label, or the set of labels, of each row; equal if they are."""
        if not self.data.multi_label:
            return np.concatenate([np.asarray(split.labels) for split in self.splits])
        known: dict[tuple[int, ...], int] = {}
        sets = (np.atleast_1d(each).tolist() for split in self.splits for each in split.labels)
        numbers = (known.setdefault(tuple(each), len(known)) for each in sets)
        return np.fromiter(numbers, np.int64, len(self))

    @property
    def good(self) -> NDArray[np.bool_]:
        """Which rows could be decoded."""
        good: NDArray[np.bool_] = self.table["status"] == GOOD
        return good

    def purity(self, rows: Rows) -> NDArray[np.int64]:
        """Rank the splits of these rows: the higher, the more they must be kept as they are."""
        ranks = np.array([PURITY.get(name, 0) for name in self.names], np.int64)
        return ranks[self.parts[rows]]

    def place(self, row: int) -> tuple[int, int]:
        """Give which split a row belongs to, and which sample of it it is."""
        part = int(self.parts[row])
        return part, row - int(self.starts[part])

    def image(self, row: int) -> Image:
        """Name an image: its split, key and classes."""
        part, i = self.place(row)
        split = self.splits[part]
        labels = np.atleast_1d(split.labels[i]).tolist()
        label = " | ".join(self.data.classes[each] for each in labels)
        return Image(row, self.names[part], split.keys[i], label)

    def counts(self, part: int) -> NDArray[np.int64]:
        """Count the images of each class in a split that could be decoded."""
        good = np.flatnonzero(self.good[self.starts[part] : self.starts[part + 1]])
        return self.splits[part].take(good).counts(len(self.data.classes))
