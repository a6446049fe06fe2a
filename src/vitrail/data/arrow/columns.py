"""Which Arrow columns hold images and labels, and what the labels mean.

Parquet files and data sets of Hugging Face have the same columns, described by the same JSON
(`features`), so both are read here. Which columns are meant is seen from types and names; where
that does not tell, `SOURCE#image=NAME,label=NAME` does.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from vitrail.data.dataset import Names
from vitrail.errors import DataError, VitrailError, did_you_mean, printable

IMAGE_NAMES = ("image", "img")
LABEL_NAMES = ("label", "labels", "fine_label", "class")
_CHOICE = re.compile(r"#(\w+=.*)$", re.DOTALL)

Where = Callable[[int], str]  # names a row, at the beginning of an error


class Choice(NamedTuple):
    """The columns that the user names; empty where they are to be found."""

    image: str = ""
    label: str = ""


class Columns(NamedTuple):
    """The columns that are read."""

    image: str
    plain: bool  # whether the image column holds bytes, not a struct with bytes
    label: str
    weight: str  # empty where there is none
    split: str  # empty where there is none


def split_choice(source: str) -> tuple[str, str]:
    """Cut `#image=NAME,label=NAME` off a source."""
    found = _CHOICE.search(source)
    return (source[: found.start()], found[1]) if found else (source, "")


def read_choice(text: str, where: str) -> Choice:
    """Read `image=NAME,label=NAME`. Raises DataError."""
    chosen = {}
    for part in filter(None, text.split(",")):
        key, _, name = part.partition("=")
        if key not in Choice._fields or not name:
            raise DataError(
                f"{where}#{text}: {part!r} is not understood{did_you_mean(key, Choice._fields)}; "
                "allowed is #image=NAME,label=NAME"
            )
        chosen[key] = name
    return Choice(**chosen)


def choose_columns(schema: Any, features: Any, choice: Choice, where: str) -> Columns:
    """Find the columns of an Arrow schema.

    Args:
        features: what `info.features` of the metadata says, or None.
    Raises:
        DataError: a column is missing, stands there twice, or several may be meant.
    """
    twice = [name for name in schema.names if schema.names.count(name) > 1]
    if twice:
        raise DataError(f"{where}: column {twice[0]!r} stands there twice; rename one of them")
    types = {field.name: field.type for field in schema}
    images = image_columns(schema)
    if choice.image in types and _is_binary(types[choice.image]):
        images = [choice.image]
    image = _choose("image", choice.image, types, images, where)
    labels = [name for name, kind in types.items() if name != image and _is_label(kind)]
    if not choice.label and not set(LABEL_NAMES) & set(labels):
        labels = [name for name in labels if class_names(features, name, where)] or labels
    label = _choose("label", choice.label, types, labels, where)
    others = [name if name in types and name != label else "" for name in ("weight", "split")]
    return Columns(image, _is_binary(types[image]), label, *others)


def image_columns(schema: Any) -> list[str]:
    """Name the columns that hold the bytes of image files."""
    return [
        field.name
        for field in schema
        if _is_image(field.type) or (field.name in IMAGE_NAMES and _is_binary(field.type))
    ]


def _choose(
    role: str, asked: str, types: dict[str, Any], possible: Sequence[str], where: str
) -> str:
    """Take the column asked for, else the one with a usual name, else the only possible one."""
    if asked in possible:
        return asked
    if asked:
        what = f"is {str(types[asked])[:50]}" if asked in types else "is not there"
        near = "" if asked in types else did_you_mean(asked, types)
        raise DataError(
            f"{where}: column {asked!r} {what}{near}; {role} columns there: {_list(possible)}"
        )
    usual = IMAGE_NAMES if role == "image" else LABEL_NAMES
    named = [name for name in usual if name in possible] or possible
    if len(named) == 1:
        return named[0]
    if named:
        raise DataError(
            f"{where}: several {role} columns: {_list(named)}; "
            f"name one, as in SOURCE#{role}={printable(named[0][:50])}"
        )
    raise DataError(
        f"{where}: no {role} column among {_list(types)}; a column named {usual[0]!r} is expected, "
        + ("a struct of bytes and path" if role == "image" else "of integers, names or lists")
    )


def _list(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return (", ".join(repr(name[:50]) for name in names[:8]) or "none") + more


def _is_binary(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _is_image(kind: Any) -> bool:
    from pyarrow import types

    if not types.is_struct(kind):
        return False
    place = kind.get_field_index("bytes")
    return place >= 0 and _is_binary(kind.field(place).type)


def _is_label(kind: Any) -> bool:
    from pyarrow import types

    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        kind = kind.value_type
    if types.is_dictionary(kind):
        kind = kind.value_type
    texts = types.is_string(kind) or types.is_large_string(kind)
    return bool(texts or types.is_integer(kind) or types.is_boolean(kind))


def read_features(metadata: Any, where: str) -> Any:
    """Give `info.features` of the metadata of a schema, or None. Raises DataError."""
    raw = (metadata or {}).get(b"huggingface")
    if raw is None:
        return None
    try:
        return json.loads(raw)["info"]["features"]
    except (ValueError, RecursionError, TypeError, KeyError):
        raise DataError(
            f"{where}: its metadata 'huggingface' is not JSON with info.features; write it again"
        ) from None


def class_names(features: Any, column: str, where: str) -> tuple[str, ...] | None:
    """Give the names of the classes of a column in label order, where the features tell them.

    Raises:
        DataError: they are no list of different names.
    """
    feature = features.get(column) if isinstance(features, dict) else None
    if isinstance(feature, dict) and "feature" in feature:  # of a list
        feature = feature["feature"]
    if isinstance(feature, list) and len(feature) == 1:  # an old way to write a list
        feature = feature[0]
    if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel":
        return None
    names = feature.get("names")
    texts = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not texts or not names or len(set(names)) < len(names):
        raise DataError(
            f"{where}: the metadata of column {column!r} has no list of different class names; "
            "write the file again"
        )
    return tuple(names)


def row_keys(files: Sequence[str], rows: Sequence[int]) -> Names:
    """Name each row of each file, `file:row`, counted from 0."""
    prefixes = [f"{file}:".encode("utf-8", "surrogateescape") for file in files]
    runs = [
        (prefix, first, min(10**digits, count), digits)
        for prefix, count in zip(prefixes, rows, strict=True)
        for digits in range(1, len(str(count)) + 1)  # all rows whose number has so many digits
        if (first := 10 ** (digits - 1) * (digits > 1)) < count
    ]
    lengths = [len(prefix) + digits for prefix, _, _, digits in runs]
    counts = [last - first for _, first, last, _ in runs]
    ends = np.cumsum(np.repeat(np.array(lengths, np.int64), counts))
    block = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
    at = 0
    for (prefix, first, last, digits), length in zip(runs, lengths, strict=True):
        table = block[at : at + (last - first) * length].reshape(-1, length)
        table[:, : len(prefix)] = np.frombuffer(prefix, np.uint8)
        for place in range(digits):
            table[:, -1 - place] = np.arange(first, last) // 10**place % 10 + ord("0")
        at += table.size
    return Names(block, ends)


@contextmanager
def one_line(where: str, what: str, advice: str) -> Iterator[None]:
    """Turn whatever a library says about a file into one line. Raises DataError."""
    try:
        yield
    except VitrailError:
        raise
    except Exception as error:  # pyarrow, fsspec and each store behind it have errors of their own
        text = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise DataError(f"{where}: {what} ({printable(text)[:200]}); {advice}") from None
