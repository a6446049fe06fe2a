"""Resizing one image: bicubic and bilinear with antialiasing, and nearest."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Interpolation = Literal["bicubic", "bilinear", "nearest"]
GROUP = 3  # channels resized at once: torch 2.13 has a fast way for uint8 up to 4


def resize(image: Tensor, size: tuple[int, int], interpolation: Interpolation) -> Tensor:
    """Resize levels, uint8 or float32 [c, h, w], to `size` (height, width).

    The result is contiguous, of the same type. It does not depend on the memory layout, nor a
    channel's on the other channels.
    Bicubic and bilinear: first along the rows, then along the columns; uint8 is rounded after each,
    float32 is clipped to 0 to 255 at the end.
    """
    if interpolation == "nearest":
        rows, columns = _centres(image.shape[1], size[0]), _centres(image.shape[2], size[1])
        return image[:, rows][:, :, columns].contiguous()
    if size[1] == 1 and size[0] > 1:
        # torch 2.13 gives wrong uint8 values for a width of 1, right ones for a height of 1.
        row = resize(image.mT, (1, image.shape[1]), interpolation)
        return resize(row, (1, size[0]), interpolation).mT.contiguous()
    if len(image) > GROUP:
        groups = (image[i : i + GROUP] for i in range(0, len(image), GROUP))
        return torch.cat([resize(group, size, interpolation) for group in groups])
    # Channels last is faster, and the only layout torch 2.13 takes for an output of 1x1.
    batch = _with_gap(image)[None].contiguous(memory_format=torch.channels_last)
    resized = F.interpolate(batch, size, mode=interpolation, antialias=True)[0, : len(image)]
    return (resized if image.dtype == torch.uint8 else resized.clamp_(0, 255)).contiguous()


def _with_gap(image: Tensor) -> Tensor:
    """Take in the fourth byte that `decode` skips in RGB: pixels of four bytes are copied faster.

    It is never seen: the caller cuts the fourth channel off again.
    """
    _, down, across = image.stride()
    start, size = image.storage_offset(), image.shape
    end = start + (size[1] - 1) * down + (size[2] - 1) * across + 4
    four = len(image) == 3 and image.stride(0) == 1 and across == 4 and down % 4 == start % 4 == 0
    if four and image.dtype == torch.uint8 and end <= image.untyped_storage().nbytes():
        return image.as_strided((4, *size[1:]), image.stride())
    return image


def _centres(source: int, target: int) -> Tensor:
    """Give the source pixel below the centre of each target pixel, in whole numbers."""
    return (2 * torch.arange(target) + 1) * source // (2 * target)
