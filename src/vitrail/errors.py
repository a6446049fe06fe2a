"""Everything that can go wrong because of the user's input, in one place.

    VitrailError
    ├── UsageError        a command line that cannot be understood
    ├── ConfigError       a setting that is unknown or out of range
    ├── DataError         a data set that cannot be used
    │   └── ImageError    one image that cannot be used
    ├── ModelError        an architecture that is unknown or impossible
    ├── WeightsError      a weights file that cannot be read or does not fit
    ├── RunError          a run directory that is not one, or is damaged
    ├── StorageError      a disk that is full or cannot be written
    └── DivergedError     a training whose loss is no longer finite

A message is one line: where, what came, what is allowed, what to do. The command line prints it
after `error: ` and exits with 2. Everything else that is raised is a bug of ours and keeps its
traceback.
"""

from collections.abc import Iterable
from difflib import SequenceMatcher


class VitrailError(Exception):
    """Base of every error that a user can cause."""


class UsageError(VitrailError):
    """The command line cannot be understood."""


class ConfigError(VitrailError):
    """A setting is unknown or out of range."""


class DataError(VitrailError):
    """A data set cannot be used."""


class ImageError(DataError):
    """One image cannot be used."""


class ModelError(VitrailError):
    """An architecture is unknown or impossible."""


class WeightsError(VitrailError):
    """A weights file cannot be read or does not fit the model."""


class RunError(VitrailError):
    """A run directory is not one, or is damaged."""


class StorageError(VitrailError):
    """A disk is full or cannot be written."""


class DivergedError(VitrailError):
    """The training loss is no longer finite."""


def printable(text: str) -> str:
    """Make one line of a text: line breaks, terminal controls and lone bytes become escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Name the nearest known names: `"; did you mean 'a' or 'b'?"`, or nothing if none is near.

    Near are names that begin with what was given, contain it (three letters or more) or are spelled
    alike, whatever the case; at most three, the most alike first.
    """
    scores = {each: _likeness(name.casefold(), each.casefold()) for each in known}
    near = [each for each in scores if scores[each] > 0]
    near.sort(key=scores.__getitem__, reverse=True)
    return f"; did you mean {' or '.join(repr(each) for each in near[:3])}?" if near else ""


def _likeness(name: str, known: str) -> float:
    """How alike two spellings are: 0 if not at all, above 1 if `known` begins with `name`."""
    ratio = SequenceMatcher(None, name, known).ratio()
    if name and known.startswith(name):
        return 1 + ratio
    contained = len(name) >= 3 and name in known
    if not contained and ratio < 0.6:
        return 0.0
    same_place = sum(a == b for a, b in zip(name, known, strict=False))
    return ratio + same_place / 1000  # breaks ties: `ViT-Base/16` is nearer to B/16 than to S/16
