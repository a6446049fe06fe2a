"""Parquet files with the images inside, as Hugging Face lays them out.

A column of structs (`bytes`, `path`) holds the image files, another one the labels: integers that
the metadata names, texts, or lists for several labels. The key of an image is `FILE:ROW`, with the
path of the file below the root and rows counted from 0. A file with a column of paths instead of
images is a manifest.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitrail.data import manifest, remote
from vitrail.data.arrow.columns import (
    Columns,
    choose_columns,
    class_names,
    image_columns,
    one_line,
    read_choice,
    read_features,
    row_keys,
    split_choice,
)
from vitrail.data.arrow.labels import (
    leave_out_unlabelled,
    plain_type,
    read_labels,
    read_splits,
    read_weights,
)
from vitrail.data.arrow.parquet_files import Found, find_files, matches, open_file
from vitrail.data.arrow.parquet_reader import Part, RowReader, describe
from vitrail.data.listing import Listing
from vitrail.data.tables import CHUNK, Chunk
from vitrail.errors import DataError

__all__ = ["list_parquet", "matches"]

SLOW = 4 << 20  # bytes decoded for one image, above which it is told: 1.6 ms, more than the image


class _Opened(NamedTuple):
    """What is read of one file before training."""

    part: Part
    names: tuple[str, ...] | None  # of the classes, where the metadata tells them
    table: Any  # label, weight, split


def list_parquet(source: str) -> Listing:
    """List the rows of Parquet files: one file, a glob, a folder, or an address with ://.

    Splits are told by a column `split`; else, in a folder or glob, by the names of folders, or by
    how the file names begin (`train-00000-of-00002.parquet`).

    Raises:
        DataError: pyarrow is missing; a file is damaged or unlike the others; a column cannot be
            chosen; a row has no label.
    """
    place, text = split_choice(source)
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise DataError(
            f"{place}: needs the extra parquet: pip install 'vitrail[parquet]'"
        ) from None
    choice = read_choice(text, place)
    found = find_files(place)
    paths = [f"{found.root}/{name}" for name in found.files]
    schema = _schema(open_file(paths[0]), paths[0])
    if len(paths) == 1 and not text and not remote.is_remote(place) and not image_columns(schema):
        return manifest.list_rows(Path(paths[0]), _rows(paths[0], schema.names))
    features = read_features(schema.metadata, paths[0])
    columns = choose_columns(schema, features, choice, paths[0])
    return _join(place, found, columns, [_open(path, columns) for path in paths])


def _schema(file: Any, path: str) -> Any:
    with one_line(path, "its columns cannot be read", "write or download it again"):
        return file.schema_arrow


def _open(path: str, columns: Columns) -> _Opened:
    """Read the labels of one file, and where its images lie."""
    file = open_file(path)
    schema = _schema(file, path)
    wanted = [name for name in (columns.label, columns.weight, columns.split) if name]
    lacking = [name for name in (columns.image, *wanted) if schema.names.count(name) != 1]
    if lacking:
        raise DataError(f"{path}: no column {lacking[0]!r}, which the first file has; add it")
    names = class_names(read_features(schema.metadata, path), columns.label, path)
    part = describe(path, file, columns)
    with one_line(path, "its labels cannot be read", "write or download it again"):
        table = file.read(columns=wanted, use_threads=False)
        file.close()
        label = table.column(columns.label)
        label = label.cast(plain_type(label.type))
        table = table.set_column(table.column_names.index(columns.label), columns.label, label)
    if len(table) != file.metadata.num_rows:
        raise DataError(f"{path}: {len(table)} of {file.metadata.num_rows} labels; write it again")
    return _Opened(part, names, table)


def _join(place: str, found: Found, columns: Columns, opened: Sequence[_Opened]) -> Listing:
    """Put the files together."""
    for name in (columns.label, columns.weight, columns.split):
        _require_alike(name, opened)
    reader = RowReader([each.part for each in opened])
    labelled = read_labels(_column(columns.label, opened), opened[0].names, place, reader.where)
    rows = [len(each.table) for each in opened]
    if columns.split:
        splits = read_splits(_column(columns.split, opened), place, reader.where)
    else:
        splits = _file_splits(found.splits, rows)
    splits, notes = leave_out_unlabelled(labelled.missing, splits, reader.where)
    weights = (
        read_weights(_column(columns.weight, opened), place, reader.where)
        if columns.weight
        else None
    )
    return Listing(
        name=found.name,
        where=place,
        keys=row_keys(found.files, rows),
        classes=labelled.classes,
        labels=labelled.labels,
        read=reader,
        splits=splits,
        weights=weights,
        notes=(*notes, *_slow([each.part for each in opened])),
    )


def _require_alike(name: str, opened: Sequence[_Opened]) -> None:
    """Refuse files that disagree about a column. Raises DataError."""
    first = opened[0]
    for each in opened if name else ():
        kinds = [one.table.schema.field(name).type for one in (first, each)]
        if kinds[0] != kinds[1]:
            raise DataError(
                f"{each.part.path}: column {name!r} is {kinds[1]}, but {kinds[0]} in "
                f"{first.part.path}; write both alike"
            )
        if each.names != first.names:
            raise DataError(
                f"{each.part.path}: its class names are not those of {first.part.path}; "
                "write both alike"
            )


def _column(name: str, opened: Sequence[_Opened]) -> Any:
    """Put a column of all files together."""
    import pyarrow as pa

    columns = [each.table.column(name) for each in opened]
    return pa.chunked_array([c for each in columns for c in each.chunks], columns[0].type)


def _file_splits(splits: Sequence[str] | None, rows: Sequence[int]) -> dict[str, NDArray[np.int64]]:
    """Find the rows of each split, where the names of the files tell them."""
    if splits is None:
        return {}
    row_splits = np.repeat(np.array(splits), rows)
    return {name: np.flatnonzero(row_splits == name) for name in dict.fromkeys(splits)}


def _slow(parts: Sequence[Part]) -> tuple[str, ...]:
    """Say where much must be decoded to read one image."""
    decoded = max(part.largest if (part.chunks < 0).any() else 0 for part in parts)
    if decoded <= SLOW:
        return ()
    return (
        f"row groups of up to {decoded >> 20} MiB must be decoded to read one image, which "
        "makes shuffled reading slow; `vitrail data pack` writes a copy that is read fast",
    )


def _rows(path: str, names: Sequence[str]) -> Iterator[Chunk]:
    """Give the rows of a manifest in chunks, with the number of each, from 1.

    Only columns that a manifest knows are read; the first chunk has no rows, but names them all.
    """
    yield (), {name: () for name in names}
    known = {name for each in manifest.COLUMNS.values() for name in each}
    wanted = [name for name in names if name.strip().lower() in known]
    first = 1
    file = open_file(path)
    with one_line(path, "its rows cannot be read", "write or download it again"):
        for batch in file.iter_batches(CHUNK, columns=wanted, use_threads=False):
            yield range(first, first + len(batch)), batch.to_pydict()
            first += len(batch)
