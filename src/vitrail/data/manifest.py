"""A table of images: `path,label[,split][,weight]` as .csv, .tsv or .jsonl.

Paths are relative to the folder of the manifest. Several labels separated by `|` (in .jsonl also a
list) make the data multi-label; an image without any label then belongs to no class.
"""

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.data.dataset import Labels, LabelSets, Names
from vitrail.data.folder import FileReader
from vitrail.data.listing import Listing, number_classes
from vitrail.data.naming import SPLIT_NAMES, is_text
from vitrail.data.tables import (
    Chunk,
    Columns,
    Numbered,
    json_lines,
    no_collection,
    separated,
)
from vitrail.errors import DataError, did_you_mean

SUFFIXES = (".csv", ".tsv", ".jsonl")
COLUMNS = {  # what each column may be called
    "path": ("path", "file", "filename", "file_name", "filepath", "image"),
    "label": ("label", "labels", "class", "category", "target"),
    "split": ("split", "subset", "partition"),
    "weight": ("weight", "sample_weight"),
}
TRIES = 8  # files that are looked for before anything is read


def matches(source: str) -> bool:
    """Whether a string names a manifest."""
    return source.lower().endswith(SUFFIXES)


def list_manifest(source: str) -> Listing:
    """List the images of a manifest, in its order.

    Raises:
        DataError: it cannot be read; a line, column or value is wrong; an image stands there twice;
            or none of the files that were looked for is there.
    """
    path = Path(os.path.expanduser(source))
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            chunks = (
                json_lines(file, path) if path.suffix.lower() == ".jsonl" else separated(file, path)
            )
            return list_rows(path, chunks)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start} of a part of it is not UTF-8; save it as UTF-8"
        ) from None


def list_rows(path: Path, chunks: Iterable[Chunk]) -> Listing:
    """List the images of a table that was read from `path`.

    Args:
        chunks: the number of each line, and the columns by their own names. The first chunk says
            which there are.
    Raises:
        DataError: see `list_manifest`.
    """
    table = _Table(path)
    with no_collection():
        for lines, columns in chunks:
            table.add(lines, columns)
        return table.listing()


