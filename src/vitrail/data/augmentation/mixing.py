"""Mixing of pairs: mixup and CutMix. Places 0 and 1 of a batch are a pair, 2 and 3, and so on."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.special import betaincinv
from torch import Tensor

from vitrail.data.augment import AugmentConfig, Draw


class Mixing(NamedTuple):
    """How each of b images is mixed with its partner; by itself if it has none."""

    weights: NDArray[np.float64]  # b, the part of the image itself, for its target
    cut: NDArray[np.bool_]  # b, whether a box of the partner is pasted in; else mixup
    boxes: NDArray[np.int64]  # b x 4: top, bottom, left, right of that box; empty without one


def draw_mixing(draw: Draw, config: AugmentConfig, size: tuple[int, int]) -> Mixing | None:
    """Decide how the pairs of a batch are mixed; None if they are not.

    Whether a box is pasted, and which, follows from the draw of the pair's first image; the
    weights of mixup from each image's own.

    Args:
        draw: the randomness of this batch.
        config: `mixup` and `cutmix` are the parameters of the two Beta laws, 0 for neither.
        size: (height, width) of the images in pixels.
    """
    b = len(draw.samples)
    if not (config.mixup or config.cutmix):
        return None
    cut, boxes = np.zeros(b, dtype=np.bool_), np.zeros((b, 4), dtype=np.int64)
    weights = mixup_weights(draw, config.mixup) if config.mixup else np.ones(b)
    if config.cutmix:
        first = np.arange(b) // 2 * 2
        u = draw.uniform("cutmix", 4)[first]
        paired = np.arange(b) // 2 < b // 2  # the last image of an odd batch has no partner
        cut = paired & ((u[:, 0] < 0.5) | (config.mixup == 0))
        boxes = np.where(cut[:, None], _boxes(u[:, 1:], config.cutmix, size), 0)
        area = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
        weights = np.where(cut, 1 - area / (size[0] * size[1]), weights)
    return Mixing(weights, cut, boxes)


def _boxes(u: NDArray[np.float64], alpha: float, size: tuple[int, int]) -> NDArray[np.int64]:
    """Choose boxes: top, bottom, left, right; what sticks out of the image is lost.

    Args:
        u: b x 3 in [0, 1): area, and y and x of the middle.
        alpha: the box has 1 - Beta(alpha, alpha) of the area, before it is cut.
        size: (height, width) in pixels.
    Source: Yun et al. 2019, arXiv:1905.04899, section 3.1.
    """
    side = np.sqrt(1 - betaincinv(alpha, alpha, u[:, 0]))
    bounds = []
    for axis, pixels in enumerate(size):
        half = np.floor(pixels * side) // 2
        middle = np.floor(u[:, 1 + axis] * pixels)
        bounds += [np.clip(middle - half, 0, pixels), np.clip(middle + half, 0, pixels)]
    return np.stack(bounds, axis=1).astype(np.int64)


def mix_images(x: Float[Tensor, "b c h w"], mixing: Mixing) -> Float[Tensor, "b c h w"]:
    """Mix each image with its partner, or paste the box of the partner into it."""
    mixed = mix(x, np.where(mixing.cut, 1.0, mixing.weights))
    if not mixing.cut.any():
        return mixed
    bounds = torch.from_numpy(mixing.boxes).to(x.device)
    top, bottom, left, right = bounds.T[:, :, None]  # each b 1
    rows = torch.arange(x.shape[2], device=x.device)
    columns = torch.arange(x.shape[3], device=x.device)
    inside = ((rows >= top) & (rows < bottom))[:, :, None] & (
        (columns >= left) & (columns < right)
    )[:, None, :]
    return torch.where(inside[:, None], x[_partners(x)], mixed)


def mix_targets(targets: Float[Tensor, "b classes"], mixing: Mixing) -> Float[Tensor, "b classes"]:
    """Mix targets by the parts that the images have in what came of them."""
    return mix(targets, mixing.weights)


def mixup_weights(draw: Draw, alpha: float) -> NDArray[np.float64]:
    """Weight of each image against its partner, in [0.5, 1]; b numbers.

    Source: Zhang et al. 2018, arXiv:1710.09412; the larger weight is always the image's own.
    """
    weights = betaincinv(alpha, alpha, draw.uniform("mixup", 1)[:, 0])
    return np.maximum(weights, 1 - weights)  # type: ignore[no-any-return]


def mix(x: Float[Tensor, "b ..."], weights: NDArray[np.float64]) -> Float[Tensor, "b ..."]:
    """Mix each row with its neighbour (0 with 1, 2 with 3, …); the last of an odd batch stays.

    Pairs are fixed by the place in the batch, so targets are mixed by the same call.
    """
    own = torch.from_numpy(weights).to(x.device, x.dtype).view(-1, *[1] * (x.dim() - 1))
    return torch.lerp(x[_partners(x)], x, own)


def _partners(x: Tensor) -> Tensor:
    """Give the place of each row's partner: its own for the last of an odd batch."""
    partner = np.arange(len(x)) ^ 1
    partner[partner == len(x)] = len(x) - 1
    return torch.from_numpy(partner).to(x.device)
