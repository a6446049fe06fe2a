"""Puts the samples of chosen shards, out of one index or several, into one index."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.data.dataset import Names
from vitrail.data.shards.table import ShardIndex, Table, Word


def join(parts: Sequence[tuple[ShardIndex, int]]) -> ShardIndex:
    """Make an index of shards of other indexes, each given by its place there."""
    firsts = {id(index): index.firsts() for index, _ in parts}
    tables = [_rows(index, *firsts[id(index)][k : k + 2].tolist()) for index, k in parts]
    words: dict[Word, int] = {}
    labels = []
    for table in tables:
        numbers = np.array([words.setdefault(word, len(words)) for word in table.words], np.int32)
        labels.append(numbers[table.labels])
    return ShardIndex(
        tuple(index.entries[k] for index, k in parts),
        Table(
            _join_names([table.keys for table in tables]),
            _join_arrays([table.starts for table in tables]),
            _join_arrays([table.sizes for table in tables]),
            _join_arrays(labels),
            _join_ends([table.label_ends for table in tables]),
            tuple(words),
            _join_or_none([(table.weights, len(table.keys)) for table in tables], np.nan, ()),
            _join_or_none([(table.sha256, len(table.keys)) for table in tables], 0.0, (32,)),
            _join_origins(tables),
        ),
    )


def _rows(index: ShardIndex, first: int, last: int) -> Table:
    """Take the samples from place `first` to before `last`, and the words that they use."""
    if len(index.entries) == 1:
        return index.table
    table, rows = index.table, slice(first, last)
    ends = table.label_ends
    start = int(ends[first - 1]) if first else 0
    used, labels = np.unique(
        table.labels[start : int(ends[last - 1]) if last else 0], return_inverse=True
    )
    return Table(
        _some_names(table.keys, first, last),
        table.starts[rows],
        table.sizes[rows],
        labels.astype(np.int32),
        ends[rows] - start,
        tuple(table.words[i] for i in used),
        None if table.weights is None else table.weights[rows],
        None if table.sha256 is None else table.sha256[rows],
        None if table.origins is None else _some_names(table.origins, first, last),
    )


def _some_names(names: Names, first: int, last: int) -> Names:
    start = int(names.ends[first - 1]) if first else 0
    end = int(names.ends[last - 1]) if last else 0
    return Names(names.block[start:end], names.ends[first:last] - start)


def _join_names(parts: Sequence[Names]) -> Names:
    return Names(_join_arrays([each.block for each in parts]), _join_ends([e.ends for e in parts]))


def _join_ends(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Join ends of parts that follow each other."""
    lengths = [int(ends[-1]) if len(ends) else 0 for ends in parts]
    starts = np.cumsum([0, *lengths])
    return _join_arrays([ends + start for ends, start in zip(parts, starts, strict=False)])


def _join_arrays(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _join_or_none(
    parts: Sequence[tuple[NDArray[Any] | None, int]], missing: float, shape: tuple[int, ...]
) -> NDArray[Any] | None:
    """Join arrays that only some parts have."""
    given = [part for part, _ in parts if part is not None]
    if not given:
        return None
    kind = given[0].dtype
    return _join_arrays(
        [np.full((n, *shape), missing, kind) if part is None else part for part, n in parts]
    )


def _join_origins(tables: Sequence[Table]) -> Names | None:
    if all(table.origins is None for table in tables):
        return None
    return _join_names([table.origins or Names.of([""] * len(table.keys)) for table in tables])
