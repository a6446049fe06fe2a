"""Operations that look at all channels of a pixel, or at its neighbours: colour, sharpness, blur.

Sources: Pillow's ImageEnhance, ImageFilter and HSV mode, whose 8-bit steps are kept for 8-bit
images; images with levels between the whole ones are not rounded anywhere.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from vitrail.data.augmentation.points import Pixels, blend, grey

_PASSES = 3  # boxes that stand for a Gaussian


def finish(values: Float[Tensor, "b c h w"], like: Pixels) -> Pixels:
    """Clip to 0 to 255, and cut to whole levels where `like` is 8-bit. Changes `values`."""
    values.clamp_(0, 255)
    if like.dtype != torch.uint8:
        return values.to(like.dtype)
    return values.to(torch.int16).to(torch.uint8)  # five times as fast as in one step


def to_grey(images: Pixels, amounts: NDArray[np.float64]) -> Pixels:
    """Take the colour away; the number of channels stays. The amounts are of no account."""
    return grey(images).to(images.dtype).expand_as(images)


def color(images: Pixels, amounts: NDArray[np.float64]) -> Pixels:
    """Blend with `grey`: 0: no colour, 1: unchanged, above: more. One channel has no colour."""
    return finish(blend(grey(images), images, _column(amounts, images)), images)


def sharpness(images: Pixels, amounts: NDArray[np.float64]) -> Pixels:
    """Blend with the image smoothed by 3 x 3 pixels: 0: smooth, 1: unchanged, above: sharper.

    The outermost pixels stay as they are, and so does an image less than 3 pixels high or wide.
    """
    x = images.float()
    if min(x.shape[2:]) < 3:
        return images
    rows = (x[..., :-2] + x[..., 1:-1]).add_(x[..., 2:])
    inner = (rows[:, :, :-2] + rows[:, :, 1:-1]).add_(rows[:, :, 2:])
    inner.add_(x[:, :, 1:-1, 1:-1], alpha=4).mul_(1 / 13)  # the middle counts 5, the others 1
    if images.dtype == torch.uint8:
        inner.add_(0.5).floor_()
    smooth = x.clone()
    smooth[:, :, 1:-1, 1:-1] = inner
    return finish(blend(smooth, x, _column(amounts, images)), images)


def gaussian_blur(images: Pixels, amounts: NDArray[np.float64]) -> Pixels:
    """Blur by a Gaussian, each image with its own standard deviation in pixels.

    Three boxes along the rows, then three along the columns; outside, the edge goes on.
    Source: Gwosdek et al. 2011, doi:10.1007/978-3-642-24785-9_38, as Pillow does it.
    """
    boxes = [_box_weights(radius) for radius in amounts.tolist()]
    reach = max(len(weights) for weights in boxes)
    padded = [weights + [0.0] * (reach - len(weights)) for weights in boxes]
    eight_bit = images.dtype == torch.uint8
    exact = torch.float64 if eight_bit else torch.float32  # halves of a level are frequent
    taps = torch.tensor(padded, dtype=exact, device=images.device).T[..., None, None, None]
    x = images.to(exact)
    for axis in (3, 2):
        for _ in range(_PASSES):
            x = _box(x, taps, axis)
            if eight_bit:
                x.add_(0.5).floor_()
    return finish(x, images)


def _box_weights(deviation: float) -> list[float]:
    """Weigh the middle of the box, then the pixels at distance 1, 2, … on either side.

    In float32 and in 2^-24ths, the steps in which Pillow has them.
    """
    variance = np.float32(np.float32(deviation) ** 2 / _PASSES)
    length = np.float32(math.sqrt(12 * variance + 1))
    whole = np.float32(math.floor((length - 1) / 2))
    part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance)
    part /= 6 * (variance - (whole + 1) * (whole + 1))
    inner = int(np.float32(2**24) / ((whole + part) * 2 + 1))
    outer = (2**24 - (2 * int(whole) + 1) * inner) // 2
    return [inner / 2**24] * (int(whole) + 1) + [outer / 2**24]


def _box(x: Tensor, taps: Tensor, axis: int) -> Tensor:
    """Average along an axis with weights taps[distance], each b 1 1 1."""
    reach, size = len(taps) - 1, x.shape[axis]
    first, last = x.narrow(axis, 0, 1), x.narrow(axis, size - 1, 1)
    x = torch.cat([first] * reach + [x] + [last] * reach, dim=axis)
    total = x.narrow(axis, reach, size) * taps[0]
    for distance in range(1, reach + 1):
        sides = x.narrow(axis, reach - distance, size) + x.narrow(axis, reach + distance, size)
        total.add_(sides.mul_(taps[distance]))
    return total


def hue(images: Pixels, amounts: NDArray[np.float64]) -> Pixels:
    """Turn the hue of three channels by a part of the circle, -0.5 to 0.5; others stay.

    Of 8-bit images hue and saturation are whole levels on the way, and the turn is a whole number
    of 256ths, as in Pillow.
    """
    if images.shape[1] != 3:
        return images
    eight_bit = images.dtype == torch.uint8
    turns, saturation, value = _to_hsv(images)
    if eight_bit:
        shift = np.trunc(amounts * 255)
        steps = (turns.double() * 255).floor_().add_(_column(shift, images)[:, 0])
        turns = steps.sub_((steps / 256).floor_().mul_(256)).float().div_(255)
        saturation = (saturation.double() * 255).floor_().float().div_(255)
    else:
        turns = turns + _column(amounts, images)[:, 0]
    return finish(_from_hsv(turns, saturation, value, half=0.5 if eight_bit else 0.0), images)


def _to_hsv(images: Pixels) -> tuple[Tensor, Tensor, Tensor]:
    """Give hue, as a part of the circle, saturation, 0 to 1, and value, 0 to 255: each b h w."""
    r, g, b = images.float().unbind(1)
    value = torch.maximum(torch.maximum(r, g), b)
    chroma = value - torch.minimum(torch.minimum(r, g), b)
    some = chroma.clamp(min=1e-6)
    red, green, blue = (value - r) / some, (value - g) / some, (value - b) / some
    # Sums and the last step in float64, each rounded to float32, as C does with Pillow's source.
    second, third = 2.0 + red.double() - blue, 4.0 + green.double() - red
    sixths = torch.where(g == value, second.float(), third.float())
    sixths = torch.where(r == value, blue - green, sixths)
    turns = sixths.double().div_(6).add_(1)
    turns = turns.sub_(turns.floor()).float()
    return turns.masked_fill_(chroma == 0, 0), chroma / value.clamp(min=1e-6), value


def _from_hsv(turns: Tensor, saturation: Tensor, value: Tensor, half: float) -> Tensor:
    """Undo `_to_hsv`, and add `half`, which makes cutting to whole levels a rounding.

    A channel lacks all of the chroma for two sixths of the circle, none of it for two, and goes
    straight in between.
    """
    channels = []
    lost = value * saturation
    for start in (5, 3, 1):
        place = turns * 6 + start
        place.sub_((place / 6).floor_().mul_(6))
        missing = torch.minimum(place, 4 - place).clamp_(0, 1).mul_(lost)
        channels.append((value - missing).add_(half))
    return torch.stack(channels, dim=1)


def _column(amounts: NDArray[np.float64], like: Tensor) -> Tensor:
    """Bring one number an image to its device: float32, b 1 1 1."""
    return torch.from_numpy(amounts).to(like.device).float()[:, None, None, None]
