"""The proof of a pack: opened again like any data, it holds exactly what the source holds."""

import hashlib
from concurrent.futures import Executor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from vitrail.data.dataset import Data, LabelSets, Split
from vitrail.data.listing import Listing
from vitrail.data.packing.plan import CHUNK, Plan, held, labels_of, progress
from vitrail.data.processes import in_turn
from vitrail.errors import DataError

WHOLE = "all"  # the split of data without splits


class Proof(NamedTuple):
    """What was compared, and is equal."""

    images: int
    bytes: int
    notes: tuple[str, ...] = ()  # what was decided on the way, such as how a split was made


def as_data(listing: Listing) -> Data:
    """Make one split of all samples, in the order in which they lie there."""
    everything = Split(listing.keys, listing.labels, listing.read, listing.weights)
    return Data(listing.name, listing.classes, {WHOLE: everything})


def prove(source: Data, plan: Plan, packed: Listing, pool: Executor) -> Proof:
    """Compare count, split, label, weight and sha256 of every sample with the source.

    Args:
        packed: the pack, opened by the code that opens any data.
        pool: reads `as_data(packed)`.
    Raises:
        DataError: something differs.
    """
    if len(packed.keys) != plan.images:
        raise DataError(
            f"{packed.where}: has {len(packed.keys)} images, the source {plan.images}; "
            "remove the folder and pack again"
        )
    first = 0
    splits = _split_names(packed)
    for part in plan.parts:
        there = np.arange(first, first + len(part.places))
        expected = "" if part.split == WHOLE else part.split
        if any(splits[i] != expected for i in there.tolist()):
            raise _differ(packed, first, "split")
        _compare_labels(source, packed, part.split, part.places, first)
        first += len(part.places)
    digests = _digests(pool, len(packed.keys))
    wanted = np.concatenate([plan.surveys[part.split].sha256[part.places] for part in plan.parts])
    wrong = np.flatnonzero((digests != wanted).any(1))
    if len(wrong):
        raise _differ(packed, int(wrong[0]), "content")
    if packed.digest is not None:
        for i in range(len(packed.keys)):
            if packed.digest(i) != wanted[i].tobytes():
                raise _differ(packed, i, "sha256 in the index")
    return Proof(plan.images, plan.bytes)


def _split_names(packed: Listing) -> list[str]:
    names = [""] * len(packed.keys)
    for name, places in packed.splits.items():
        for i in places.tolist():
            names[i] = name
    return names


def _compare_labels(
    source: Data, packed: Listing, name: str, places: NDArray[np.int64], first: int
) -> None:
    """Compare the labels of one part by name, and the weights."""
    split = source.splits[name]
    again = as_data(packed).splits[WHOLE]
    if isinstance(packed.labels, LabelSets) != source.multi_label:
        raise _differ(packed, first, "kind of labels")
    for i, place in enumerate(places.tolist(), start=first):
        here = {packed.classes[label] for label in labels_of(again, i)}
        if here != {source.classes[label] for label in labels_of(split, place)}:
            raise _differ(packed, i, "label")
        weight = 1.0 if split.weights is None else split.weights[place]
        if (1.0 if packed.weights is None else packed.weights[i]) != weight:
            raise _differ(packed, i, "weight")


def _digests(pool: Executor, n: int) -> NDArray[np.uint8]:
    """Hash every image as it is read from the pack."""
    jobs = [(first, min(first + CHUNK, n)) for first in range(0, n, CHUNK)]
    console, quiet = progress(len(jobs))
    results = in_turn(pool, _hash, jobs)
    parts = track(results, "prove", len(jobs), console=console, transient=True, disable=quiet)
    return np.frombuffer(b"".join(parts), np.uint8).reshape(-1, 32)


def _hash(job: tuple[int, int]) -> bytes:
    split = held().splits[WHOLE]
    return b"".join(hashlib.sha256(split.read(i)).digest() for i in range(*job))


def _differ(packed: Listing, i: int, what: str) -> DataError:
    return DataError(
        f"{packed.where}: {packed.keys[i]!r} differs from the source ({what}); remove its file "
        "and pack again"
    )
