"""How often each image of an epoch is drawn: as the data have it, by class, or by weight."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vitrail.config import Config
from vitrail.data.dataset import LabelSets, Split
from vitrail.data.keyed import permutation, uniform
from vitrail.errors import ConfigError, DataError, printable


class SamplingConfig(Config):
    """Which images an epoch consists of."""

    balance: Literal["none", "sqrt", "class"] = "none"
    """How often classes are drawn: none, as the data have them; sqrt, by the square root of their
    size; class, all equally."""
    weighted: bool = False
    """Whether images are drawn in proportion to their weights, which the data must have."""
    repeats: int = Field(default=1, ge=1)
    """How often an image stands in its batch, varied anew each time (repeated augmentation)."""


ONCE_EACH = SamplingConfig()  # every image once an epoch


class Chances(NamedTuple):
    """How often each of n images is drawn, relative to the others."""

    weights: NDArray[np.float64]
    groups: NDArray[np.int64]  # whose sums are exact too: the class of each image


def find_chances(split: Split, sampling: SamplingConfig) -> Chances | None:
    """Work out how often each image is drawn; None where each is drawn once an epoch.

    The size of a class is the number of its images, or the sum of their weights. An image of
    several classes is drawn as often as its rarest class asks for; images without a class count as
    one more class.

    Raises:
        ConfigError: `weighted` is set, and the data have no weights.
        DataError: a weight is negative or not finite, or all are zero.
    """
    if sampling.balance == "none" and not sampling.weighted:
        return None
    weights = _own_weights(split) if sampling.weighted else np.ones(len(split))
    if isinstance(split.labels, LabelSets):
        owners, values, classes = _memberships(split.labels)
    else:
        owners, values = np.arange(len(split)), split.labels
        classes = int(values.max(initial=0)) + 1
    sizes = np.bincount(values, weights[owners], minlength=classes).astype(np.float64)
    factors = _factors(sizes, sampling.balance)
    largest = np.zeros(len(split))
    np.maximum.at(largest, owners, factors[values])
    groups = np.zeros(len(split), np.int64)
    decides = factors[values] == largest[owners]
    groups[owners[decides]] = values[decides]
    return Chances(weights * largest, groups)


def _own_weights(split: Split) -> NDArray[np.float64]:
    """Give the weights of the data. Raises ConfigError, DataError."""
    weights = split.weights
    if weights is None:
        raise ConfigError(
            "sampling.weighted: the data have no weights; "
            "give them in a column `weight` of a manifest, or leave it off"
        )
    wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(wrong):
        i = int(wrong[0])
        raise DataError(
            f"{printable(split.keys[i])}: weight {weights[i]} must be a finite number, 0 or more"
        )
    if not weights.any():
        raise DataError("sampling.weighted: the weight of every image is 0; one must be above 0")
    scaled: NDArray[np.float64] = weights / weights.max()  # so that no sum overflows
    return scaled


def _memberships(labels: LabelSets) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """List (image, class) for each label; images without one get a class of their own."""
    lengths = np.diff(labels.ends, prepend=0)
    without = np.flatnonzero(lengths == 0)
    owners = np.concatenate([np.repeat(np.arange(len(labels)), lengths), without])
    values = np.concatenate([labels.values, np.full(len(without), labels.classes)])
    return owners, values, labels.classes + 1


def _factors(sizes: NDArray[np.float64], balance: str) -> NDArray[np.float64]:
    """Give the factor by which images of each class are drawn more often; 0 for an empty class."""
    if balance == "none":
        return np.ones(len(sizes))
    divisor = sizes if balance == "class" else np.sqrt(sizes)
    return np.divide(1, divisor, out=np.zeros(len(sizes)), where=sizes > 0)


def resample(
    seed: int, epoch: int, chances: Chances
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw the n samples of an epoch, in the order in which they are used.

    Systematic resampling: the images, shuffled within their groups, are laid out on a line, each as
    long as the number of its draws is expected to be; a comb of n equidistant points with a random
    offset picks from it. So the draws of each image, and of each group, differ from what is
    expected by less than one.

    Returns:
        n samples, and which copy of it in this epoch each is: 0 for the first.
    Source: Kitagawa 1996, "Monte Carlo filter and smoother", Journal of Computational and Graphical
    Statistics 5, appendix.
    """
    n = len(chances.weights)
    order = permutation(seed, epoch, n)
    order = order[chances.weights[order] > 0]
    order = order[np.argsort(_narrow(chances.groups)[order], kind="stable")]
    ends = np.cumsum(chances.weights[order])
    offset = uniform("resample", seed, epoch, 0, 1)[0, 0]
    upto = np.floor(ends * (n / ends[-1]) + offset).astype(np.int64)
    upto = np.minimum(upto, n)
    upto[-1] = n  # whatever was lost in rounding
    counts = np.diff(upto, prepend=0)
    samples = np.repeat(order, counts)
    copies = np.arange(n) - np.repeat(upto - counts, counts)
    shuffle = permutation(seed, epoch, n, stream=1)
    return samples[shuffle], copies[shuffle]


def _narrow(groups: NDArray[np.int64]) -> NDArray[np.int64] | NDArray[np.uint16]:
    """Use 16 bits where they are enough: numpy sorts them by radix, in a tenth of the time."""
    return groups.astype(np.uint16) if groups.max(initial=0) < 2**16 else groups
