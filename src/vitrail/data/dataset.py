"""What every source of images gives: named samples with labels, by split."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Split:
    """One part of a data set.

    `keys` are unique and stable: the path relative to the root for a folder. `read(i)` gives the
    bytes of the image file of sample i; it raises ImageError where the file cannot be read.
    """

    keys: tuple[str, ...]
    labels: tuple[int, ...]
    read: Callable[[int], bytes]

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.keys)


@dataclass(frozen=True)
class Data:
    """A data set: class names in label order, and its splits (`train`, `val`, `test`)."""

    name: str
    classes: tuple[str, ...]
    splits: dict[str, Split]
    flips_safe: bool = True  # whether a mirrored image keeps its class; letters do not
    notes: tuple[str, ...] = ()  # what was decided for the user, such as how a split was made
