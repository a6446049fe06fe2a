"""Tables as text: comma- or tab-separated values and JSON lines, in chunks of rows."""

import csv
import gc
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from vitrail.errors import DataError

CHUNK = 4096  # rows that are held as objects at a time; more would leave the processor's cache

Columns = dict[str, Sequence[Any]]  # name and values of each column
Chunk = tuple[Sequence[int], Columns]  # some rows: the line in which each ends, and their values


def separated(file: TextIO, path: Path) -> Iterator[Chunk]:
    """Read comma- or tab-separated values, in chunks of rows; empty lines are passed over.

    The first chunk has no rows: it says which columns there are.

    Raises:
        DataError: a row has more or fewer values than there are columns, a quote is not closed, or
            two columns have one name.
    """
    reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
    try:
        header = next(reader, [])
        twice = [name for name in header if header.count(name) > 1]
        if twice:
            raise DataError(f"{path}: column {twice[0]!r} stands twice; give each its own name")
        yield (), {name: () for name in header}
        before = reader.line_num
        while rows := list(islice(reader, CHUNK)):
            lines: Sequence[int] = range(before + 1, reader.line_num + 1)
            if len(lines) != len(rows):  # a line break inside quotes makes a row longer
                breaks = [sum(value.count("\n") for value in row) for row in rows]
                lines = (before + np.cumsum(1 + np.array(breaks))).tolist()
            before = reader.line_num
            if set(map(len, rows)) != {len(header)}:
                lines, rows = _whole(lines, rows, len(header), path)
            if rows:
                yield lines, dict(zip(header, zip(*rows, strict=True), strict=True))
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: {error}") from None


def _whole(
    lines: Sequence[int], rows: Sequence[list[str]], columns: int, path: Path
) -> tuple[list[int], list[list[str]]]:
    """Leave out empty rows. Raises DataError for one with another number of values."""
    kept = [(line, row) for line, row in zip(lines, rows, strict=True) if row]
    for line, row in kept:
        if len(row) != columns:
            raise DataError(
                f"{path}: line {line}: {len(row)} values for {columns} columns; "
                "put a value that holds the separator in double quotes"
            )
    return [line for line, _ in kept], [row for _, row in kept]


def json_lines(file: TextIO, path: Path) -> Iterator[Chunk]:
    """Read one JSON object a line, in chunks; the first one says which columns there are.

    Raises:
        DataError: a line is no JSON object, or lacks what the first one has.
    """
    numbered = ((i, line) for i, line in enumerate(file, start=1) if line.strip())
    names: list[str] = []
    while chunk := list(islice(numbered, CHUNK)):
        rows = [_object(line, path, i) for i, line in chunk]
        names = names or list(rows[0])
        for (i, _), row in zip(chunk, rows, strict=True):
            lacking = [name for name in names if name not in row]
            if lacking:
                raise DataError(f"{path}: line {i}: {lacking[0]!r} is missing; line 1 has it")
        yield [i for i, _ in chunk], {name: [row[name] for row in rows] for name in names}


def _object(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: line {number}: {error}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: line {number}: an object such as {{'path': …}} is expected")
    return value


@contextmanager
def no_collection() -> Iterator[None]:
    """Spare the search for cycles: millions of rows come and go, and none of them has any.

    A million lines take half the time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Numbered:
    """Numbers the different values of a column, in the order in which they come."""

    def __init__(self) -> None:
        """Begin without any."""
        self.known = _Counter()
        self.parts: list[NDArray[np.int64]] = []

    def add(self, values: Sequence[str]) -> None:
        """Take the values of a chunk."""
        self.parts.append(np.fromiter(map(self.known.__getitem__, values), np.int64, len(values)))

    def names(self) -> list[str]:
        """Give the different values."""
        return list(self.known)

    def numbers(self) -> NDArray[np.int64]:
        """Give the number of each row's value."""
        return np.concatenate(self.parts)


class _Counter(dict[str, int]):
    """Gives each new key the next number."""

    def __missing__(self, key: str) -> int:
        number = self[key] = len(self)
        return number
