"""Where each image lies in a Parquet file, so that one can be read without its whole row group.

Image columns are stored without compression by most writers, as images are compressed already.
Then a value is a length and that many bytes, and reading it needs one seek. Only the headers of the
pages and the lengths are looked at. What is stored in any other way is refused here, and read by
pyarrow instead.

Source: Apache Parquet format 2.11, parquet.thrift (PageHeader) and Encodings.md.
"""

import os
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitrail.data.arrow import thrift

HEADER = 16384  # bytes that are read for a page header; statistics can make it long
SMALL = 4096  # bytes a value on average, below which a page is read whole to find its values
DATA, DICTIONARY, DATA_V2 = 0, 2, 3  # kinds of pages
PLAIN, PLAIN_DICTIONARY, RLE, RLE_DICTIONARY = 0, 2, 3, 8  # encodings


class OtherwiseStoredError(Exception):
    """The column is not stored in the plain way, or not as its headers say."""


class _Page(NamedTuple):
    """A data page; offsets are in the file."""

    rows: int
    indexed: bool  # whether it holds places in the dictionary
    levels: int  # what tells values and nulls apart
    level_bytes: int
    values: int
    end: int


class Chunk:
    """Finds the values of one column chunk: one column of one row group, not compressed."""

    def __init__(self, file: int, span: tuple[int, int], rows: int, level: int) -> None:
        """Read the headers of the pages.

        Args:
            file: descriptor.
            span: offset and bytes of the chunk in the file.
            level: definition level of a value that is there; the column does not repeat.
        Raises:
            OtherwiseStoredError, ThriftError: use pyarrow.
        """
        self.level = level
        self.dictionary: NDArray[np.int64] | None = None
        pages: list[_Page] = []
        at, end = span[0], sum(span)
        row = 0
        while row < rows:
            header, size = thrift.read_struct(os.pread(file, min(HEADER, end - at), at))
            body, at = at + size, at + size + thrift.number(header, 3)
            if at > end or header.get(2) != header[3]:  # compressed
                raise OtherwiseStoredError
            if header.get(1) == DICTIONARY and not pages and self.dictionary is None:
                self.dictionary = _dictionary(file, header, body, at)
            elif header.get(1) in (DATA, DATA_V2):
                pages.append(_page(file, header, body, at, level))
                row += pages[-1].rows
            else:
                raise OtherwiseStoredError
        if row != rows:
            raise OtherwiseStoredError
        # Arrays, as objects would take hundreds of bytes a page, in each worker.
        self.pages = np.array(pages, np.int64).reshape(-1, len(_Page._fields))
        self.ends = np.cumsum(self.pages[:, 0])  # rows up to the end of each page
        self.found = np.zeros((rows, 2), np.int64)  # offset, bytes; 0 where not looked yet

    def find(self, file: int, row: int) -> tuple[int, int] | None:
        """Give offset and bytes of the value in a row; None for null. Raises as above."""
        if not self.found[row, 0]:
            place = int(np.searchsorted(self.ends, row, side="right"))
            page = _Page(*self.pages[place].tolist())
            end = int(self.ends[place])
            self.found[end - page.rows : end] = self._values(file, page)
        start, size = self.found[row].tolist()
        return None if start < 0 else (start, size)

    def _values(self, file: int, page: _Page) -> NDArray[np.int64]:
        """Give offset and bytes of each value of a page, -1 for null."""
        there = np.ones(page.rows, bool)
        if self.level:
            raw = os.pread(file, page.level_bytes, page.levels)
            there = decode_hybrid(raw, self.level.bit_length(), page.rows) == self.level
        count = int(there.sum())
        if not page.indexed:
            values = _plain(file, page.values, page.end, count)
        else:
            raw = os.pread(file, page.end - page.values, page.values)
            places = decode_hybrid(raw[1:], raw[0], count) if raw else np.empty(0, np.int64)
            if len(places) != count:
                raise OtherwiseStoredError
            if self.dictionary is None or (places >= len(self.dictionary)).any():
                raise OtherwiseStoredError
            values = self.dictionary[places]
        result = np.full((page.rows, 2), -1)
        result[there] = values
        return result


def _dictionary(file: int, header: thrift.Fields, body: int, end: int) -> NDArray[np.int64]:
    about = thrift.struct(header, 7)
    if thrift.number(about, 2) not in (PLAIN, PLAIN_DICTIONARY):
        raise OtherwiseStoredError
    return _plain(file, body, end, thrift.number(about, 1))


def _page(file: int, header: thrift.Fields, body: int, end: int, level: int) -> _Page:
    """Tell apart levels and values of a data page."""
    second = header[1] == DATA_V2
    about = thrift.struct(header, 8 if second else 5)
    encoding = thrift.number(about, 4 if second else 2)
    if encoding not in (PLAIN, PLAIN_DICTIONARY, RLE_DICTIONARY):
        raise OtherwiseStoredError
    levels = (body, 0)
    if second:
        levels = (body, thrift.number(about, 5))
        if thrift.number(about, 6):  # repetition levels
            raise OtherwiseStoredError
    elif level:
        if thrift.number(about, 3) != RLE:
            raise OtherwiseStoredError
        levels = (body + 4, int.from_bytes(os.pread(file, 4, body), "little"))
    values = sum(levels)
    rows = thrift.number(about, 1)
    if values > end or not rows:
        raise OtherwiseStoredError
    return _Page(rows, encoding != PLAIN, *levels, values, end)


def _plain(file: int, start: int, end: int, count: int) -> NDArray[np.int64]:
    """Walk over values, each with four bytes of length before it."""
    if count * 4 > end - start:
        raise OtherwiseStoredError
    whole = os.pread(file, end - start, start) if end - start < SMALL * count else None
    found, at = [], start
    for _ in range(count):
        raw = os.pread(file, 4, at) if whole is None else whole[at - start : at - start + 4]
        size = int.from_bytes(raw, "little")
        found.append((at + 4, size))
        at += 4 + size
        if at > end or len(raw) < 4:
            raise OtherwiseStoredError
    if at != end:  # compressed after all, or damaged
        raise OtherwiseStoredError
    return np.array(found, np.int64).reshape(count, 2)


def decode_hybrid(data: bytes, width: int, count: int) -> NDArray[np.int64]:
    """Decode `count` numbers of `width` bits: runs of one number, and bit-packed groups of eight.

    Raises:
        OtherwiseStoredError: they are not there.
    """
    result, done, at = np.zeros(count, np.int64), 0, 0
    if width > 32:
        raise OtherwiseStoredError
    while width and done < count:
        header, at = thrift.varint(data, at)
        if header & 1:
            size = (header >> 1) * width
            bits = np.unpackbits(np.frombuffer(data[at : at + size], np.uint8), bitorder="little")
            rows = bits[: len(bits) // width * width].reshape(-1, width)
            run = rows[: count - done] @ (1 << np.arange(width))
            result[done : done + len(run)] = run
            done += len(run)
        else:
            size, length = (width + 7) // 8, header >> 1
            result[done : done + length] = int.from_bytes(data[at : at + size], "little")
            done += length
        if header < 2:  # an empty run
            raise OtherwiseStoredError
        at += size
        if at > len(data):
            raise OtherwiseStoredError
    return result
