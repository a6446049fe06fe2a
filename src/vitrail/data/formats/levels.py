"""From stored values to levels: what 8, 16 and 32 bits of a file mean.

A level is one step of 8 bits, 0 is black and 255 white, whatever the file stores. With depth 8
levels are whole numbers (uint8); with depth 16 they keep their fractions (float32).

| in the file | depth 8 | depth 16 |
|---|---|---|
| uint8 | v | v |
| uint16, 32-bit integers | round(v / 257); refused outside 0 to 65535 | v / 257 |
| floating point | round(255 v); refused outside 0 to 1 | 255 v |
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vitrail.data.formats.recognise import RefusedError

Depth = Literal[8, 16]
Values = NDArray[Any]
BYTES_PER_PIXEL = 16  # an image of many bands may hold so many bytes for each of max_pixels


def to_levels(values: Values, depth: Depth, white: int = 65535) -> Values:
    """Scale stored values to levels; same shape, uint8 for depth 8 and float32 for 16.

    Args:
        values: uint8, wider integers, or floating point. At least one.
        depth: 8 rounds to the nearest level.
        white: the integer above 8 bits that is white.
    Raises:
        RefusedError: integers or floating-point values out of the defined range.
    """
    if values.dtype == np.uint8:
        return values if depth == 8 else values.astype(np.float32)
    if values.dtype.kind == "f":
        _require_unit(values)
        if depth == 16:
            wide: Values = values.astype(np.promote_types(values.dtype, np.float32), copy=False)
            scaled: Values = wide * wide.dtype.type(255)
            return scaled.astype(np.float32, copy=False)
        return np.floor(values.astype(np.float64) * 255 + 0.5).astype(np.uint8)
    _require_range(values, white)
    if depth == 16:
        return values.astype(np.float32) / np.float32(white / 255)
    wide = values.astype(np.uint32)
    return ((wide * 255 + white // 2) // white).astype(np.uint8)


def check_size(height: int, width: int, max_pixels: int, bytes_per_pixel: int = 1) -> None:
    """Refuse an image without pixels, or with too many pixels or bytes, before it is decoded.

    Raises:
        RefusedError: with the numbers.
    """
    if height < 1 or width < 1:
        raise RefusedError(f"the image has no pixels: {height}x{width}")
    pixels = height * width
    if pixels > max_pixels:
        raise RefusedError(
            f"{height}x{width} = {pixels} pixels, more than max_pixels={max_pixels};"
            " make it smaller, or allow more"
        )
    if pixels * bytes_per_pixel > max_pixels * BYTES_PER_PIXEL:
        raise RefusedError(
            f"{height}x{width} pixels of {bytes_per_pixel} bytes are {pixels * bytes_per_pixel}"
            f" bytes, more than {BYTES_PER_PIXEL} for each of max_pixels={max_pixels};"
            " make it smaller, or allow more"
        )


def upright(values: Values, orientation: int) -> Values:
    """Turn an image [height, width, ...] that is stored in an EXIF orientation, 1 to 8."""
    if orientation >= 5:  # rows and columns are swapped
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values


def _require_unit(values: Values) -> None:
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 1):  # also refuses NaN
        raise RefusedError(
            f"floating-point pixels from {low:.6g} to {high:.6g};"
            " they must lie in 0 to 1: scale them, or save the image with 8 or 16 bits"
        )


def _require_range(values: Values, white: int) -> None:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > white:
        raise RefusedError(
            f"integer pixels from {low} to {high}; they must lie in 0 to {white}:"
            " save the image with 8 or 16 bits"
        )
