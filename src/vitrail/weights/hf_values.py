"""Values of a JSON file from strangers: taken one by one, each checked."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitrail.errors import WeightsError

MOST = 65536  # of every size: no model is larger, and none larger is built to find that out
MOST_PIXELS, MOST_CHANNELS = 4096, 1024  # of a patch; so no product of sizes exceeds 2^63
STAGES = 16


@dataclass(frozen=True)
class Values:
    """The values of a JSON object; what is null is not there. Every reading raises WeightsError."""

    given: Mapping[str, Any]
    where: str

    def get(self, key: str, default: Any = None) -> Any:
        """Give a value as it is; it must be there, unless there is a default."""
        value = self.given.get(key)
        if value is not None:
            return value
        if default is None:
            raise WeightsError(f"{self.where}: lacks {key!r}")
        return default

    def integer(
        self, key: str, default: int | None = None, *, least: int = 1, most: int = MOST
    ) -> int:
        """Give a size."""
        value = self.get(key, default)
        if type(value) is not int or not least <= value <= most:
            raise self.wrong(key, value, f"a whole number from {least} to {most}")
        return value

    def integers(self, key: str) -> tuple[int, ...]:
        """Give one size a stage."""
        value = self.get(key)
        if not _sizes(value) or len(value) > STAGES:
            raise self.wrong(key, value, f"1 to {STAGES} whole numbers from 1 to {MOST}")
        return tuple(value)

    def pair(self, key: str) -> tuple[int, int]:
        """Give height and width of a list of both, or of one number for both."""
        value = self.get(key)
        both = [value, value] if type(value) is int else value
        if not _sizes(both) or len(both) != 2:
            raise self.wrong(key, value, f"one or two whole numbers from 1 to {MOST}")
        return both[0], both[1]

    def square(self, key: str) -> int:
        """Give the side of a square."""
        height, width = self.pair(key)
        if height != width or height > MOST_PIXELS:
            allowed = f"the same in height and width, at most {MOST_PIXELS}"
            raise self.wrong(key, self.given[key], allowed)
        return height

    def number(self, key: str, default: float | None = None, *, zero: bool = False) -> float:
        """Give a number above 0, or also 0 with `zero`."""
        value = self.get(key, default)
        if not is_number(value) or not 0 <= value <= MOST or (value == 0 and not zero):
            least = "from" if zero else "above"
            raise self.wrong(key, value, f"a number {least} 0 to {MOST}")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """Give a yes or no."""
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, value, "true or false")
        return value

    def only(self, key: str, allowed: Any) -> None:
        """Refuse any other value than the one with which our models compute."""
        value = self.get(key, allowed)
        if type(value) is not type(allowed) or value != allowed:
            raise self.wrong(key, value, f"{allowed!r}: Vitrail's models have nothing else")

    def wrong(self, key: str, value: Any, allowed: str) -> WeightsError:
        """Make the error that says what is allowed."""
        return WeightsError(f"{self.where}: {key}={shown(value)} must be {allowed}")


def shown(value: Any) -> str:
    """Show a value from a file, which may be very long."""
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"


def is_number(value: Any) -> bool:
    """Whether it is a finite number that a float can hold."""
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)


def _sizes(values: Any) -> bool:
    return (
        isinstance(values, Sequence)
        and len(values) > 0
        and all(type(value) is int and 1 <= value <= MOST for value in values)
    )
