"""Operations that move the pixels of an image: rotate, shear, translate, in one resampling."""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from vitrail.data.augmentation.points import Names, Pixels

Matrix = tuple[float, float, float, float, float, float]
"""a, b, c, d, e, f: the pixel at (x, y) comes from (a x + b y + c, d x + e y + f).

As in Pillow's transforms, the upper left pixel reaches from (0, 0) to (1, 1).
"""


def moves(images: Pixels, names: Names, amounts: NDArray[np.float64], fill: int) -> Pixels:
    """Apply to each image the operation of `MOVES` that is named for it; see `transform`."""
    size = (images.shape[2], images.shape[3])
    matrices = [
        MOVES[name](amount, size)
        for name, amount in zip(names.tolist(), amounts.tolist(), strict=True)
    ]
    return transform(images, np.array(matrices), fill)


def transform(images: Pixels, matrices: Float[np.ndarray, "b 6"], fill: int) -> Pixels:
    """Take each pixel from the place that the matrix of its image says, bilinearly.

    Args:
        images: levels from 0 to 255.
        matrices: see `Matrix`.
        fill: level of what comes from outside of the image.
    Returns:
        Like `images`; 8-bit levels are rounded, where Pillow cuts them, which darkens. Within a
        thousandth of a pixel of the edge of the image, a place may count as inside or outside.
    """
    height, width = images.shape[2:]
    grid = _grid(matrices, (height, width), images.device)
    x = F.grid_sample(
        images.float(),
        grid.permute(0, 2, 3, 1),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    if images.dtype == torch.uint8:
        x = x.add_(0.5).to(torch.int16)
    x = x.to(images.dtype)
    inside = torch.maximum(grid[:, :1].abs(), grid[:, 1:].abs()) <= 1
    # Sums of products: several times as fast as a choice by a mask.
    return x.mul_(inside.to(x.dtype)).add_((~inside).to(x.dtype), alpha=fill)


def _grid(
    matrices: NDArray[np.float64], size: tuple[int, int], device: torch.device
) -> Float[Tensor, "b 2 h w"]:
    """Turn places in pixels into those of `grid_sample`: x and y from -1 to 1, edge to edge.

    Seen from the centre, where float32 is finest. Not a matrix product: autocast would round it.
    """
    half = np.array([size[1] / 2, size[0] / 2])
    rows = matrices.reshape(-1, 2, 3)
    shift = rows[:, :, :2] @ half + rows[:, :, 2] - half
    scaled = torch.from_numpy(
        np.concatenate([rows[:, :, :2], shift[:, :, None]], 2) / half[:, None]
    )
    across, down, offset = scaled.float().to(device)[..., None, None].unbind(2)  # each b 2 1 1
    ys = torch.arange(size[0], device=device) + (0.5 - size[0] / 2)
    xs = torch.arange(size[1], device=device) + (0.5 - size[1] / 2)
    return (across * xs + offset) + down * ys[:, None]


def _rotate(degrees: float, size: tuple[int, int]) -> Matrix:
    """Rotate about the centre, counter-clockwise."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = size[1] / 2, size[0] / 2
    return cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y


def _shear_x(slant: float, size: tuple[int, int]) -> Matrix:
    """Take each row from `slant` pixels further right than the row above it; the top stays."""
    return 1.0, slant, 0.0, 0.0, 1.0, 0.0


def _shear_y(slant: float, size: tuple[int, int]) -> Matrix:
    """Take each column from `slant` pixels further down than the column left of it."""
    return 1.0, 0.0, 0.0, slant, 1.0, 0.0


def _translate_x(pixels: float, size: tuple[int, int]) -> Matrix:
    """Move to the left."""
    return 1.0, 0.0, pixels, 0.0, 1.0, 0.0


def _translate_y(pixels: float, size: tuple[int, int]) -> Matrix:
    """Move up."""
    return 1.0, 0.0, 0.0, 0.0, 1.0, pixels


MOVES: dict[str, Callable[[float, tuple[int, int]], Matrix]] = {
    "Rotate": _rotate,
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "TranslateX": _translate_x,
    "TranslateY": _translate_y,
}
"""The matrix of an operation: its amount, and (height, width) in pixels."""