class _Table:
    """Collects rows without keeping an object for each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: dict[str, str] = {}  # of the columns, by what they mean
        self.blocks: list[Names] = []
        self.labels = Numbered()
        self.splits = Numbered()
        self.weights: list[NDArray[np.float64]] = []
        self.lines: list[NDArray[np.int64]] = []

    def add(self, lines: Sequence[int], columns: Columns) -> None:
        """Take a chunk of rows."""
        if not self.names:
            self.names = _find_columns(self.path, columns)
        keys = self._texts(lines, columns[self.names["path"]])
        if "" in keys:
            raise self.wrong(lines[keys.index("")], "the path is empty")
        self.blocks.append(Names.of(keys))
        labels = self._texts(lines, columns[self.names["label"]], several=True)
        self.labels.add([label.strip() for label in labels])
        if "split" in self.names:
            self.splits.add(self._texts(lines, columns[self.names["split"]]))
        if "weight" in self.names:
            self.weights.append(self._weights(lines, columns[self.names["weight"]]))
        self.lines.append(np.array(lines, np.int64))

    def _texts(
        self, lines: Sequence[int], values: Sequence[Any], several: bool = False
    ) -> list[str]:
        """Write values as text: nothing as an empty one; `several` joins a list by `|`.

        Raises:
            DataError: a value is neither text nor a number.
        """
        if set(map(type, values)) == {str}:
            texts = list(values)
        else:
            texts = [self._text(*each, several) for each in zip(lines, values, strict=True)]
        try:
            "".join(texts).encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            wrong = next(i for i, text in enumerate(texts) if not is_text(text))
            raise self.wrong(lines[wrong], f"{texts[wrong]!r} is no text") from None
        return texts

    def _text(self, line: int, value: Any, several: bool) -> str:
        if several and isinstance(value, list):
            return "|".join(self._text(line, each, False) for each in value) + "|"
        if value is None or isinstance(value, str | int | float):
            return "" if value is None else str(value)
        raise self.wrong(line, f"{str(value)[:50]} is neither text nor a number")

    def listing(self) -> Listing:
        """Check the rows as a whole and give what they say."""
        if not self.blocks or not sum(map(len, self.blocks)):
            raise DataError(f"{self.path}: no images in it; every line after the first names one")
        keys = _joined(self.blocks)
        self._require_unique(keys)
        self._require_files(keys)
        classes, labels = self._classes()
        return Listing(
            name=self.path.stem,
            where=str(self.path),
            keys=keys,
            classes=classes,
            labels=labels,
            read=FileReader(self.path.parent, keys),
            splits=self._split_places(),
            weights=np.concatenate(self.weights) if self.weights else None,
        )

    def _classes(self) -> tuple[tuple[str, ...], Labels]:
        """Number the classes; labels with `|` are sets of them."""
        names, numbers = self.labels.names(), self.labels.numbers()
        if not any("|" in name for name in names):
            if "" in names:
                row = int(np.flatnonzero(numbers == names.index(""))[0])
                raise self.wrong(self._line(row), "the label is empty")
            classes = number_classes(names, str(self.path))
            place = {name: i for i, name in enumerate(classes)}
            return classes, np.array([place[name] for name in names], np.int64)[numbers]
        sets = [[part.strip() for part in name.split("|") if part.strip()] for name in names]
        classes = number_classes((part for each in sets for part in each), str(self.path))
        place = {name: i for i, name in enumerate(classes)}
        unique = LabelSets.of(([place[part] for part in each] for each in sets), len(classes))
        return classes, unique.take(numbers)

    def _split_places(self) -> dict[str, NDArray[np.int64]]:
        """Find the rows of each split."""
        if "split" not in self.names:
            return {}
        numbers = self.splits.numbers()
        places: dict[str, NDArray[np.int64]] = {}
        for number, name in enumerate(self.splits.names()):
            split = SPLIT_NAMES.get(name.strip().lower())
            if split is None:
                row = int(np.flatnonzero(numbers == number)[0])
                raise self.wrong(
                    self._line(row), f"split {name!r} is not one of {', '.join(SPLIT_NAMES)}"
                )
            found = np.flatnonzero(numbers == number)
            if split in places:  # under another of its names
                found = np.sort(np.concatenate([places[split], found]))
            places[split] = found
        return places

    def _weights(self, lines: Sequence[int], values: Sequence[Any]) -> NDArray[np.float64]:
        """Read numbers that are not negative."""
        result = np.empty(len(values))
        for row, value in enumerate(values):
            try:
                result[row] = float(value)
            except (TypeError, ValueError, OverflowError):
                result[row] = math.nan
            if not 0 <= result[row] < math.inf:
                what = f"weight {str(value)[:50]!r} must be a number from 0 up"
                raise self.wrong(lines[row], what)
        return result

    def _require_unique(self, keys: Names) -> None:
        """Refuse an image that is listed twice."""
        hashes = np.fromiter(map(hash, keys), np.int64, len(keys))
        values, counts = np.unique(hashes, return_counts=True)
        for value in values[counts > 1].tolist():  # equal hashes nearly always mean equal names
            seen: dict[str, int] = {}
            for row in np.flatnonzero(hashes == value).tolist():
                first = seen.setdefault(keys[row], row)
                if first != row:
                    raise self.wrong(
                        self._line(row),
                        f"{keys[row]!r} stands in line {self._line(first)} already; "
                        "name each image once, with several labels as a|b",
                    )

    def _require_files(self, keys: Names) -> None:
        """Look for a few of the files, before hours are spent: a wrong folder finds none."""
        places = np.unique(np.linspace(0, len(keys) - 1, TRIES).astype(int)).tolist()
        tried = [self.path.parent / keys[i] for i in places]
        if not any(os.path.exists(each) for each in tried):
            raise DataError(
                f"{self.path}: {tried[0]} is not there, nor any other of {len(tried)} files tried; "
                "paths are relative to the folder of the manifest"
            )

    def _line(self, row: int) -> int:
        return int(np.concatenate(self.lines)[row])

    def wrong(self, line: int, what: str) -> DataError:
        """Word what is wrong with a line."""
        return DataError(f"{self.path}: line {line}: {what}")


def _find_columns(path: Path, columns: Iterable[str]) -> dict[str, str]:
    """Tell by their names what the columns mean. Raises DataError where path or label lacks."""
    lower: dict[str, str] = {}
    for name in columns:
        other = lower.setdefault(name.strip().lower(), name)
        if other != name:
            raise DataError(f"{path}: columns {other!r} and {name!r} have one name; rename one")
    found = {}
    for meaning, names in COLUMNS.items():
        near = [lower[name] for name in names if name in lower]
        if near:
            found[meaning] = near[0]
        elif meaning in ("path", "label"):
            there = ", ".join(lower) or "nothing"
            raise DataError(
                f"{path}: no column {meaning!r}{did_you_mean(meaning, lower)}; there is "
                f"{there[:200]}; the first line must name the columns: path,label[,split][,weight]"
            )
    return found


def _joined(blocks: Sequence[Names]) -> Names:
    """Put packed names one after the other."""
    lengths = [len(each.block) for each in blocks]
    starts = np.cumsum([0, *lengths[:-1]])
    ends = [each.ends + start for each, start in zip(blocks, starts, strict=True)]
    return Names(np.concatenate([each.block for each in blocks]), np.concatenate(ends))
