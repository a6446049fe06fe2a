"""Batches in an order that is a function, with any number of workers, on any number of ranks.

`order` says which sample stands where, `workers` has them read beside the training. A rank is one
of several processes that train together: each takes its part of every batch.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from vitrail.data.dataset import Split
from vitrail.data.loading.cache import FittedImages, open_images
from vitrail.data.loading.images import (
    Batch,
    Failure,
    FileImages,
    Images,
    Reader,
    pixel_space,
    pixel_type,
    take_labels,
)
from vitrail.data.loading.order import Order, cut_evenly, part_size
from vitrail.data.loading.sampling import ONCE_EACH, SamplingConfig
from vitrail.data.loading.workers import run_tasks
from vitrail.errors import DataError, printable

__all__ = [
    "Batch",
    "Failure",
    "FileImages",
    "Images",
    "open_images",
    "ordered_batches",
    "require_each_once",
    "train_batches",
]

Places = tuple[NDArray[np.int64], NDArray[np.int64]]  # samples and epochs of a batch


def _silent(message: str) -> None:
    """Tell nobody."""


def train_batches(  # noqa: PLR0913 - separate plain values; all but five are for large runs
    images: Images,
    *,
    seed: int,
    batch_size: int,
    steps: range,
    workers: int,
    sampling: SamplingConfig = ONCE_EACH,
    rank: int = 0,
    ranks: int = 1,
    tell: Callable[[str], None] = _silent,
) -> Iterator[Batch]:
    """Give the shuffled batches of these steps; the same ones for any number of workers.

    Args:
        batch_size: of all ranks together; each rank takes the same part of every batch.
        tell: is told when a worker was killed or stopped, and is replaced.
    Raises:
        ConfigError: the batch cannot be cut into ranks and repeats, or there are no weights.
        DataError: not one image of this rank's part of a batch can be decoded, or workers die
            again and again.
    """
    assert 0 <= rank < ranks
    part = part_size(batch_size, ranks, repeats=sampling.repeats)
    order = Order(images.split, seed, sampling)
    mine = slice(rank * part, (rank + 1) * part)

    def places() -> Iterator[Places]:
        for k in steps:
            samples, epochs = order.batch(k, batch_size)
            yield samples[mine], epochs[mine]

    batches = _load(images, seed, places(), part, workers, tell)
    return (_require_some(batch) for batch in batches)


def ordered_batches(
    images: Images,
    *,
    batch_size: int,
    workers: int,
    rank: int = 0,
    ranks: int = 1,
    tell: Callable[[str], None] = _silent,
) -> Iterator[Batch]:
    """Give every image of the split once, in its order, without random crops.

    Each rank gets a contiguous part of the split, and all of them equally many batches, of which
    the last may be shorter than `batch_size`, or empty. `require_each_once` proves the whole.
    """
    assert 0 <= rank < ranks
    spans = cut_evenly(len(images.split), rank, ranks, batch_size)
    places = ((np.arange(*span), np.zeros(span[1] - span[0], np.int64)) for span in spans)
    return _load(images, None, places, batch_size, workers, tell)


def require_each_once(
    split: Split,
    samples: Sequence[NDArray[np.int64]],
    failures: Sequence[Sequence[Failure]],
) -> None:
    """Prove that the ranks together measured, or reported as unreadable, each image exactly once.

    Args:
        samples, failures: of each rank.
    Raises:
        DataError: names an image that is missing, or was measured twice.
    """
    counts = np.zeros(len(split), np.int64)
    for part in samples:
        np.add.at(counts, part, 1)
    failed = [key for key, _ in chain.from_iterable(failures)]
    if failed:
        number = {key: i for i, key in enumerate(split.keys)}
        np.add.at(counts, [number[key] for key in failed], 1)
    wrong = np.flatnonzero(counts != 1)
    if len(wrong):
        i = int(wrong[0])
        raise DataError(
            f"{printable(split.keys[i])}: measured {counts[i]} times on {len(samples)} ranks, "
            f"must be once (so are {len(wrong)} of {len(split)} images); "
            "all ranks must see the same data"
        )


def _load(
    images: Images,
    seed: int | None,
    places: Iterator[Places],
    size: int,
    workers: int,
    tell: Callable[[str], None],
) -> Iterator[Batch]:
    """Read the images of each batch; `size` is the largest."""
    if isinstance(images, FittedImages):  # there is nothing left to decode
        yield from (images.batch(samples, epochs) for samples, epochs in places)
        return
    preprocess = images.preprocess
    one = preprocess.channels * preprocess.size[0] * preprocess.size[1]
    results = run_tasks(
        Reader(images, seed),
        (np.concatenate(each) for each in places),
        workers=workers,
        longest=2 * size,
        room=size * one * pixel_type(preprocess).itemsize,
        names=images.split.keys,
        tell=tell,
    )
    for task, room, (rows, pixels, failures) in results:
        samples, epochs = task.reshape(2, -1)[:, rows]
        if room is not None:
            pixels = pixel_space(len(rows), preprocess, room).clone()
        labels = take_labels(images.split.labels, samples)
        yield Batch(pixels, labels, samples, epochs, failures)


def _require_some(batch: Batch) -> Batch:
    """Give a batch back. Raises DataError if nothing in it can be read."""
    if not len(batch.labels):
        _, reason = batch.failures[0]  # it begins with the name of the image
        raise DataError(f"{reason}; and no other image of its batch can be read either")
    return batch
