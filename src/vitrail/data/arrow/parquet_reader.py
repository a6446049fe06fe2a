"""Reads the image in any row of Parquet files, in any order, in any process.

Where the images lie uncompressed in a local file, one seek finds each (`parquet_pages`). Otherwise
the row group around a row is decoded, of the image column alone, and the latest ones are kept.
"""

import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.data import remote
from vitrail.data.arrow import thrift
from vitrail.data.arrow.columns import Columns, one_line
from vitrail.data.arrow.parquet_files import open_file, read_footer, stamp, version
from vitrail.data.arrow.parquet_pages import Chunk, OtherwiseStoredError
from vitrail.errors import DataError, ImageError

KEPT = 256 << 20  # bytes of decoded row groups that a process keeps
OPEN = 32  # files that a process keeps open


@dataclass(frozen=True)
class Part:
    """The image column of one file."""

    path: str  # or an address with ://
    column: str  # as pyarrow selects it: `image.bytes`, or `image` where it holds bytes itself
    level: int  # definition level of a value that is there
    ends: NDArray[np.int64]  # rows up to the end of each row group
    chunks: NDArray[np.int64]  # row group x (offset, bytes); offset -1 where it must be decoded
    largest: int  # bytes of a row group, decoded
    version: tuple[int, str]  # bytes, time of change


def describe(path: str, file: Any, columns: Columns) -> Part:
    """Say where the images of an open file lie. Raises DataError."""
    name = columns.image if columns.plain else f"{columns.image}.bytes"
    now = version(path)
    with one_line(path, "its metadata cannot be read", "write or download it again"):
        schema = file.metadata.schema
        place = [schema.column(i).path for i in range(len(schema.names))].index(name)
        leaf = schema.column(place)
        footer, _ = thrift.read_struct(read_footer(path, now[0]))
        groups = thrift.structs(footer, 4)
        rows = [thrift.number(group, 3) for group in groups]
        chunks = [thrift.structs(group, 1)[place] for group in groups]
        flat = leaf.physical_type == "BYTE_ARRAY" and not leaf.max_repetition_level
        direct = flat and not remote.is_remote(path)  # there, each seek would be a request
        spans = [_span(chunk, now[0] if direct else -1) for chunk in chunks]
        sizes = [thrift.number(thrift.struct(chunk, 3), 6) for chunk in chunks]
    if sum(rows) != file.metadata.num_rows:
        raise DataError(
            f"{path}: its row groups have {sum(rows)} rows, but it says {file.metadata.num_rows}; "
            "write or download it again"
        )
    return Part(
        path,
        name,
        leaf.max_definition_level,
        np.cumsum(rows, dtype=np.int64),
        np.array(spans, np.int64).reshape(-1, 2),
        max(sizes, default=0),
        now,
    )


def _span(chunk: thrift.Fields, size: int) -> tuple[int, int]:
    """Give offset and bytes of a column chunk in a file of so many bytes; -1 where it is unfit.

    Fields: 1 file, 3 metadata; there 4 codec, 7 bytes, 9 first data page, 11 dictionary page.
    """
    about = thrift.struct(chunk, 3)
    start, length = thrift.number(about, 9), thrift.number(about, 7)
    if about.get(11):  # 0 is written by mistake where there is none
        start = min(start, thrift.number(about, 11))
    plain = about.get(4) == 0 and 1 not in chunk
    return (start, length) if plain and start + length <= size else (-1, 0)


class RowReader:
    """Reads the image of row i of all parts, one after the other; can be sent to processes."""

    def __init__(self, parts: Sequence[Part]) -> None:
        """Nothing is opened before the first read."""
        self.parts = tuple(parts)
        self.ends = np.cumsum([part.ends[-1] if len(part.ends) else 0 for part in parts])
        self.chunks: dict[tuple[int, int], Chunk | None] = {}  # None: it must be decoded
        self.groups: OrderedDict[tuple[int, int], Any] = OrderedDict()  # decoded, latest last
        self.files: OrderedDict[int, Any] = OrderedDict()
        self.process = os.getpid()  # that opened the files

    def __reduce__(self) -> tuple[type["RowReader"], tuple[tuple[Part, ...]]]:
        """Send the parts to a process, not what was opened or decoded."""
        return RowReader, (self.parts,)

    def where(self, i: int) -> str:
        """Name a row, at the beginning of an error."""
        place, row = self._locate(i)
        return f"{self.parts[place].path}:{row}"

    def _locate(self, i: int) -> tuple[int, int]:
        """Give part and row in it."""
        place = int(np.searchsorted(self.ends, i, side="right"))
        return place, i - int(self.ends[place - 1] if place else 0)

    def __call__(self, i: int) -> bytes:
        """Give the bytes of the image in row i.

        Raises:
            ImageError: there is none, or the file cannot be read or has changed.
        """
        place, row = self._locate(i)
        part = self.parts[place]
        group = int(np.searchsorted(part.ends, row, side="right"))
        inside = row - int(part.ends[group - 1] if group else 0)
        try:
            with one_line(f"{part.path}:{row}", "cannot be read", "check the file"):
                try:
                    data = self._seek(place, group, inside)
                except (OtherwiseStoredError, thrift.ThriftError):
                    self.chunks[place, group] = None
                    data = self._decode(place, group, inside)
        except DataError as error:
            raise ImageError(str(error)) from None
        if data is None:
            raise ImageError(f"{part.path}:{row}: the row has no image (null)")
        return data

    def _seek(self, place: int, group: int, row: int) -> bytes | None:
        """Read the bytes where they lie. Raises OtherwiseStoredError."""
        part, key = self.parts[place], (place, group)
        start, size = part.chunks[group].tolist()
        if start < 0 or self.chunks.get(key, True) is None:
            raise OtherwiseStoredError
        file = os.open(part.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _require_same(part, stamp(os.fstat(file)))
            chunk = self.chunks.get(key)
            if chunk is None:
                first = int(part.ends[group - 1]) if group else 0
                chunk = Chunk(file, (start, size), int(part.ends[group]) - first, part.level)
                self.chunks[key] = chunk
            found = chunk.find(file, row)
            return None if found is None else os.pread(file, found[1], found[0])
        finally:
            os.close(file)

    def _decode(self, place: int, group: int, row: int) -> bytes | None:
        """Decode the row group, unless it is among the latest."""
        key = (place, group)
        if key in self.groups:
            self.groups.move_to_end(key)
        else:
            column = self.parts[place].column
            table = self._file(place).read_row_group(group, columns=[column], use_threads=False)
            self.groups[key] = table.column(0)
            while len(self.groups) > 1 and sum(each.nbytes for each in self.groups.values()) > KEPT:
                self.groups.popitem(last=False)
        value = self.groups[key][row].as_py()
        data: bytes | None = value["bytes"] if isinstance(value, dict) else value
        return data

    def _file(self, place: int) -> Any:
        """Give the open file of a part; a forked process opens its own."""
        if self.process != os.getpid():
            self.files, self.process = OrderedDict(), os.getpid()
        if place not in self.files:
            part = self.parts[place]
            _require_same(part, version(part.path))
            self.files[place] = open_file(part.path)
            if len(self.files) > OPEN:
                self.files.popitem(last=False)[1].close()
        self.files.move_to_end(place)
        return self.files[place]


def _require_same(part: Part, now: tuple[int, str]) -> None:
    """Refuse a file that was written again since it was listed."""
    if now != part.version:
        raise DataError(f"{part.path}: the file has changed since it was opened; start again")
