"""What a model draws at random while it trains: a part of what is drawn for the whole batch.

Several processes, or parts of a batch that are computed one after the other, seed the generator
alike, draw for the whole batch and take their own rows. So neither changes what an image gets.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_place: tuple[int, int] | None = None  # first row of the part, rows of the whole batch


@contextmanager
def part_of_batch(first: int, whole: int) -> Iterator[None]:
    """Take what follows for the rows from `first` on of a batch of `whole` rows."""
    global _place
    before, _place = _place, (first, whole)
    try:
        yield
    finally:
        _place = before


def draw_rows(rows: int, *shape: int, device: torch.device) -> Tensor:
    """Draw uniform numbers in [0, 1), rows x shape, from the device's global generator."""
    if _place is None:
        return torch.rand(rows, *shape, device=device)
    first, whole = _place
    return torch.rand(max(whole, first + rows), *shape, device=device)[first : first + rows]
