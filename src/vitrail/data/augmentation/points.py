"""Operations that turn each grey level into another, whatever stands beside it.

Of 8-bit images all 256 levels are computed once for each image and channel, and read from that
table; of other images, which hold levels between the whole ones, the formula runs on the pixels.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

Pixels = UInt8[Tensor, "b c h w"] | Float[Tensor, "b c h w"]  # levels from 0 to 255
Levels = Float[Tensor, "b c k"]
Names = NDArray[Any]  # strings: their numpy type depends on their length
Amounts = Float[Tensor, "b 1 1"]

# ITU-R 601-2 luma in units of 1/65536, as Pillow has it: float32 holds every sum exactly.
_LUMA = (19595.0, 38470.0, 7471.0)


def points(images: Pixels, names: Names, amounts: NDArray[np.float64]) -> Pixels:
    """Apply to each image the operation of `POINTS` that is named for it.

    Args:
        images: levels from 0 to 255; uint8, or floating point with levels in between.
        names: b keys of POINTS.
        amounts: b, each in the unit of its operation.
    Returns:
        Like `images`. 8-bit levels are cut to whole ones, as Pillow does.
    """
    if images.dtype != torch.uint8:
        return _levels(images.flatten(2), images, names, amounts).clamp(0, 255).view_as(images)
    whole = torch.arange(256, dtype=torch.float64, device=images.device)
    tables = _levels(whole.expand(*images.shape[:2], -1), images, names, amounts)
    tables = tables.clamp(0, 255).to(torch.uint8)  # b c 256
    return tables.gather(2, images.flatten(2).long()).view_as(images)


def _levels(levels: Levels, images: Pixels, names: Names, amounts: NDArray[np.float64]) -> Levels:
    """Compute what `levels` of each image become, all images of an operation together."""
    parts, order = [], []
    for name in np.unique(names):
        rows = np.flatnonzero(names == name)
        at = torch.from_numpy(rows).to(images.device)
        amount = torch.from_numpy(amounts[rows]).to(images.device)[:, None, None]
        chosen = levels.index_select(0, at), images.index_select(0, at)
        parts.append(POINTS[str(name)](*chosen, amount.float()))
        order.append(rows)
    back = torch.from_numpy(np.argsort(np.concatenate(order))).to(images.device)
    return torch.cat(parts).index_select(0, back)


def grey(images: Pixels) -> Float[Tensor, "b 1 h w"]:
    """Give the brightness: the luma of three channels, else the mean of the channels.

    Whole levels of 8-bit images, rounded to the nearest.
    """
    bands = [band.float() for band in images.unbind(1)]
    if len(bands) == 3:
        shares = [weight / 65536 for weight in _LUMA]
    else:
        shares = [1 / len(bands)] * len(bands)
    # One band after the other: the sum does not depend on the size of the batch.
    total = bands[0] * shares[0]
    for band, share in zip(bands[1:], shares[1:], strict=True):
        total += band.mul_(share) if images.dtype == torch.uint8 else band * share
    if images.dtype == torch.uint8:
        total.add_(0.5).floor_()
    return total[:, None]


def mean_level(images: Pixels) -> Float[Tensor, "b 1 1"]:
    """Give the mean of `grey` as float64, read in steps of 1/256 level.

    Such steps add up exactly, in whatever order the sum of a batch of that size is taken.
    """
    steps = grey(images).mul_(256).round_().flatten(2)
    return steps.sum(2, keepdim=True, dtype=torch.float64) / (256 * steps.shape[2])


def blend(base: Tensor, levels: Tensor, amounts: Tensor) -> Tensor:
    """Go from `base` (amount 0) to `levels` (1) or beyond, in float32 like Pillow's blend."""
    return (levels.float() - base).mul_(amounts).add_(base)


def _auto_contrast(levels: Levels, images: Pixels, amounts: Amounts) -> Levels:
    """Stretch each channel to the whole range; a channel of one level stays."""
    low = images.flatten(2).amin(2, keepdim=True).to(levels.dtype)
    high = images.flatten(2).amax(2, keepdim=True).to(levels.dtype)
    scale = torch.full_like(high, 255) / (high - low)  # 255 / x would be 255 x (1 / x)
    return torch.where(high > low, levels * scale - low * scale, levels)


def _equalize(levels: Levels, images: Pixels, amounts: Amounts) -> Levels:
    """Make the levels of each channel equally frequent, by Pillow's whole-number rule.

    Between whole levels the table is read linearly.
    """
    whole = images.flatten(2).clamp(0, 255).long()
    counts = torch.zeros(*whole.shape[:2], 256, dtype=torch.int32, device=images.device)
    one = torch.ones(1, dtype=torch.int32, device=images.device)
    counts.scatter_add_(2, whole, one.expand_as(whole))
    place = torch.arange(256, device=images.device)
    highest = torch.where(counts > 0, place, -1).amax(2, keepdim=True)
    step = (whole.shape[2] - counts.gather(2, highest)) // 255
    below = counts.cumsum(2) - counts
    table = (step // 2 + below) // step.clamp(min=1)
    table = torch.where(step > 0, table.clamp(0, 255), place).to(levels.dtype)
    lower = levels.clamp(0, 255).floor()
    first = table.gather(2, lower.long())
    second = table.gather(2, (lower.long() + 1).clamp(max=255))
    return first + (levels - lower) * (second - first)


def _invert(levels: Levels, images: Pixels, amounts: Amounts) -> Levels:
    """Turn dark into light."""
    return 255 - levels


def _posterize(levels: Levels, images: Pixels, amounts: Amounts) -> Levels:
    """Keep the highest bits of each level; amount: how many, 8 or more for all, 0 for black."""
    step = 1 << (8 - amounts.clamp(0, 8).long())  # 1 to 256
    return (levels / step).floor() * step


def _solarize(levels: Levels, images: Pixels, amounts: Amounts) -> Levels:
    """Invert levels that are not below the amount."""
    return torch.where(levels < amounts, levels, 255 - levels)


def _solarize_add(levels: Levels, images: Pixels, amounts: Amounts) -> Levels:
    """Add the amount to levels below 128."""
    return torch.where(levels < 128, levels + amounts, levels)


def _brightness(levels: Levels, images: Pixels, amounts: Amounts) -> Levels:
    """Scale; 0: black, 1: unchanged."""
    return levels.float() * amounts


def _contrast(levels: Levels, images: Pixels, amounts: Amounts) -> Levels:
    """Scale about the mean brightness; 0: flat, 1: unchanged."""
    mean = mean_level(images)
    if images.dtype == torch.uint8:
        mean = (mean + 0.5).floor()
    return blend(mean.float(), levels, amounts)


POINTS: dict[str, Callable[[Levels, Pixels, Amounts], Levels]] = {
    "AutoContrast": _auto_contrast,
    "Equalize": _equalize,
    "Invert": _invert,
    "Posterize": _posterize,
    "Solarize": _solarize,
    "SolarizeAdd": _solarize_add,
    "Brightness": _brightness,
    "Contrast": _contrast,
}
"""What each grey level becomes: levels, the images they stand in, amounts."""
