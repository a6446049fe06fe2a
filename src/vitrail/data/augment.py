"""Augmentation in batches; each image has its own draw, a function of (seed, epoch, sample)."""

import math
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from vitrail.config import Config
from vitrail.data.augmentation import policies
from vitrail.data.augmentation.operations import Layer, apply
from vitrail.data.augmentation.points import Pixels
from vitrail.data.keyed import uniform

Share = Annotated[float, Field(ge=0, le=1)]
Policy = Literal["none", "randaugment", "randaugment-increasing", "trivialaugment", "3-augment"]


class AugmentConfig(Config):
    """How training images are varied. Zero (or None) turns each part off."""

    crop_area: tuple[Annotated[float, Field(gt=0)], Share] | None = None
    """Random resized crop: smallest and largest part of the image's area."""
    crop_aspect: Annotated[float, Field(ge=1)] = 4 / 3
    """Random resized crop: widest aspect; the narrowest is its inverse."""
    flip: bool = True
    """Mirror half of the images left to right, where the data allows it (letters do not)."""
    flip_vertical: bool = False
    """Mirror half of the images top to bottom, where the data allows it."""
    policy: Policy = "none"
    """Operations drawn for each image. randaugment: as its authors and AugReg have it;
    randaugment-increasing: as timm and DeiT have it; trivialaugment: one operation, wide;
    3-augment: grey, solarize or blur, and a jitter of 0.3 unless `jitter` is set (DeiT III)."""
    layers: Annotated[int, Field(ge=1, le=16)] = 2
    """RandAugment: how many operations, one after the other."""
    magnitude: Annotated[float, Field(ge=0, le=30)] = 9.0
    """RandAugment: strength; 10 is the usual full one, and the most of randaugment-increasing."""
    magnitude_std: Annotated[float, Field(ge=0, le=30)] = 0.0
    """RandAugment: standard deviation of the strength."""
    jitter: tuple[Share, Share, Share, Annotated[float, Field(ge=0, le=0.5)]] | None = None
    """Largest change of brightness, contrast, saturation (as factors) and hue (as a part of the
    circle), in an order drawn for each image."""
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest rotation in degrees, either way."""
    translate: Share = 0.0
    """Largest shift as a part of the image's side, either way."""
    scale: Share = 0.0
    """Largest change of size, either way: 0.2 is from 1/1.2 to 1.2, each side by itself."""
    shear: Annotated[float, Field(ge=0, lt=90)] = 0.0
    """Largest slant in degrees, either way."""
    warp: Share = 0.0
    """Largest displacement of the nodes of a smooth 4 x 4 grid, as a part of the image's side."""
    erase: Share = 0.0
    """Chance that a random rectangle is painted over."""
    mixup: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """Mix pairs of images with weights from Beta(mixup, mixup)."""
    cutmix: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """Paste a box of the partner into each image of a pair; the part of its area is from
    Beta(cutmix, cutmix). With mixup too, each pair gets one of the two, half of the pairs each."""

    @model_validator(mode="after")
    def _check(self) -> "AugmentConfig":
        if self.crop_area is not None and self.crop_area[0] > self.crop_area[1]:
            raise ValueError(f"crop_area={self.crop_area} must go from the smaller to the larger")
        if self.policy == "randaugment-increasing" and self.magnitude > 10:
            raise ValueError(f"magnitude={self.magnitude} must be at most 10 with {self.policy}")
        return self


class Draw:
    """The randomness of one batch: which samples, in which epoch."""

    def __init__(self, seed: int, epochs: NDArray[np.int64], samples: NDArray[np.int64]) -> None:
        """One epoch and one sample index for each image of the batch."""
        self.seed = seed
        self.epochs = epochs
        self.samples = samples

    def uniform(self, stream: str, count: int) -> NDArray[np.float64]:
        """`count` numbers in [0, 1) for each image: b x count."""
        return uniform(stream, self.seed, self.epochs, self.samples, count)


def random_box(
    u: NDArray[np.float64],
    size: tuple[int, int],
    area: tuple[float, float],
    aspect: float,
    shape: float = 1.0,
) -> tuple[int, int, int, int]:
    """Choose a crop of an image: (top, left, height, width) in pixels, always inside it.

    Args:
        u: four numbers in [0, 1).
        size: (height, width) of the image in pixels.
        area: smallest and largest part of the area.
        aspect: width / height lies between shape / aspect and shape x aspect, uniform in its
            logarithm; a side that would stick out of the image is cut to it.
        shape: width / height of what the box will become.
    Source: Szegedy et al. 2015, arXiv:1409.4842, section 6.
    """
    height, width = size
    wanted = height * width * (area[0] + (area[1] - area[0]) * u[0])
    ratio = shape * math.exp((2 * u[1] - 1) * math.log(aspect))
    h = min(height, max(1, round(math.sqrt(wanted / ratio))))
    w = min(width, max(1, round(math.sqrt(wanted * ratio))))
    return int(u[2] * (height - h + 1)), int(u[3] * (width - w + 1)), h, w


def augment(images: Pixels, draw: Draw, config: AugmentConfig) -> Float[Tensor, "b c h w"]:
    """Flip, change by the policy, jitter, move and erase, each image by its own draw.

    Args:
        images: levels from 0 to 255; uint8, or floating point with levels in between.
        draw: the randomness of this batch.
        config: what is done.
    Returns:
        float32 in [0, 255], not rounded to whole grey levels.
    """
    x = images
    if config.flip:
        x = _mirror(x, draw.uniform("flip", 1)[:, 0] < 0.5, 3)
    if config.flip_vertical:
        x = _mirror(x, draw.uniform("flip vertical", 1)[:, 0] < 0.5, 2)
    layers = policy_layers(draw, config, (x.shape[2], x.shape[3]))
    x = (apply(x, layers) if layers else x).float()
    if config.rotate or config.translate or config.scale or config.shear or config.warp:
        x = _move(x, draw, config)
    if config.erase:
        x = _erase(x, draw, config.erase)
    return x


