"""Tables as text: comma- or tab-separated values and JSON lines, in chunks of rows."""

import csv
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from vitrail.errors import DataError

CHUNK = 4096  # rows that are held as objects at a time; more would leave the processor's cache

Columns = dict[str, Sequence[Any]]  # a chunk of rows: name and values of each column


def separated(file: TextIO, path: Path) -> Iterator[tuple[int, Columns]]:
    """Read comma- or tab-separated values: number of the first line, and columns, of each chunk.

    The first chunk has no rows: it says which columns there are. Lines are counted as rows, so
    after an empty line or a line break inside quotes the numbers are too small.

    Raises:
        DataError: a row has more or fewer values than there are columns, or a quote is not closed.
    """
    reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
    try:
        header = next(reader, [])
        yield 2, {name: () for name in header}
        while True:
            first = reader.line_num + 1
            rows = [row for row in islice(reader, CHUNK) if row]
            if not rows:
                return
            if set(map(len, rows)) != {len(header)}:
                at, row = next((i, row) for i, row in enumerate(rows) if len(row) != len(header))
                raise DataError(
                    f"{path}: line {first + at}: {len(row)} values for {len(header)} columns; "
                    "put a value that holds the separator in double quotes"
                )
            yield first, dict(zip(header, zip(*rows, strict=True), strict=True))
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: {error}") from None


def json_lines(file: TextIO, path: Path) -> Iterator[tuple[int, Columns]]:
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
        yield chunk[0][0], {name: [row[name] for row in rows] for name in names}


def _object(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: line {number}: {error}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: line {number}: an object such as {{'path': …}} is expected")
    return value
