"""Where images lie in a Parquet file, against what pyarrow reads of it."""

import io
import os
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.parquets import content, images
from vitrail.data.arrow.parquet_pages import Chunk, OtherwiseStoredError, decode_hybrid
from vitrail.data.arrow.thrift import ThriftError

values = st.none() | st.sampled_from([b"", b"again", b"x" * 5000]) | st.binary(max_size=40)
rows = st.lists(st.none() | st.fixed_dictionaries({"bytes": values}), min_size=1, max_size=60)
options = st.fixed_dictionaries(
    {
        "use_dictionary": st.booleans(),
        "data_page_version": st.sampled_from(["1.0", "2.0"]),
        "data_page_size": st.sampled_from([1, 100, 10_000]),
        "write_batch_size": st.sampled_from([1, 3, 1024]),
        "dictionary_pagesize_limit": st.sampled_from([1, 50, 1 << 20]),
        "write_page_checksum": st.booleans(),
    }
)


def stored(column: pa.Array | pa.Table, **how: Any) -> tuple[bytes, tuple[int, int], int]:
    """Write one row group; give the file, the place of its chunk and the definition level."""
    out = io.BytesIO()
    table = column if isinstance(column, pa.Table) else pa.table({"image": column})
    pq.write_table(table, out, **({"compression": "none"} | how))
    metadata = pq.ParquetFile(io.BytesIO(out.getvalue())).metadata
    chunk = metadata.row_group(0).column(0)
    start = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
    level = metadata.schema.column(0).max_definition_level
    return out.getvalue(), (start, chunk.total_compressed_size), level


def all_values(data: bytes, span: tuple[int, int], n: int, level: int) -> list[bytes | None]:
    """Find every value, the last first, in a file that only lives in memory."""
    file = os.memfd_create("x")
    try:
        os.write(file, data)
        chunk = Chunk(file, span, n, level)
        places = [chunk.find(file, row) for row in reversed(range(n))][::-1]
        return [None if p is None else data[p[0] : p[0] + p[1]] for p in places]
    finally:
        os.close(file)


@settings(deadline=None, max_examples=60)
@given(rows, options)
def test_the_same_values_as_pyarrow(rows: list[Any], options: dict[str, Any]) -> None:
    wanted = [None if row is None else row["bytes"] for row in rows]
    column = pa.array(rows, pa.struct([("bytes", pa.binary())]))
    data, span, level = stored(column, **options)
    assert all_values(data, span, len(rows), level) == wanted


@pytest.mark.parametrize("nullable", [True, False])
def test_a_column_that_may_not_be_null(nullable: bool) -> None:
    schema = pa.schema([pa.field("image", pa.binary(), nullable=nullable)])
    table = pa.table([[content(i) for i in range(20)]], schema=schema)
    data, span, level = stored(table)
    assert level == int(nullable)
    assert all_values(data, span, 20, level) == [content(i) for i in range(20)]


@pytest.mark.parametrize("compression", ["snappy", "zstd", "gzip", "lz4", "brotli"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_compressed_pages_are_refused(compression: str, version: str) -> None:
    column = images(50)
    data, span, level = stored(column, compression=compression, data_page_version=version)
    with pytest.raises(OtherwiseStoredError):
        all_values(data, span, 50, level)


def test_other_encodings_are_refused() -> None:
    column = pa.array([content(i) for i in range(20)])
    how = {"use_dictionary": False, "column_encoding": {"image": "DELTA_LENGTH_BYTE_ARRAY"}}
    data, span, level = stored(column, **how)
    with pytest.raises(OtherwiseStoredError):
        all_values(data, span, 20, level)


@pytest.mark.parametrize("n", [0, 19, 21, 10**12])
def test_another_number_of_rows(n: int) -> None:
    data, span, level = stored(pa.array([content(i) for i in range(20)]))
    if n == 0:
        assert all_values(data, span, n, level) == []
    else:
        with pytest.raises((OtherwiseStoredError, ThriftError)):
            all_values(data, span, n, level)


@pytest.mark.parametrize("how", [{}, {"use_dictionary": False, "data_page_version": "2.0"}])
def test_damage_is_refused_or_within_the_chunk(how: dict[str, Any]) -> None:
    data, span, level = stored(images(20), **how)
    refused = 0
    for at in range(span[0], sum(span)):
        broken = data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]
        try:
            assert len(all_values(broken, span, 20, level)) == 20
        except (OtherwiseStoredError, ThriftError):
            refused += 1
    assert refused >= 20


def test_a_chunk_that_is_cut_off() -> None:
    data, span, level = stored(images(20))
    for size in range(0, span[1], 7):
        with pytest.raises((OtherwiseStoredError, ThriftError)):
            all_values(data[: span[0] + size], span, 20, level)


# --- runs and bit-packed groups ---


def test_example_of_the_format() -> None:
    """Encodings.md: the numbers 0 to 7 with width 3."""
    packed = bytes([0b10001000, 0b11000110, 0b11111010])
    assert decode_hybrid(b"\x03" + packed, 3, 8).tolist() == list(range(8))
    assert decode_hybrid(b"\x03" + packed, 3, 5).tolist() == list(range(5))


def test_runs() -> None:
    assert decode_hybrid(b"\x06\x02\x04\x01", 2, 5).tolist() == [2, 2, 2, 1, 1]
    assert decode_hybrid(b"\x80\x01\x00\x01", 9, 64).tolist() == [256] * 64
    assert decode_hybrid(b"", 0, 3).tolist() == [0, 0, 0]
    np.testing.assert_array_equal(decode_hybrid(b"\x03\xaa\x04\x01", 1, 10), [0, 1] * 4 + [1, 1])


@pytest.mark.parametrize(
    ("data", "width"),
    [(b"", 1), (b"\x06", 1), (b"\x00\x00", 1), (b"\x01", 1), (b"\x05\xff", 2), (b"\xff", 1)],
)
def test_numbers_that_are_not_there(data: bytes, width: int) -> None:
    with pytest.raises((OtherwiseStoredError, ThriftError)):
        decode_hybrid(data, width, 3)


def test_numbers_that_are_too_wide() -> None:
    with pytest.raises(OtherwiseStoredError):
        decode_hybrid(b"\x06" + bytes(10), 40, 3)
