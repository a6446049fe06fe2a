"""The preprocessing contract: the one way from the bytes of an image file to the model's input.

Saved with every model and used by train, evaluate, predict and explain.
"""

import hashlib
import json
import math
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from vitrail.config import Config
from vitrail.data.decode import decode
from vitrail.data.formats.levels import Depth
from vitrail.data.formats.resize import Interpolation, resize
from vitrail.errors import ConfigError

Box = tuple[int, int, int, int]  # top, left, height, width in pixels


class Preprocess(Config):
    """How an image becomes the input of a model.

    The image is decoded (`vitrail.data.decode`), cut, resized with antialiasing, and normalised:
    (x / 255 - mean) / std. Up to there it is made of levels, 0 to 255: uint8 with depth 8, float32
    with depth 16.
    """

    version: Literal[1] = 1
    """of these rules; a change that alters any pixel raises it"""
    size: tuple[int, int]
    """height and width of the input, pixels"""
    channels: int = Field(default=3, ge=1, le=1024)
    """1: grey, 3: RGB; any other number: so many bands of a TIFF or .npy, as they stand"""
    depth: Depth = 8
    """8: pixels are rounded to 8 bits; 16: they are not"""
    resize: Literal["crop", "squash", "pad"] = "crop"
    """crop: the largest centred box of the input's shape; squash: the whole image, shape not kept;
    pad: the whole image, shape kept, borders filled"""
    crop_fraction: float = Field(default=1.0, gt=0, le=1)
    """of the height and of the width of the box that is kept; not for pad"""
    interpolation: Interpolation = "bicubic"
    """bicubic (a = -0.5) and bilinear are antialiased"""
    pad_fill: int = Field(default=127, ge=0, le=255)
    """grey level of the borders; only for pad"""
    shrink_on_load: bool = True
    """whether a large JPEG is decoded at 1/2, 1/4 or 1/8 of its size where that is enough"""
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    """per channel, in units of 0 to 1"""
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    """per channel, in units of 0 to 1"""
    max_pixels: int = Field(default=40_000_000, ge=1, le=89_478_485)
    """height * width of the image above which it is refused, before it is decoded"""

    @model_validator(mode="after")
    def _check(self) -> "Preprocess":
        if min(self.size) < 1:
            raise ValueError(f"size={self.size} must be at least 1 pixel high and wide")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels:
                raise ValueError(f"{name}={values} must have channels={self.channels} values")
        if min(self.std) <= 0:
            raise ValueError(f"std={self.std} must be above 0")
        if self.resize == "pad" and self.crop_fraction != 1:
            raise ValueError(f"crop_fraction={self.crop_fraction} must be 1 with resize='pad'")
        return self

    def decode(self, data: bytes, where: str, *, detail: float = 1.0) -> Tensor:
        """Decode an image file to the model's colours, upright.

        Args:
            data: the whole file.
            where: names the image in errors.
            detail: pixels along a side that must be left, in units of what `fit` needs, when a
                large JPEG is decoded smaller: 1 for `fit`, more for the boxes of random crops.
        Returns:
            levels [channels, height, width], uint8 or float32 by `depth`; its memory may be laid
            out channels last.
        Raises:
            ImageError: the image cannot be used.
        """
        wanted = (
            math.ceil(self.size[0] / self.crop_fraction * detail),
            math.ceil(self.size[1] / self.crop_fraction * detail),
        )
        return decode(
            data,
            channels=self.channels,
            where=where,
            max_pixels=self.max_pixels,
            depth=self.depth,
            shrink_to=wanted if self.shrink_on_load else None,
        )

    def fit(self, image: Tensor) -> Tensor:
        """Bring a decoded image, levels [channels, any height, any width], to `size`, by `resize`.

        The type stays. An image that is smaller is enlarged. A side of the box never falls below
        one pixel, so that every shape has a result.
        """
        if self.resize == "pad":
            return self._letterbox(image)
        return self.fit_box(image, self.box(image.shape[1], image.shape[2]))

    def box(self, height: int, width: int) -> Box:
        """Give the part of an image that `fit` keeps with crop or squash: top, left, height, width.

        Sides are rounded to the nearest pixel, the place is the centre, rounded to the top left.
        """
        high, wide = height * self.crop_fraction, width * self.crop_fraction
        if self.resize == "crop":
            scale = min(high / self.size[0], wide / self.size[1])  # image pixels per input pixel
            high, wide = self.size[0] * scale, self.size[1] * scale
        rows, columns = _nearest(high, height), _nearest(wide, width)
        return (height - rows) // 2, (width - columns) // 2, rows, columns

    def fit_box(self, image: Tensor, box: Box) -> Tensor:
        """Cut `box` (top, left, height, width) from levels [channels, H, W], resize it to `size`.

        This is the path of random crops in training; the type stays.
        """
        top, left, height, width = box
        part = image[:, top : top + height, left : left + width]
        return resize(part, self.size, self.interpolation)

    def load(self, data: bytes, where: str) -> Tensor:
        """Decode and fit: from an image file to levels [channels, height, width]."""
        return self.fit(self.decode(data, where))

    def normalise(self, images: Tensor) -> Tensor:
        """Turn levels [..., channels, height, width] into the model's float32 input, same shape."""
        scale = [1 / (255 * std) for std in self.std]
        offset = [-mean / std for mean, std in zip(self.mean, self.std, strict=True)]
        levels = images.to(torch.float32, copy=True)
        return levels.mul_(_column(scale, images)).add_(_column(offset, images))

    def denormalise(self, images: Tensor) -> Tensor:
        """Undo `normalise`: float [..., channels, height, width] to uint8, rounded and clipped."""
        scale = [255 * std for std in self.std]
        offset = [255 * mean for mean in self.mean]
        pixels = images.float() * _column(scale, images) + _column(offset, images)
        return pixels.round().clamp(0, 255).to(torch.uint8)

    @property
    def hash(self) -> str:
        """Name this contract: the first 16 hexadecimal digits of the SHA-256 of its JSON.

        A setting that came later, `depth`, is left out at its default: names do not change.
        """
        values = self.to_json()
        if self.depth == 8:
            del values["depth"]
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def require_equal(self, other: "Preprocess", where: str) -> None:
        """Refuse another contract than this one.

        Raises:
            ConfigError: names `where`, and each setting that differs with this and the other value.
        """
        mine, theirs = dict(self), dict(other)
        differ = [
            f"{key} is {mine[key]} here and {theirs[key]} there"
            for key in mine
            if mine[key] != theirs[key]
        ]
        if differ:
            raise ConfigError(f"{where}: preprocessing differs: {', '.join(differ)}")

    def _letterbox(self, image: Tensor) -> Tensor:
        scale = max(image.shape[1] / self.size[0], image.shape[2] / self.size[1])
        inner = (
            _nearest(image.shape[1] / scale, self.size[0]),
            _nearest(image.shape[2] / scale, self.size[1]),
        )
        top, left = (self.size[0] - inner[0]) // 2, (self.size[1] - inner[1]) // 2
        canvas = image.new_full((self.channels, *self.size), self.pad_fill)
        canvas[:, top : top + inner[0], left : left + inner[1]] = resize(
            image, inner, self.interpolation
        )
        return canvas


def _nearest(length: float, most: int) -> int:
    """Round to the nearest whole number of pixels, at least 1 and at most `most`; halves go up."""
    return min(most, max(1, math.floor(length + 0.5)))


def _column(values: list[float], like: Tensor) -> Tensor:
    """Shape one value a channel so that it spreads over [..., channels, height, width]."""
    return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None, None]
