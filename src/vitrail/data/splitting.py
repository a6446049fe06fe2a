"""Splits cut by content: the same images give the same split, whatever their names or order."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from vitrail.config import Config
from vitrail.data.dataset import Labels, LabelSets
from vitrail.errors import DataError

Fraction = Annotated[float, Field(ge=0, lt=1)]


class Fractions(Config):
    """How much of data without splits is held back."""

    val: Fraction = 0.15
    """Part of each class held back to watch the training."""
    test: Fraction = 0.15
    """Part of each class held back for the final measurement."""
    seed: int = 0
    """Another seed gives another split."""

    @model_validator(mode="after")
    def _check(self) -> "Fractions":
        if self.val + self.test >= 1 or self.val == 0:
            raise ValueError(
                f"val={self.val} and test={self.test} must leave images for training, "
                "and val some to watch"
            )
        return self


def split_by_content(
    where: str,
    places: NDArray[np.int64],
    digests: Sequence[bytes],
    labels: Labels,
    classes: Sequence[str],
    cuts: dict[str, float],
) -> tuple[dict[str, NDArray[np.int64]], str]:
    """Cut `val`, and perhaps `test`, from the training images of each class.

    The images of a class are put in the order of their digest and the first are held back, so the
    split does not depend on names or order, and copies of one image stay together; an image that
    stands in two classes stays in train, and so does one without a digest. Images that may have
    several classes are cut as one group; what is the last of a class stays in train.

    Args:
        where: begins the error.
        places: the samples to cut, as indexes into `labels`.
        digests: of (seed, content) of each of them; empty where it cannot be read.
        cuts: how much of each class goes to each new split, in this order.
    Returns:
        the places of train and of each cut, and the sizes in words.
    Raises:
        DataError: a class has too few different images.
    """
    found: list[tuple[int, ...]] = [
        tuple(np.atleast_1d(labels[i]).tolist()) for i in places.tolist()
    ]
    owners: dict[bytes, set[tuple[int, ...]]] = {}
    for digest, label in zip(digests, found, strict=True):
        owners.setdefault(digest, set()).add(label)
    own = {row: digest for row, digest in enumerate(digests) if digest and len(owners[digest]) == 1}
    where_to = np.zeros(len(places), np.int64)  # 0 is train, 1 the first cut …
    if isinstance(labels, LabelSets):
        _cut_group(where, own, list(cuts.items()), where_to)
        _return_rare(found, digests, where_to)
    else:
        groups: list[dict[int, bytes]] = [{} for _ in classes]
        for row, digest in own.items():
            groups[found[row][0]][row] = digest
        for name, mine in zip(classes, groups, strict=True):
            _cut_group(f"{where}: class {name!r}", mine, list(cuts.items()), where_to)
    parts = {name: places[where_to == k] for k, name in enumerate(("train", *cuts))}
    sizes = ", ".join(f"{name} {len(part)}" for name, part in parts.items())
    return parts, f"{sizes} images"


def _return_rare(
    found: Sequence[tuple[int, ...]], digests: Sequence[bytes], where_to: NDArray[np.int64]
) -> None:
    """Give each class that has no training image its first one back, with all copies of it."""
    known = {label for row, labels in enumerate(found) if not where_to[row] for label in labels}
    for row in sorted(range(len(found)), key=lambda row: digests[row]):
        if where_to[row] and not known.issuperset(found[row]):
            where_to[[i for i, digest in enumerate(digests) if digest == digests[row]]] = 0
            known.update(found[row])


def _cut_group(
    where: str,
    digests: dict[int, bytes],
    cuts: list[tuple[str, float]],
    where_to: NDArray[np.int64],
) -> None:
    """Share the images of one class out over the splits, by writing each one's number."""
    ranks = sorted(set(digests.values()))  # copies of one image share a rank
    if len(ranks) < 1 + len(cuts):
        names = ", ".join(name for name, _ in cuts)
        raise DataError(
            f"{where} has {len(ranks)} different images; {1 + len(cuts)} are needed "
            f"to cut {names} from them; add images or make splits"
        )
    number: dict[bytes, int] = {}
    first = 0
    for k, (_, fraction) in enumerate(cuts, start=1):
        most = len(ranks) - first - (len(cuts) - k + 1)  # leaves one for each later one and train
        size = min(most, max(1, int(fraction * len(ranks))))
        number |= dict.fromkeys(ranks[first : first + size], k)
        first += size
    for row, digest in digests.items():
        where_to[row] = number.get(digest, 0)