def policy_layers(draw: Draw, config: AugmentConfig, size: tuple[int, int]) -> list[Layer]:
    """Draw the operations of the policy and of the jitter for images of (height, width)."""
    layers: list[Layer] = []
    if config.policy in policies.RANDAUGMENT:
        u = draw.uniform("policy", policies.DRAWS * config.layers)
        for part in np.split(u, config.layers, axis=1):
            one = policies.RANDAUGMENT[config.policy]
            layers.append(one(part, size, config.magnitude, config.magnitude_std))
    elif config.policy == "trivialaugment":
        layers.append(policies.trivial_augment(draw.uniform("policy", policies.DRAWS), size))
    elif config.policy == "3-augment":
        layers.append(policies.three_augment(draw.uniform("policy", policies.DRAWS)))
    most = config.jitter
    if most is None and config.policy == "3-augment":
        most = (0.3, 0.3, 0.3, 0.0)
    if most is not None and any(most):
        layers += policies.jitter(draw.uniform("jitter", 8), most)
    return layers


def affine_matrices(
    u: NDArray[np.float64], size: tuple[int, int], config: AugmentConfig
) -> NDArray[np.float64]:
    """Where each pixel of the result is taken from, in pixels from the centre: b x 2 x 3.

    Args:
        u: b x 6 numbers in [0, 1): rotation, shear, scale of x and y, shift of x and y.
        size: (height, width) in pixels.
    """
    signed = 2 * u - 1
    angle, slant = np.radians(config.rotate) * signed[:, 0], np.radians(config.shear) * signed[:, 1]
    stretch = (1 + config.scale) ** signed[:, 2:4]
    cos, sin, tan = np.cos(angle), np.sin(angle), np.tan(slant)
    rotation = np.stack([np.stack([cos, sin], 1), np.stack([-sin, cos], 1)], 1)
    slanted = np.stack([np.stack([np.ones_like(tan), tan], 1), np.tile([0.0, 1.0], (len(u), 1))], 1)
    linear = (rotation @ slanted) / stretch[:, None, :]
    shift = signed[:, 4:6] * config.translate * np.array([size[1], size[0]])
    return np.concatenate([linear, shift[:, :, None]], axis=2)


def _mirror(x: Tensor, chosen: NDArray[np.bool_], axis: int) -> Tensor:
    """Mirror the chosen images along an axis."""
    rows = np.arange(len(x)) + len(x) * chosen
    return torch.cat([x, x.flip(axis)]).index_select(0, torch.from_numpy(rows).to(x.device))


def _move(x: Tensor, draw: Draw, config: AugmentConfig) -> Tensor:
    """Rotate, slant, stretch, shift and warp in one resampling; outside, the edge goes on."""
    height, width = x.shape[-2:]
    matrices = _to(affine_matrices(draw.uniform("affine", 6), (height, width), config), x)
    ys = torch.arange(height, device=x.device) - (height - 1) / 2
    xs = torch.arange(width, device=x.device) - (width - 1) / 2
    across, down, shift = matrices[..., None, None].unbind(2)  # each b 2 1 1
    # Not a matrix product: autocast would round it to bf16, half a pixel at 224.
    places = across * xs + down * ys[:, None] + shift  # b 2 h w, in pixels from the centre
    if config.warp:
        places = places + _warp_field(draw, x, config.warp)
    half = torch.tensor([width / 2, height / 2], device=x.device)
    grid = places.permute(0, 2, 3, 1) / half  # b h w 2, in [-1, 1] over the outer edges
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _warp_field(draw: Draw, x: Tensor, amount: float) -> Tensor:
    """Smooth random displacements in pixels, b 2 h w: a 4 x 4 grid of draws, bicubic between.

    Where neighbouring draws conspire, bicubic overshoots them, by 1.89 times at most.
    """
    height, width = x.shape[-2:]
    coarse = _to(2 * draw.uniform("warp", 32) - 1, x).view(-1, 2, 4, 4)
    field = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)
    return field * amount * torch.tensor([width, height], device=x.device).view(2, 1, 1)


def _erase(x: Tensor, draw: Draw, chance: float) -> Tensor:
    """Paint a rectangle of 2 to 33 % of the area in one random level. Source: arXiv:1708.04896."""
    height, width = x.shape[-2:]
    u = draw.uniform("erase", 6)
    boxes = np.array([random_box(row, (height, width), (0.02, 1 / 3), 10 / 3) for row in u[:, 2:]])
    top, left, h, w = _to(boxes, x).T[:, :, None]
    rows = torch.arange(height, device=x.device)
    columns = torch.arange(width, device=x.device)
    inside = ((rows >= top) & (rows < top + h))[:, :, None] & (
        (columns >= left) & (columns < left + w)
    )[:, None, :]
    chosen = _to(u[:, 0] < chance, x)[:, None, None] & inside  # b h w
    level = (_to(u[:, 1], x) * 255)[:, None, None, None]
    return torch.where(chosen[:, None], level, x)


def _to(values: NDArray[np.generic], like: Tensor) -> Tensor:
    """Bring drawn numbers to the images' device; floating ones as float32."""
    tensor = torch.from_numpy(values).to(like.device)
    return tensor.float() if tensor.is_floating_point() else tensor
