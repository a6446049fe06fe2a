"""Labels, weights and splits out of Arrow columns, a million rows at a time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.data.arrow.columns import Where
from vitrail.data.dataset import Labels, LabelSets
from vitrail.data.listing import number_classes
from vitrail.data.naming import SPLIT_NAMES
from vitrail.errors import DataError


@dataclass(frozen=True)
class Labelled:
    """The labels of all rows."""

    classes: tuple[str, ...]  # in label order
    labels: Labels
    missing: NDArray[np.bool_]  # rows without a label; theirs is 0, or no class


def plain_type(kind: Any) -> Any:
    """Give the type that a label column is brought to, so that parts of it can be joined."""
    import pyarrow as pa

    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.large_list(plain_type(kind.value_type))
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    return pa.int64() if pa.types.is_integer(kind) else pa.large_string()


def read_labels(column: Any, names: tuple[str, ...] | None, source: str, where: Where) -> Labelled:
    """Number the labels of a column of `plain_type`.

    Integers count into `names`, which are in label order, and -1 is no label, as Hugging Face
    writes it. Without names, and for texts, the classes are what the column holds, in natural
    order. A list makes the data multi-label.

    Args:
        source: begins an error about the classes; `where` one about a row.
    Raises:
        DataError: a label is outside of the names, or a list holds none.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    missing = column.is_null().to_numpy()
    if not pa.types.is_large_list(column.type):
        classes, labels = _numbered(column, names, source, where)
        missing = labels < 0
        return Labelled(classes, np.where(missing, 0, labels), missing)
    ends = np.cumsum(pc.list_value_length(column).fill_null(0).to_numpy())

    def where_value(i: int) -> str:
        return where(int(np.searchsorted(ends, i, side="right")))

    classes, values = _numbered(pc.list_flatten(column), names, source, where_value)
    if (values < 0).any():
        first = int(np.argmax(values < 0))
        raise DataError(f"{where_value(first)}: a label in the list is missing; remove it there")
    rows = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))
    pairs = np.unique(rows * max(len(classes), 1) + values)  # rising, each label once
    counts = np.bincount(pairs // max(len(classes), 1), minlength=len(ends))
    sets = LabelSets(pairs % max(len(classes), 1), np.cumsum(counts), len(classes))
    return Labelled(classes, sets, missing)


def _numbered(
    column: Any, names: tuple[str, ...] | None, source: str, where: Where
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Give the classes and the number of each value; -1 where it is missing."""
    import pyarrow as pa

    if names is not None and pa.types.is_int64(column.type):
        numbers = column.fill_null(-1).to_numpy()
        wrong = np.flatnonzero((numbers < -1) | (numbers >= len(names)))
        if len(wrong):
            raise DataError(
                f"{where(int(wrong[0]))}: label {numbers[wrong[0]]} is outside of the "
                f"{len(names)} classes, 0 to {len(names) - 1}"
            )
        number_classes(names, source)  # checks them
        return names, numbers
    encoded = column.dictionary_encode().unify_dictionaries()
    values = encoded.chunk(0).dictionary.to_pylist() if encoded.num_chunks else []
    texts = [str(value) for value in values]
    classes = number_classes(texts, source)
    place = {name: i for i, name in enumerate(classes)}
    table = np.array([*(place[text] for text in texts), -1], np.int64)
    indices = [
        chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False) for chunk in encoded.chunks
    ]
    return classes, table[np.concatenate([np.empty(0, np.int64), *indices])]


def read_weights(column: Any, source: str, where: Where) -> NDArray[np.float64]:
    """Read how often each row is drawn. Raises DataError where it is no number from 0 up."""
    import pyarrow as pa

    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise DataError(f"{source}: column 'weight' is {kind}; numbers are expected")
    weights: NDArray[np.float64] = column.cast(pa.float64()).fill_null(np.nan).to_numpy()
    wrong = np.flatnonzero(~((weights >= 0) & (weights < np.inf)))
    if len(wrong):
        raise DataError(
            f"{where(int(wrong[0]))}: weight {weights[wrong[0]]} must be a number from 0 up"
        )
    return weights


def read_splits(column: Any, source: str, where: Where) -> dict[str, NDArray[np.int64]]:
    """Find the rows of each split. Raises DataError where a name is not known."""
    import pyarrow as pa

    if pa.types.is_integer(column.type) or plain_type(column.type) != pa.large_string():
        raise DataError(f"{source}: column 'split' is {column.type}; names are expected")
    names = column.cast(pa.large_string()).dictionary_encode().combine_chunks()
    known = [SPLIT_NAMES.get(name.strip().lower(), "") for name in names.dictionary.to_pylist()]
    codes = names.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    splits = np.array([*known, ""])[codes]
    wrong = np.flatnonzero(splits == "")
    if len(wrong):
        raise DataError(
            f"{where(int(wrong[0]))}: split {names[int(wrong[0])].as_py()!r} is not one of "
            f"{', '.join(SPLIT_NAMES)}"
        )
    return {name: np.flatnonzero(splits == name) for name in sorted(set(known))}


def leave_out_unlabelled(
    missing: NDArray[np.bool_], splits: Mapping[str, NDArray[np.int64]], where: Where
) -> tuple[dict[str, NDArray[np.int64]], tuple[str, ...]]:
    """Drop a val or test split that has no labels at all, as competitions publish them.

    Returns:
        the splits that are left, and a note for each that is not.
    Raises:
        DataError: a row among others has no label.
    """
    kept, notes = {}, []
    for name, places in (splits or {"": np.arange(len(missing))}).items():
        lacking = places[missing[places]]
        if len(lacking) and len(lacking) == len(places) and name in ("val", "test"):
            notes.append(f"{name} is left out: none of its {len(places)} images has a label")
            continue
        if len(lacking):
            raise DataError(
                f"{where(int(lacking[0]))}: the label is missing, as in {len(lacking)} of "
                f"{len(places)} rows{f' of {name}' if name else ''}; add it or remove the row"
            )
        kept[name] = places
    return (kept if splits else {}), tuple(notes)
