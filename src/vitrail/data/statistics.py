"""Mean and standard deviation of every channel over all pixels of a set, for normalisation.

The sums are kept as whole numbers, so that the result does not depend on the order of the images,
nor on how they are shared among workers.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from torch import Tensor

from vitrail.errors import DataError

UNIT = 1 << 40  # parts of a level, or of its square, in which the sums of one image are counted


@dataclass(frozen=True)
class Statistics:
    """Of each channel, in units of 0 to 1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]  # over all pixels, not an estimate for more: divided by count
    count: int  # pixels


@dataclass(frozen=True)
class Sums:
    """What of some images is needed for their statistics. Sums of parts add up: `a + b`."""

    count: int  # pixels
    levels: tuple[int, ...]  # of each channel, in units of 1 / UNIT
    squares: tuple[int, ...]

    def __add__(self, other: "Sums") -> "Sums":
        """Join two parts of a set. Raises ValueError if their channels differ in number."""
        return Sums(
            self.count + other.count,
            tuple(a + b for a, b in zip(self.levels, other.levels, strict=True)),
            tuple(a + b for a, b in zip(self.squares, other.squares, strict=True)),
        )

    def statistics(self) -> Statistics:
        """Divide; the variance is computed without rounding, so that nothing cancels."""
        n = self.count
        means = [Fraction(total, n * UNIT) for total in self.levels]
        variances = [
            max(Fraction(square, n * UNIT) - mean * mean, Fraction(0))
            for mean, square in zip(means, self.squares, strict=True)
        ]
        return Statistics(
            mean=tuple(float(mean / 255) for mean in means),
            std=tuple(math.sqrt(variance) / 255 for variance in variances),
            count=n,
        )


def sum_image(image: Tensor) -> Sums:
    """Add up the levels of one image, uint8 or float32 [channels, height, width], in float64.

    Exact for uint8. NumPy adds in one order whatever the number of threads.
    """
    levels = image.flatten(1).numpy().astype(np.float64)
    totals, squares = levels.sum(axis=1), np.square(levels).sum(axis=1)
    return Sums(
        levels.shape[1],
        tuple(round(total * UNIT) for total in totals.tolist()),
        tuple(round(square * UNIT) for square in squares.tolist()),
    )


def channel_statistics(images: Iterable[Tensor]) -> Statistics:
    """Give mean and standard deviation of each channel over all pixels of all images.

    Args:
        images: levels, uint8 or float32 [channels, height, width], of any sizes.
    Raises:
        DataError: there are no images.
        ValueError: two images differ in their number of channels.
    """
    total: Sums | None = None
    for image in images:
        part = sum_image(image)
        total = part if total is None else total + part
    if total is None:
        raise DataError("no images to compute the statistics of; give mean and std")
    return total.statistics()
