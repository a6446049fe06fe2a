"""Splits cut by content: the same images give the same split, whatever their names or order."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from vitrail.config import Config
from vitrail.errors import DataError, ImageError

Fraction = Annotated[float, Field(ge=0, lt=1)]


class Fractions(Config):
    """How much of a folder without split folders is held back."""

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
    root: Path,
    listed: dict[str, list[tuple[str, int]]],
    classes: Sequence[str],
    fractions: Fractions,
) -> tuple[dict[str, list[tuple[str, int]]], tuple[str, ...]]:
    """Cut `val`, and `test` unless it is there, from the training images of each class.

    The files of a class are put in the order of a hash of (seed, content) and the first are held
    back, so the split does not depend on names or order, and copies of one image stay together; an
    image that stands in two classes stays in train.

    Returns:
        the listings with all splits, and a note for people that says what was done.
    Raises:
        DataError: a class has too few different images.
    """
    cuts = {"val": fractions.val}
    if "test" not in listed and fractions.test > 0:
        cuts["test"] = fractions.test
    digests = {key: _digest(root / key, fractions.seed) for key, _ in listed["train"]}
    owners: dict[bytes, set[int]] = {}
    for key, label in listed["train"]:
        owners.setdefault(digests[key], set()).add(label)
    result = {name: list(listing) for name, listing in listed.items() if name != "train"}
    result |= {name: [] for name in ("train", *cuts)}
    for label, name in enumerate(classes):
        keys = [key for key, each in listed["train"] if each == label]
        own = {key: digests[key] for key in keys if len(owners[digests[key]]) == 1}
        for split, chosen in _cut_class(f"{root}: class {name!r}", keys, own, cuts).items():
            result[split] += [(key, label) for key in chosen]
    sizes = ", ".join(f"{name} {len(result[name])}" for name in ("train", *cuts))
    return result, (f"split by file content with seed {fractions.seed}: {sizes} images",)


def _cut_class(
    where_from: str, keys: list[str], digests: dict[str, bytes], cuts: dict[str, float]
) -> dict[str, list[str]]:
    """Share the files of one class out over the splits; each keeps the order of `keys`.

    Files without a digest (those that stand in another class too) stay in train.
    """
    ranks = sorted(set(digests.values()))  # copies of one image share a rank
    if len(ranks) < 1 + len(cuts):
        raise DataError(
            f"{where_from} has {len(ranks)} different images; {1 + len(cuts)} are needed "
            f"to cut {', '.join(cuts)} from them; add images or make split folders"
        )
    where: dict[bytes, str] = {}
    first = 0
    for left, (split, fraction) in zip(range(len(cuts), 0, -1), cuts.items(), strict=True):
        most = len(ranks) - first - left  # leaves one for each later split and for train
        size = min(most, max(1, int(fraction * len(ranks))))
        where |= dict.fromkeys(ranks[first : first + size], split)
        first += size
    chosen: dict[str, list[str]] = {split: [] for split in ("train", *cuts)}
    for key in keys:
        chosen[where.get(digests.get(key, b""), "train")].append(key)
    return chosen


def _digest(path: Path, seed: int) -> bytes:
    try:
        content = hashlib.sha256(path.read_bytes()).digest()
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror or error}") from None
    return hashlib.sha256(f"{seed}:".encode() + content).digest()
