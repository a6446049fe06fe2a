"""Single operations of augmentation on a batch: each image has its own, with its own amount."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from vitrail.data.augmentation.filters import color, gaussian_blur, hue, sharpness, to_grey
from vitrail.data.augmentation.moves import moves
from vitrail.data.augmentation.points import Names, Pixels, points

_AT_ONCE = 2**19  # levels worked on together: more would leave the cache of a core


class Layer(NamedTuple):
    """One operation for each of b images."""

    names: Names  # b keys of OPERATIONS
    amounts: NDArray[np.float64]  # b, what OPERATIONS says
    places: NDArray[np.float64]  # b x 2 in [0, 1): y and x of the middle of a cut-out
    fill: int  # level of what comes from outside of the image, or is cut out


def apply(images: Pixels, layers: Sequence[Layer]) -> Pixels:
    """Apply to each image its own operation of each layer, one layer after the other.

    In a layer the images of a kind of operation are worked on together, so that a batch costs one
    operation an image and layer. What becomes of an image does not depend on the others.

    Args:
        images: uint8, or floating point with levels from 0 to 255 that need not be whole.
        layers: what is done.
    Returns:
        Like `images`, which stay as they are.
    """
    result = images.clone()
    for layer in layers:
        kinds = np.array([OPERATIONS[name] for name in layer.names.tolist()], dtype=np.str_)
        for kind in np.unique(kinds[kinds != "none"]):
            for rows in _shares(np.flatnonzero(kinds == kind), images):
                part = result.index_select(0, torch.from_numpy(rows).to(images.device))
                done = _apply_kind(str(kind), part, rows, layer)
                for row, image in zip(rows.tolist(), done, strict=True):
                    result[row] = image  # many times as fast on a CPU as with all rows at once
    return result


def _shares(rows: NDArray[np.int64], images: Pixels) -> list[NDArray[np.int64]]:
    """Cut a list of images into shares of `_AT_ONCE` levels; a GPU takes all of them at once."""
    if images.device.type != "cpu":
        return [rows]
    each = max(1, _AT_ONCE // max(1, images[0].numel()))
    return [rows[start : start + each] for start in range(0, len(rows), each)]


def _apply_kind(kind: str, images: Pixels, rows: NDArray[np.int64], layer: Layer) -> Pixels:
    names, amounts = layer.names[rows], layer.amounts[rows]
    if kind == "point":
        return points(images, names, amounts)
    if kind == "move":
        return moves(images, names, amounts, layer.fill)
    if kind == "Cutout":
        return cut_out(images, amounts, layer.places[rows], layer.fill)
    return _FILTERS[kind](images, amounts)


def cut_out(
    images: Pixels,
    amounts: NDArray[np.float64],
    places: NDArray[np.float64],
    fill: int,
) -> Pixels:
    """Paint over a square; what sticks out of the image is lost.

    Args:
        images: levels from 0 to 255.
        amounts: b, half of the side in pixels.
        places: b x 2 in [0, 1), y and x of the middle.
        fill: level of the square.
    Source: DeVries and Taylor 2017, arXiv:1708.04552.
    """
    inside = []
    for axis, size in enumerate(images.shape[2:]):
        middle = np.floor(places[:, axis] * size)
        bounds = np.stack([middle - amounts, middle + amounts])[:, :, None]
        low, high = torch.from_numpy(bounds).to(images.device)
        at = torch.arange(size, device=images.device)
        inside.append((at >= low) & (at < high))
    square = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return images.masked_fill(square, fill)


_FILTERS: dict[str, Callable[[Pixels, NDArray[np.float64]], Pixels]] = {
    "Color": color,
    "Sharpness": sharpness,
    "Grey": to_grey,
    "GaussianBlur": gaussian_blur,
    "Hue": hue,
}

OPERATIONS: dict[str, str] = {
    "Identity": "none",
    "AutoContrast": "point",
    "Equalize": "point",
    "Invert": "point",
    "Posterize": "point",  # bits that are kept
    "Solarize": "point",  # level from which on levels are inverted
    "SolarizeAdd": "point",  # added to levels below 128
    "Contrast": "point",  # factor: 0 flat, 1 unchanged
    "Brightness": "point",  # factor: 0 black, 1 unchanged
    "Rotate": "move",  # degrees counter-clockwise
    "ShearX": "move",  # pixels to the left for each row down
    "ShearY": "move",  # pixels up for each column to the right
    "TranslateX": "move",  # pixels to the left
    "TranslateY": "move",  # pixels up
    "Color": "Color",  # factor: 0 grey, 1 unchanged
    "Sharpness": "Sharpness",  # factor: 0 smooth, 1 unchanged
    "Grey": "Grey",
    "GaussianBlur": "GaussianBlur",  # standard deviation in pixels
    "Hue": "Hue",  # part of the circle, -0.5 to 0.5
    "Cutout": "Cutout",  # half of the side in pixels
}
"""Every operation, and the kind that it is worked on together with; behind it: what its amount is.

Point operations, Sharpness, GaussianBlur and moves treat each channel alike. Color, Contrast and
Grey take the luma of three channels as brightness, the mean of any other number. Hue leaves images
that have not three channels as they are.
"""
