"""What happened to each tensor when weights came into a model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Fate = Literal["loaded", "resized", "cut", "new", "dropped"]


@dataclass(frozen=True)
class Row:
    """One tensor: how it came into the model, or why it did not."""

    name: str  # in the model; where it was dropped, in the file
    fate: Fate
    shape: tuple[int, ...]  # in the model; where it was dropped, in the file
    source: tuple[int, ...] | None = None  # in the file, where it was resized or cut
    why: str = ""


@dataclass(frozen=True)
class LoadReport:
    """The table of a load: every tensor of the model, and those of the file that were not used.

    `notes` say what the file left open, and what was assumed.
    """

    where: str  # the file or folder
    format: str  # a name of FORMATS
    rows: Sequence[Row]
    notes: Sequence[str] = field(default=())

    def of(self, fate: Fate) -> list[Row]:
        """List the tensors with this fate."""
        return [row for row in self.rows if row.fate == fate]

    @property
    def as_it_was(self) -> bool:
        """Whether every tensor of the file came into the model unchanged, and none is new."""
        return all(row.fate == "loaded" for row in self.rows)

    def summary(self) -> str:
        """Say in one line how many tensors had which fate."""
        fates: tuple[Fate, ...] = ("loaded", "resized", "cut", "new", "dropped")
        counts = [f"{len(self.of(fate))} {fate}" for fate in fates if self.of(fate)]
        return f"{self.where} ({self.format}): tensors: {', '.join(counts)}"
