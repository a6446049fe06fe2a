"""Names and numbers as people read them; names come from files and can be hostile.

Escaping for HTML is the template's work (autoescape); here what cannot be seen is made visible.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

_UNSEEN = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}  # control, format, unassigned, private, ...
_JOINERS = "\u200c\u200d"  # part of the spelling in Persian, Hindi, emoji
_MARKS = 3  # combining marks on one letter that real spelling needs


def visible(text: str, limit: int = 200, *, keep_end: bool = False) -> str:
    """Write control characters, bidi overrides and lone surrogates as escapes, and cut long text.

    Args:
        limit: characters of the result, at least 2; the last (or first) is then an ellipsis.
        keep_end: cut the beginning and keep the end, as is right for a path.
    """
    kept = text[-4 * limit :] if keep_end else text[: 4 * limit]  # no work for what is cut anyway
    shown, marks = [], 0
    for i, each in enumerate(kept):
        category = unicodedata.category(each)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if marks > _MARKS:
            continue
        joins = each in _JOINERS and all(ord(next) > 127 for next in kept[i - 1 : i + 2 : 2])
        hidden = category in _UNSEEN and not (joins and 0 < i < len(kept) - 1)
        shown.append(_escape(each) if hidden else each)
    result = "".join(shown)
    if len(result) <= limit and len(kept) == len(text):
        return result
    return f"…{result[-limit + 1 :]}" if keep_end else f"{result[: limit - 1]}…"


def _escape(each: str) -> str:
    """Write one character as in a Python string: \\n, \\x1b, \\u202e."""
    return each.encode("unicode_escape").decode("ascii")


def percent(share: float | None, digits: int = 1) -> str:
    """Write a share of [0, 1] so that only all is 100% and only none is 0%."""
    if share is None:
        return "–"
    step = 10.0**-digits
    if 0 < share and share * 100 < step / 2:
        return f"<{step:.{digits}f}%"
    if share < 1 and share * 100 >= 100 - step / 2:
        return f">{100 - step:.{digits}f}%"
    return f"{share * 100:.{digits}f}%"


def duration(seconds: int | float) -> str:
    """Write a time with its two largest units: 3 h 5 min."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if hours >= 48:
        return f"{hours // 24} days {hours % 24} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min {int(seconds % 60)} s"


def fact(value: Any) -> str:
    """Write one value of the model's facts: 5.72 M, 32 × 32."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return visible(" × ".join(fact(each) for each in value))
    return visible(str(value))


def _number(value: int | float) -> str:
    """Write a number with at most four digits and the unit of its size."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """List nested settings by their dotted names."""
    rows = []
    for name, value in values.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            rows += flat(value, f"{path}.")
        else:
            rows.append((visible(path), visible(_setting(value), 500)))
    return rows


def _setting(value: Any) -> str:
    """Write a value as it stands in JSON, a text without quotes."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_setting(each) for each in value) or "–"
    plain = {True: "true", False: "false", None: "–", "": "–"}
    return plain[value] if value is None or isinstance(value, bool) or value == "" else str(value)
