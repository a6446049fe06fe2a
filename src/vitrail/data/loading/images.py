"""Batches of images, and how they are read: file by file, with random crops where asked for."""

import math
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor

from vitrail.data.augment import AugmentConfig, random_box
from vitrail.data.dataset import Labels, LabelSets, Split
from vitrail.data.keyed import uniform
from vitrail.data.preprocess import Preprocess
from vitrail.errors import ImageError

Failure = tuple[str, str]  # (key, reason) of an image that cannot be used


class Batch(NamedTuple):
    """Images as they are after preprocessing, before augmentation. b may be less than asked for."""

    images: UInt8[Tensor, "b c h w"] | Float32[Tensor, "b c h w"]  # in [0, 255]
    labels: Int64[Tensor, " b"] | Int64[Tensor, "b classes"]  # 0 or 1 where there may be several
    samples: NDArray[np.int64]  # b indexes into the split
    epochs: NDArray[np.int64]  # b, how often each sample was seen before; copies: `order`
    failures: tuple[Failure, ...]  # what could not be decoded, and is not among the images


@runtime_checkable
class Images(Protocol):
    """Decoded images of a split, by index."""

    split: Split
    preprocess: Preprocess

    def load(
        self, i: int, box: NDArray[np.float64] | None
    ) -> UInt8[Tensor, "c h w"] | Float32[Tensor, "c h w"]:
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

    @property
    def detail(self) -> float | None:
        """How finely images are decoded, as `Preprocess.decode` takes it; None without crops."""
        area = self.augment.crop_area
        return None if area is None else area[0] ** -0.5

    def load(
        self, i: int, box: NDArray[np.float64] | None
    ) -> UInt8[Tensor, "c h w"] | Float32[Tensor, "c h w"]:
        """Read, decode and fit image i. Raises ImageError."""
        if box is None or self.detail is None:
            return self.preprocess.load(self.split.read(i), self.split.keys[i])
        image = self.decode(i)
        return self.preprocess.fit_box(image, self.place(box, image.shape[1], image.shape[2]))

    def decode(self, i: int) -> Tensor:
        """Read and decode the whole of image i, as random crops need it. Raises ImageError."""
        data, key = self.split.read(i), self.split.keys[i]
        return self.preprocess.decode(data, key, detail=self.detail or 1.0)

    def place(self, box: NDArray[np.float64], height: int, width: int) -> tuple[int, int, int, int]:
        """Choose the random crop of an image of this size: top, left, height, width."""
        area, shape = self.augment.crop_area, self.preprocess.size
        assert area is not None  # there are crops
        aspect = self.augment.crop_aspect
        return random_box(box, (height, width), area, aspect, shape[1] / shape[0])


class Loaded(NamedTuple):
    """What reading some samples gave."""

    rows: NDArray[np.int64]  # which of them are among the images
    pixels: Tensor | None  # the images; None where they lie in the room
    failures: tuple[Failure, ...]


class Reader:
    """Reads the samples of a batch; runs in the workers. A task is samples, then epochs."""

    def __init__(self, images: Images, seed: int | None) -> None:
        """`seed` keys the random crops; there are none if it is None."""
        self.images = images
        self.seed = seed

    def __call__(
        self, task: NDArray[np.int64], room: NDArray[np.uint8] | None, seen: NDArray[np.int64]
    ) -> Loaded:
        """Read a batch. Raises nothing for images that cannot be used: they are left out."""
        samples, epochs = task.reshape(2, -1)
        boxes = None if self.seed is None else uniform("crop", self.seed, epochs, samples, 4)
        images, rows, failures = [], [], []
        for row, i in enumerate(samples.tolist()):
            seen[1] = i
            try:
                images.append(self.images.load(i, None if boxes is None else boxes[row]))
                rows.append(row)
            except ImageError as error:
                failures.append((self.images.split.keys[i], str(error)))
            seen[0] += 1
        return Loaded(np.array(rows, np.int64), self._stack(images, room), tuple(failures))

    def _stack(self, images: list[Tensor], room: NDArray[np.uint8] | None) -> Tensor | None:
        space = pixel_space(len(images), self.images.preprocess, room)
        if images:
            torch.stack(images, out=space)
        return space if room is None else None


def pixel_space(count: int, preprocess: Preprocess, room: NDArray[np.uint8] | None) -> Tensor:
    """Give the memory for so many images, as the preprocessing makes them, new or in a room."""
    shape = (count, preprocess.channels, *preprocess.size)
    kind = pixel_type(preprocess)
    if room is None:
        return torch.from_numpy(np.empty(shape, kind))
    size = math.prod(shape) * kind.itemsize
    return torch.from_numpy(room[:size].view(kind).reshape(shape))


def pixel_type(preprocess: Preprocess) -> "np.dtype[np.uint8] | np.dtype[np.float32]":
    """Give the type of pixels: uint8 where they are rounded to 8 bits, else float32."""
    return np.dtype(np.uint8) if preprocess.depth == 8 else np.dtype(np.float32)


def take_labels(labels: Labels, samples: NDArray[np.int64]) -> Tensor:
    """Give the labels of samples: one number each, or 0 or 1 for each class."""
    if not isinstance(labels, LabelSets):
        return torch.from_numpy(labels[samples].astype(np.int64))
    return torch.from_numpy(labels.take(samples).hot())
