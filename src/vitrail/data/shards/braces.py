"""Patterns such as `{0000..0099}.tar` and `{train,val}.tar`, written out."""

import itertools
import math
import re

from vitrail.errors import DataError

SHARDS = 100_000  # that one string may name
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"([0-9]+)\.\.([0-9]+)")


def expand_braces(pattern: str) -> list[str]:
    """Write out `{0000..0099}` and `{a,b}`, several of them in every combination.

    Raises:
        DataError: braces within braces, another form, or too many shards.
    """
    parts = _BRACES.split(pattern)  # text and inside of braces, in turn
    if any("{" in text or "}" in text for text in parts[::2]):
        raise DataError(f"{pattern}: braces do not close, or stand within braces")
    choices = [_choices(part, pattern) if i % 2 else [part] for i, part in enumerate(parts)]
    if math.prod(map(len, choices)) > SHARDS:
        raise DataError(f"{pattern}: names more than {SHARDS} shards")
    return ["".join(each) for each in itertools.product(*choices)]


def _choices(inside: str, pattern: str) -> list[str]:
    ends = _RANGE.fullmatch(inside)
    if ends is None:
        if "," not in inside:
            raise DataError(f"{pattern}: {{{inside}}} must be {{0000..0099}} or {{a,b}}")
        return inside.split(",")
    if max(len(end) for end in ends.groups()) > 18:
        raise DataError(f"{pattern}: {{{inside}}} has too many digits")
    first, last = map(int, ends.groups())
    if not first <= last < first + SHARDS:
        raise DataError(f"{pattern}: {{{inside}}} must rise, over at most {SHARDS} shards")
    padded = any(len(end) > 1 and end[0] == "0" for end in ends.groups())
    width = len(ends[2]) if padded else 0
    return [f"{i:0{width}d}" for i in range(first, last + 1)]
