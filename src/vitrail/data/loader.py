"""Batches in an order that is a pure function of (seed, position), with any number of workers.

Training draws from one endless stream: the permutations of epoch 0, 1, 2 … one after the other.
Batch k of size b takes the places k b … (k + 1) b - 1, so the position is one integer.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vitrail.data.augment import AugmentConfig, random_box
from vitrail.data.dataset import Split
from vitrail.data.keyed import permutation, uniform
from vitrail.data.preprocess import Preprocess
from vitrail.errors import DataError, ImageError

CACHE_LIMIT = 2**30  # bytes of decoded images that are kept in memory

Failure = tuple[str, str]  # (key, reason) of an image that cannot be used


class Batch(NamedTuple):
    """Images as they are after preprocessing, before augmentation. b may be less than asked for."""

    images: UInt8[Tensor, "b c h w"]
    labels: Int64[Tensor, " b"]
    samples: NDArray[np.int64]  # b indexes into the split
    epochs: NDArray[np.int64]  # b, how often each sample was seen before
    failures: tuple[Failure, ...]  # what could not be decoded, and is not among the images


@runtime_checkable
class Images(Protocol):
    """Decoded images of a split, by index."""

    split: Split
    preprocess: Preprocess

    def load(self, i: int, box: NDArray[np.float64] | None) -> UInt8[Tensor, "c h w"]:
        """Give image i; `box` holds the four numbers that choose a random crop."""


class FileImages:
    """Decodes each image when it is asked for."""

    def __init__(
        self, split: Split, preprocess: Preprocess, augment: AugmentConfig | None = None
    ) -> None:
        """`augment` says which random crops are taken; none if it is None."""
        self.split = split
        self.preprocess = preprocess
        self.augment = augment or AugmentConfig()

    def load(self, i: int, box: NDArray[np.float64] | None) -> UInt8[Tensor, "c h w"]:
        """Read, decode and fit image i. Raises ImageError."""
        key = self.split.keys[i]
        data = self.split.read(i)
        area = self.augment.crop_area
        if box is None or area is None:
            return self.preprocess.load(data, key)
        image = self.preprocess.decode(data, key, detail=area[0] ** -0.5)
        size, shape = (image.shape[1], image.shape[2]), self.preprocess.size
        aspect = self.augment.crop_aspect
        where = random_box(box, size, area, aspect, shape[1] / shape[0])
        return self.preprocess.fit_box(image, where)


class CachedImages:
    """Holds every decoded image in memory; without random crops, which need the whole image."""

    def __init__(
        self, source: FileImages, images: UInt8[Tensor, "n c h w"], broken: dict[int, str]
    ) -> None:
        """`broken` gives the reason for each image that could not be decoded."""
        self.split = source.split
        self.preprocess = source.preprocess
        self.images = images
        self.broken = broken

    def load(self, i: int, box: NDArray[np.float64] | None) -> UInt8[Tensor, "c h w"]:
        """Give image i. Raises ImageError."""
        if i in self.broken:
            raise ImageError(self.broken[i])
        return self.images[i]


class _Spans(Dataset[Batch]):
    """Turns the places of a batch into the batch; runs in the workers."""

    def __init__(self, images: Images, seed: int) -> None:
        self.images = images
        self.seed = seed

    def __getitem__(self, span: tuple[int, int, bool]) -> Batch:
        first, last, shuffled = span
        n = len(self.images.split)
        places = np.arange(first, last, dtype=np.int64)
        if not shuffled:
            return self._collect(places, np.zeros_like(places), None)
        epochs = places // n
        samples = np.array(
            [_order(self.seed, int(e), n)[p % n] for e, p in zip(epochs, places, strict=True)]
        )
        return self._collect(samples, epochs, uniform("crop", self.seed, epochs, samples, 4))

    def _collect(
        self,
        samples: NDArray[np.int64],
        epochs: NDArray[np.int64],
        boxes: NDArray[np.float64] | None,
    ) -> Batch:
        loaded, good, failures = [], [], []
        for row, i in enumerate(samples.tolist()):
            try:
                loaded.append(self.images.load(i, None if boxes is None else boxes[row]))
                good.append(row)
            except ImageError as error:
                failures.append((self.images.split.keys[i], str(error)))
        size = (self.images.preprocess.channels, *self.images.preprocess.size)
        images = torch.stack(loaded) if loaded else torch.empty(0, *size, dtype=torch.uint8)
        labels = torch.tensor(
            [self.images.split.labels[i] for i in samples[good]], dtype=torch.int64
        )
        return Batch(images, labels, samples[good], epochs[good], tuple(failures))


@functools.lru_cache(maxsize=2)  # a batch can touch the end of one epoch and the start of the next
def _order(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    return permutation(seed, epoch, n)


def train_batches(
    images: Images, *, seed: int, batch_size: int, steps: range, workers: int
) -> Iterator[Batch]:
    """Give the shuffled batches of these steps; the same ones for any number of workers.

    Raises:
        DataError: not one image of a batch can be decoded.
    """
    spans = [(k * batch_size, (k + 1) * batch_size, True) for k in steps]
    for batch in _load(images, seed, spans, workers):
        if not len(batch.labels):
            _, reason = batch.failures[0]  # it begins with the name of the image
            raise DataError(f"{reason}; and no other image of its batch can be read either")
        yield batch


def ordered_batches(images: Images, *, batch_size: int, workers: int) -> Iterator[Batch]:
    """Give every image once, in the order of the split."""
    n = len(images.split)
    spans = [(k, min(k + batch_size, n), False) for k in range(0, n, batch_size)]
    yield from _load(images, 0, spans, workers)


def _load(images: Images, seed: int, spans: Sequence[object], workers: int) -> Iterable[Batch]:
    if isinstance(images, CachedImages):
        workers = 0  # there is nothing to decode
    return DataLoader(
        _Spans(images, seed),
        sampler=spans,
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=workers,
        generator=torch.Generator(),  # its seed stays unused; the global one is left alone
    )


def _as_it_is(batch: Any) -> Any:
    return batch


def open_images(
    split: Split, preprocess: Preprocess, augment: AugmentConfig, workers: int
) -> Images:
    """Prepare the images of a split; those that fit are decoded once and kept in memory.

    Raises:
        DataError: no image can be decoded.
    """
    images = FileImages(split, preprocess, augment)
    size = len(split) * preprocess.channels * preprocess.size[0] * preprocess.size[1]
    if augment.crop_area is not None or size > CACHE_LIMIT:
        _require_readable(images)
        return images
    return _cache(images, workers)


def _cache(source: FileImages, workers: int) -> CachedImages:
    size = (source.preprocess.channels, *source.preprocess.size)
    images = torch.zeros(len(source.split), *size, dtype=torch.uint8)
    index = {key: i for i, key in enumerate(source.split.keys)}
    broken: dict[int, str] = {}
    for batch in ordered_batches(source, batch_size=256, workers=workers):
        images[torch.from_numpy(batch.samples)] = batch.images
        broken |= {index[key]: reason for key, reason in batch.failures}
    if len(broken) == len(source.split):
        raise DataError(f"no readable image among {len(broken)}; the first: {broken[0]}")
    return CachedImages(source, images, broken)


def _require_readable(images: FileImages, tries: int = 32) -> None:
    """Decode a few images spread over the split before hours are spent on it."""
    reason, tries = "", min(tries, len(images.split))
    for i in np.linspace(0, len(images.split) - 1, tries).astype(int):
        try:
            images.load(int(i), None)
            return
        except ImageError as error:
            reason = reason or str(error)
    raise DataError(f"no readable image among {tries} tried; the first: {reason}")
