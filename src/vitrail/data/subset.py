"""A part of a split, chosen by the names of its images: small parts lie within larger ones."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vitrail.data.dataset import LabelSets, Split
from vitrail.errors import ConfigError, DataError


def take_subset(
    split: Split,
    classes: Sequence[str],
    fraction: float | None = None,
    per_class: int | None = None,
    seed: int = 0,
) -> Split:
    """Keep a fraction of each class, or so many images of each, in the order of the split.

    Images are ranked by a hash of (seed, key) and the first are kept. So 1 % is a part of 10 %, and
    the choice depends neither on the order of the split nor on what else is in it, but for where
    the cut falls. Where images may have several classes, a fraction is cut from all as one group;
    of `per_class`, each class takes its first images, and the result is all that any takes.

    Args:
        classes: names, in label order.
        fraction: above 0, at most 1; rounded, but at least one image of each class.
        per_class: at least 1.
        seed: another one gives another part.
    Raises:
        ConfigError: both or none of fraction and per_class are given, or one is out of range.
        DataError: a class has fewer than `per_class` images.
    """
    if (fraction is None) == (per_class is None):
        raise ConfigError("subset: give either fraction or per_class")
    if fraction is not None and not 0 < fraction <= 1:
        raise ConfigError(f"subset: fraction={fraction} must be above 0 and at most 1")
    if per_class is not None and per_class < 1:
        raise ConfigError(f"subset: per_class={per_class} must be at least 1")
    rank = _rank(split, seed)
    if isinstance(split.labels, LabelSets):
        owners = np.repeat(np.arange(len(split)), np.diff(split.labels.ends, prepend=0))
        values = split.labels.values
        if fraction is not None:  # one group
            owners, values = np.arange(len(split)), np.zeros(len(split), np.int64)
    else:
        owners, values = np.arange(len(split)), split.labels
    sizes = np.bincount(values, minlength=len(classes))
    if per_class is not None:
        _require_enough(sizes, classes, per_class)
        wanted = np.full(len(sizes), per_class)
    else:
        assert fraction is not None  # one of the two was given
        wanted = np.maximum(1, np.floor(sizes * fraction + 0.5)).astype(np.int64)
    order = np.lexsort((rank[owners], values))  # class by class, each by rank
    nth = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return split.take(np.unique(owners[order[nth < wanted[values[order]]]]))


def _rank(split: Split, seed: int) -> NDArray[np.int64]:
    """Give the place of each image in the order of the hashes."""
    start = f"{seed}:".encode()
    hashes = [
        hashlib.sha256(start + key.encode("utf-8", "surrogateescape")).digest()
        for key in split.keys
    ]
    rank = np.empty(len(hashes), np.int64)
    rank[np.argsort(np.array(hashes, dtype="S32"), kind="stable")] = np.arange(len(hashes))
    return rank


def _require_enough(sizes: NDArray[np.int64], classes: Sequence[str], per_class: int) -> None:
    """Raise DataError for the first class that is too small."""
    small = np.flatnonzero(sizes < per_class)
    if len(small):
        label = int(small[0])
        raise DataError(
            f"class {classes[label]!r} has {sizes[label]} images, fewer than "
            f"per_class={per_class}; lower it, or take a fraction"
        )
