"""Several crops of one decoded image: large ones of most of it, small ones of its parts.

Source: Caron et al. 2021, arXiv:2104.14294 (DINO), section 3.1 and appendix C.
"""

from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from vitrail.config import Config
from vitrail.data.augment import Share, random_box
from vitrail.data.preprocess import Box, Preprocess

DRAWS = 4  # numbers in [0, 1) for each crop
_ASPECT = 4 / 3

Levels = UInt8[Tensor, "c h w"] | Float[Tensor, "c h w"]
Crops = UInt8[Tensor, "_ c _ _"] | Float[Tensor, "_ c _ _"]  # of any number and size


class MultiCropConfig(Config):
    """How many crops are taken of an image, and of which part of its area."""

    large: Annotated[int, Field(ge=0)] = 2
    """Crops that are resized to the size of the input."""
    large_area: tuple[Share, Share] = (0.4, 1.0)
    """Smallest and largest part of the image's area for these."""
    small: Annotated[int, Field(ge=0)] = 8
    """Crops that are resized to `small_size`."""
    small_area: tuple[Share, Share] = (0.05, 0.4)
    """Smallest and largest part of the image's area for these."""
    small_size: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (96, 96)
    """Height and width in pixels."""

    @model_validator(mode="after")
    def _check(self) -> "MultiCropConfig":
        for name, (low, high) in (("large", self.large_area), ("small", self.small_area)):
            if not 0 < low <= high:
                raise ValueError(f"{name}_area={(low, high)} must go up, from above 0")
        return self

    @property
    def crops(self) -> int:
        """Crops of an image."""
        return self.large + self.small


def crop_boxes(
    u: NDArray[np.float64], size: tuple[int, int], target: tuple[int, int], config: MultiCropConfig
) -> tuple[list[Box], list[Box]]:
    """Choose the boxes of the large crops, and those of the small ones.

    Args:
        u: crops x DRAWS in [0, 1): the large crops first; keyed by the image and its epoch.
        size: (height, width) of the image in pixels.
        target: (height, width) of the large crops in pixels; the boxes have about their shape.
        config: how many, and how large.
    """
    shapes = [target[1] / target[0]] * config.large
    shapes += [config.small_size[1] / config.small_size[0]] * config.small
    areas = [config.large_area] * config.large + [config.small_area] * config.small
    boxes = [
        random_box(row, size, area, _ASPECT, shape)
        for row, area, shape in zip(u, areas, shapes, strict=True)
    ]
    return boxes[: config.large], boxes[config.large :]


def multi_crop(
    image: Levels, u: NDArray[np.float64], preprocess: Preprocess, config: MultiCropConfig
) -> tuple[Crops, Crops]:
    """Cut and resize the crops of one decoded image.

    Args:
        image: levels from 0 to 255, as `preprocess.decode` gives them.
        u: crops x DRAWS in [0, 1), see `crop_boxes`.
        preprocess: size of the large crops, and how is resized.
        config: how many, and how large.
    Returns:
        The large crops, large x c x H x W, and the small ones, small x c x h x w; of the type of
        `image`.
    """
    small = preprocess.replace(size=config.small_size)
    size = (image.shape[1], image.shape[2])
    found = crop_boxes(u, size, preprocess.size, config)
    return _cut(image, found[0], preprocess), _cut(image, found[1], small)


def _cut(image: Levels, boxes: list[Box], preprocess: Preprocess) -> Crops:
    if not boxes:
        return image.new_empty(0, len(image), *preprocess.size)
    return torch.stack([preprocess.fit_box(image, box) for box in boxes])
