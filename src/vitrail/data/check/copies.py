"""Copies of one picture: across splits, within one, under several labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vitrail.data.check.duplicates import Rows, exact_groups, is_drawn, near_pairs
from vitrail.data.check.survey import Survey

MOST_LEAKED = 0.1  # part of a split that is left out for near copies at most,
FEW_LEAKED = 20  # or so many images


@dataclass(frozen=True)
class Link:
    """Rows that show one picture. If not `exact`, `rows` are two groups of equal pixels."""

    rows: Rows
    exact: bool


class Copies:
    """All links of a survey, sorted by what they mean."""

    def __init__(self, survey: Survey) -> None:
        """Find equal pixels, and pictures that are nearly the same."""
        self.survey = survey
        groups = exact_groups(survey.table)
        whole = {int(group[0]): group for group in groups}
        self.exact = [Link(group, True) for group in groups]
        self.near: list[Link] = []
        self.alike: list[Link] = []  # drawings: alike, and perhaps no copies
        pairs = near_pairs(survey.table)
        drawn = is_drawn(survey.table[pairs.ravel()]).reshape(-1, 2)
        for pair, (one, other) in zip(pairs.tolist(), drawn.tolist(), strict=True):
            rows = np.concatenate([whole.get(row, np.array([row])) for row in pair])
            (self.alike if one and other else self.near).append(Link(rows, False))

    @cached_property
    def leaks(self) -> list[Link]:
        """Equal pixels in several splits."""
        return [link for link in self.exact if self._spans(link)]

    @cached_property
    def near_leaks(self) -> list[Link]:
        """Nearly the same in several splits."""
        return [link for link in self.near if self._spans(link)]

    @cached_property
    def conflicts(self) -> list[Link]:
        """Equal pixels with different labels."""
        return [link for link in self.exact if self._disagrees(link)]

    @cached_property
    def near_conflicts(self) -> list[Link]:
        """Nearly the same with different labels; not drawings that are alike."""
        return [link for link in self.near if self._disagrees(link)]

    def _disagrees(self, link: Link) -> bool:
        return len(set(self.survey.labels[link.rows])) > 1

    def _spans(self, link: Link) -> bool:
        return len(set(self.survey.parts[link.rows])) > 1

    @property
    def many_leak(self) -> bool:
        """Whether near copies would take away too much of a split to leave them out."""
        rows = self.impure(self.near_leaks)
        parts = self.survey.parts
        sizes = np.diff(self.survey.starts)
        taken = np.bincount(parts[rows], minlength=len(sizes))
        return bool((taken > np.maximum(MOST_LEAKED * sizes, FEW_LEAKED)).any())

    def impure(self, links: Sequence[Link]) -> Rows:
        """Give the rows of links whose copy is in a split that is kept: test, then val."""
        found = [np.empty(0, np.int64)]
        for link in links:
            rank = self.survey.purity(link.rows)
            found.append(link.rows[rank < rank.max()])
        return np.unique(np.concatenate(found))
