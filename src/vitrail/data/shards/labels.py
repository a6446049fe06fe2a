"""Reads the label of a sample out of its `.cls` or `.json` member."""

import json
import math
from typing import Any

from vitrail.data.naming import is_text
from vitrail.data.shards.table import DIGITS, Word
from vitrail.errors import DataError

HEAVIEST = 1e300  # weights below it can be added up

Labelled = tuple[bool, tuple[Word, ...]]  # whether it is a set of labels, and the labels


def parse_cls(data: bytes, place: str) -> Labelled:
    """Read a class number or name; several stand between bars."""
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        raise DataError(f"{place} is no UTF-8 text; it must hold a class number or name") from None
    names = [name.strip() for name in text.split("|")]
    return len(names) > 1, tuple(_word(name, place) for name in names)


def _word(text: str, place: str) -> Word:
    if not text or not text.isprintable():
        raise DataError(f"{place} holds {text[:50]!r}; it must be a class number or name")
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        return False, text
    if text != digits or len(digits) > DIGITS:
        raise DataError(f"{place} holds {text[:50]}; class numbers begin with 0")
    return True, str(int(digits))


def parse_json(data: bytes, place: str) -> tuple[Labelled | None, float]:
    """Read the label and the weight, if they are there."""
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        raise DataError(f"{place} is no JSON") from None
    if not isinstance(values, dict):
        raise DataError(f'{place} must be an object such as {{"label": "cat"}}')
    label, weight = values.get("label"), values.get("weight")
    if weight is not None and not (_is_number(weight) and 0 <= weight < HEAVIEST):
        raise DataError(f"{place}: weight={str(weight)[:50]} must be a number of at least 0")
    known = math.nan if weight is None else float(weight)
    if label is None:
        return None, known
    several = isinstance(label, list)
    return (
        several,
        tuple(_json_word(each, place) for each in (label if several else [label])),
    ), known


def _json_word(label: Any, place: str) -> Word:
    if isinstance(label, str) and label.strip() and is_text(label):
        return False, label
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < 10**DIGITS:
        return True, str(label)
    raise DataError(
        f"{place}: label={str(label)[:50]} must be a class name or number, or a list of them"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value
