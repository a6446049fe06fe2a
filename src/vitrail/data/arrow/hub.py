"""Data sets of Hugging Face: `hf://NAME[@REVISION][:CONFIG]`, or a folder of `save_to_disk`.

The library `datasets` fetches and converts them into Arrow files, which are mapped into memory, so
that any row is read without the others. Since version 4 it runs no code of a data set. The key of
an image is `SPLIT:ROW`, rows counted from 0.
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from vitrail.data.arrow.columns import (
    Choice,
    Columns,
    choose_columns,
    class_names,
    one_line,
    read_choice,
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
from vitrail.data.arrow.reader import ArrowReader
from vitrail.data.listing import Listing
from vitrail.data.naming import SPLIT_NAMES
from vitrail.errors import DataError

PREFIX = "hf://"
_NAME = re.compile(r"(?P<name>[^@:]+)(?:@(?P<revision>[^:]+))?(?::(?P<config>.+))?")


def matches(source: str) -> bool:
    """Whether a string is `hf://NAME`, or a folder that `save_to_disk` wrote."""
    place, _ = split_choice(source)
    if place.startswith(PREFIX):
        return True
    path = os.path.expanduser(place)
    return _is_saved(path) and os.path.isdir(path)


def _is_saved(path: str) -> bool:
    def has(name: str) -> bool:
        return os.path.isfile(os.path.join(path, name))

    return has("dataset_dict.json") or (has("state.json") and has("dataset_info.json"))


def list_hub(source: str) -> Listing:
    """List the rows of a data set of Hugging Face.

    Splits of other names than train, val and test, and those without any label, are left out.

    Raises:
        DataError: the library is missing; there is no such data set, or no network; a column cannot
            be chosen; a row has no label.
    """
    place, text = split_choice(source)
    try:
        import datasets  # noqa: F401
    except ImportError:
        raise DataError(f"{place}: needs the extra hub: pip install 'vitrail[hub]'") from None
    choice = read_choice(text, place)
    loaded = _load(place)
    if not isinstance(loaded, dict):
        return _list(place, {"all": loaded}, {}, choice, ())
    names = {name: SPLIT_NAMES.get(name.lower(), "") for name in loaded}
    taken = {name: part for name, part in loaded.items() if names[name]}
    if not taken:
        raise DataError(
            f"{place}: its splits are {', '.join(map(repr, loaded)) or 'none'}; "
            "allowed are train, val or validation, and test"
        )
    if len({names[name] for name in taken}) < len(taken):
        raise DataError(f"{place}: two of its splits {', '.join(taken)} have the same meaning")
    others = [name for name in loaded if not names[name]]
    notes = [f"splits {', '.join(map(repr, others))} are left out"] if others else []
    return _list(place, taken, names, choice, tuple(notes))


def _load(place: str) -> Any:
    """Give a data set, or several by split. Raises DataError."""
    import datasets

    if not place.startswith(PREFIX):
        with _quiet(), one_line(place, "cannot be read", "save it again"):
            return datasets.load_from_disk(os.path.expanduser(place))
    named = _named(place)
    advice = "check the name, your access and the network; what was fetched before needs none"
    with _quiet(), one_line(place, "cannot be loaded", advice):
        return datasets.load_dataset(
            os.path.expanduser(named["name"]), named["config"], revision=named["revision"]
        )


def _named(place: str) -> re.Match[str]:
    """Take `hf://NAME[@REVISION][:CONFIG]` apart. Raises DataError."""
    named = _NAME.fullmatch(place.removeprefix(PREFIX))
    if named is None:
        raise DataError(f"{place}: allowed is hf://NAME[@REVISION][:CONFIG]")
    return named


def _title(place: str) -> str:
    """Name a data set shortly."""
    name = _named(place)["name"] if place.startswith(PREFIX) else place
    return os.path.basename(os.path.abspath(os.path.expanduser(name)))


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide progress where nobody watches; it goes to stderr otherwise."""
    import datasets

    hide = not (datasets.are_progress_bars_disabled() or sys.stderr.isatty())
    if hide:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if hide:
            datasets.enable_progress_bars()


def _list(
    place: str,
    parts: Mapping[str, Any],
    names: Mapping[str, str],
    choice: Choice,
    notes: tuple[str, ...],
) -> Listing:
    """Put the splits together; `names` says what each is called here, or nothing if it is one."""
    columns, classes = _columns(place, parts, choice)
    counts = [len(part) for part in parts.values()]
    reader = ArrowReader(place, parts, columns.image)
    label = _column(place, parts, columns.label)
    labelled = read_labels(label, classes, place, reader.where)
    if names:
        ends = np.cumsum([0, *counts])
        spans = zip(parts, ends[:-1], ends[1:], strict=True)
        splits = {names[name]: np.arange(start, end) for name, start, end in spans}
    elif columns.split:
        splits = read_splits(_column(place, parts, columns.split), place, reader.where)
    else:
        splits = {}
    splits, more = leave_out_unlabelled(labelled.missing, splits, reader.where)
    weights = None
    if columns.weight:
        weights = read_weights(_column(place, parts, columns.weight), place, reader.where)
    return Listing(
        name=_title(place),
        where=place,
        keys=row_keys(tuple(parts), counts),
        classes=labelled.classes,
        labels=labelled.labels,
        read=reader,
        splits=splits,
        weights=weights,
        notes=(*notes, *more),
    )


def _columns(
    place: str, parts: Mapping[str, Any], choice: Choice
) -> tuple[Columns, tuple[str, ...] | None]:
    """Choose the columns, which all splits must have alike; give the class names too."""
    known: list[tuple[Columns, tuple[str, ...] | None]] = []
    for name, part in parts.items():
        with one_line(place, "its columns cannot be read", "save it again"):
            schema, features = part.features.arrow_schema, part.features.to_dict()
        columns = choose_columns(schema, features, choice, place)
        known.append((columns, class_names(features, columns.label, place)))
        if known[-1] != known[0]:
            raise DataError(
                f"{place}: columns or class names of {name} are not those of {next(iter(parts))}; "
                "save both alike"
            )
    return known[0]


def _column(place: str, parts: Mapping[str, Any], name: str) -> Any:
    """Read a column of all splits, one after the other. Raises DataError."""
    import pyarrow as pa

    with one_line(place, f"column {name!r} cannot be read", "save it again"):
        columns = []
        for part in parts.values():
            column = part.select_columns(name).with_format("arrow")[:].column(0)
            column.validate(full=True)
            columns.append(column if name == "weight" else column.cast(plain_type(column.type)))
        chunks = [chunk for each in columns for chunk in each.chunks]
        return pa.chunked_array(chunks, columns[0].type)
