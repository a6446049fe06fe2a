"""Decoded images that are kept, in memory or on the disk, so that each file is decoded once.

Without random crops, what is kept are the images as the model takes them; with random crops it is
the whole decoded image, from which the crops are cut. Pixels are the same as without a cache.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrail.data.augment import AugmentConfig
from vitrail.data.dataset import Split
from vitrail.data.loading.decoded import Decoded
from vitrail.data.loading.filling import (
    estimate_bytes,
    fill_disk,
    fill_memory,
    require_memory,
    require_readable,
)
from vitrail.data.loading.images import Batch, FileImages, Images, take_labels
from vitrail.data.preprocess import Preprocess
from vitrail.errors import DataError, ImageError
from vitrail.files import cache_folder

CACHE_LIMIT = 2**30  # bytes of decoded images that `auto` keeps in memory

Cache = Literal["auto", "none", "ram", "disk"]


class FittedImages:
    """Images that are decoded and fitted already; without random crops."""

    def __init__(self, source: FileImages, decoded: Decoded) -> None:
        """`decoded` holds them as [channels, height, width]."""
        self.split = source.split
        self.preprocess = source.preprocess
        self.failures = decoded.failures
        self._good = decoded.shapes[:, 0] > 0
        self._rows = np.cumsum(self._good) - 1  # those that failed take no room
        size = (self.preprocess.channels, *self.preprocess.size)
        self._block = decoded.pixels.view(decoded.kind).reshape(-1, *size)

    def load(self, i: int, box: NDArray[np.float64] | None) -> Tensor:
        """Give image i. Raises ImageError."""
        if i in self.failures:
            raise ImageError(self.failures[i])
        return torch.from_numpy(self._block[self._rows[i]].copy())

    def batch(self, samples: NDArray[np.int64], epochs: NDArray[np.int64]) -> Batch:
        """Give the images of these samples that could be decoded."""
        good = self._good[samples]
        missing = samples[~good].tolist()
        samples, epochs = samples[good], epochs[good]
        return Batch(
            torch.from_numpy(self._block[self._rows[samples]]),
            take_labels(self.split.labels, samples),
            samples,
            epochs,
            tuple((self.split.keys[i], self.failures[i]) for i in missing),
        )


class WholeImages:
    """Images that are decoded already, from which random crops are cut."""

    def __init__(self, source: FileImages, decoded: Decoded) -> None:
        """`decoded` holds them as [height, width, channels]."""
        self.split = source.split
        self.preprocess = source.preprocess
        self.source = source
        self.decoded = decoded

    def load(self, i: int, box: NDArray[np.float64] | None) -> Tensor:
        """Cut a random crop from image i; without `box` its file is read. Raises ImageError."""
        if box is None:  # what is kept may be decoded larger than the contract says
            return self.source.load(i, None)
        if i in self.decoded.failures:
            raise ImageError(self.decoded.failures[i])
        image = self.decoded.image(i)
        top, left, height, width = self.source.place(box, *image.shape[:2])
        crop = image[top : top + height, left : left + width].copy()  # a tensor must be writable
        pixels = torch.from_numpy(crop).permute(2, 0, 1)
        return self.preprocess.fit_box(pixels, (0, 0, height, width))


def open_images(
    split: Split,
    preprocess: Preprocess,
    augment: AugmentConfig,
    workers: int,
    cache: Cache = "auto",
    folder: Path | None = None,
) -> Images:
    """Prepare the images of a split.

    Args:
        workers: processes that fill the cache.
        cache: where decoded images are kept. auto: in memory, if there are no random crops and they
            take less than `CACHE_LIMIT`; disk: in a file that later runs find again by its content,
            for which they read every image file once.
        folder: of the disk cache; vitrail/decoded in the user's cache folder if None.
    Raises:
        ConfigError: the memory does not suffice.
        DataError: no image can be decoded.
        StorageError: the disk does not suffice, or cannot be written.
    """
    images = FileImages(split, preprocess, augment)
    fits = images.detail is None and estimate_bytes(images) <= CACHE_LIMIT
    if cache == "none" or (cache == "auto" and not fits):
        require_readable(images)
        return images
    if cache == "disk":
        decoded = fill_disk(images, workers, folder or cache_folder() / "decoded")
    else:
        if cache == "ram":
            require_memory(estimate_bytes(images))
        decoded = fill_memory(images, workers)
    if len(decoded.failures) == len(split):
        raise DataError(f"no readable image among {len(split)}; the first: {decoded.failures[0]}")
    return FittedImages(images, decoded) if images.detail is None else WholeImages(images, decoded)
