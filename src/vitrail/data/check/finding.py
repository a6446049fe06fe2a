"""What a check tells: one finding for each kind of thing that is odd or wrong."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, NamedTuple

Severity = Literal["error", "warning", "note"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
LISTED = 1000  # items that a finding keeps; its count goes on


class Image(NamedTuple):
    """One image of a data set."""

    row: int  # of the survey
    split: str
    key: str
    label: str  # its class, or several with ` | ` between


class Item(NamedTuple):
    """One case of a finding, with the images that it is about; none for a class or a name."""

    reason: str
    images: tuple[Image, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something odd or wrong.

    An error spoils the training or its measurement, a warning may, a note is good to know.
    """

    kind: str  # stable, for programs
    severity: Severity
    count: int  # of all cases
    summary: str  # one line, with the count
    advice: str  # one line
    items: tuple[Item, ...]  # the first LISTED cases

    def to_json(self) -> dict[str, Any]:
        """Give plain lists and dictionaries."""
        items = [
            {
                "reason": item.reason,
                "images": [
                    {"split": each.split, "key": each.key, "label": each.label}
                    for each in item.images
                ],
            }
            for item in self.items
        ]
        return {
            "kind": self.kind,
            "severity": self.severity,
            "count": self.count,
            "summary": self.summary,
            "advice": self.advice,
            "items": items,
        }


def listed(items: Iterable[Item]) -> tuple[Item, ...]:
    """Take the first LISTED items."""
    return tuple(islice(items, LISTED))


def plural(count: int, word: str, many: str = "") -> str:
    """Write a count with its word: `1 image`, `2,000 images`."""
    return f"{count:,} {word if count == 1 else many or word + 's'}"
