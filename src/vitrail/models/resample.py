"""Weights brought to other sizes: positions, patches, channels, and bias tables."""

from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Grid = tuple[int, int]  # rows, columns
Rule = Literal["antialias", "bicubic", "offset", "corners", "linear"]


def resample_positions(
    table: Float[Tensor, "1 n d"],
    source: Grid,
    target: Grid,
    prefix: int,
    rule: Rule = "antialias",
) -> Float[Tensor, "1 m d"]:
    """Bring a table of position embeddings to another grid of patches, in two dimensions.

    Args:
        table: `prefix` rows for tokens without a place, then one row a patch, row by row.
        source: (rows, columns) of the table.
        target: (rows, columns) wanted.
        prefix: how many leading rows have no place in the image; they stay as they are.
        rule: whose interpolation, see `resample_grid`.
    Raises:
        ValueError: the table does not have `prefix` + rows x columns rows.
    Source: Dosovitskiy et al. 2021, section 3.2.
    """
    if table.shape[1] != prefix + source[0] * source[1]:
        raise ValueError(f"a table of {table.shape[1]} rows does not fit grid={source}, {prefix=}")
    if source == target:
        return table
    places = table[:, prefix:].reshape(1, *source, -1).permute(0, 3, 1, 2)  # 1 d rows columns
    places = resample_grid(places.float(), target, rule)
    places = places.permute(0, 2, 3, 1).flatten(1, 2).to(table.dtype)
    return torch.cat([table[:, :prefix], places], dim=1)


def resample_grid(
    maps: Float[Tensor, "b d rows columns"], target: Grid, rule: Rule
) -> Float[Tensor, "b d more_rows more_columns"]:
    """Interpolate maps on a grid as the ecosystem does that the weights come from.

    - antialias: bicubic, smoothed when it shrinks (timm; DINOv2 with registers in transformers)
    - bicubic: bicubic (transformers, DeiT, MAE, Swin)
    - offset: bicubic, by the factor (target + 0.1) / source rather than the sizes (DINO, DINOv2)
    - corners: bicubic, the centres of the corners stay in place (torchvision)
    - linear: bilinear, the centres of the corners stay in place (Google's vision_transformer)
    """
    if rule == "antialias":
        return F.interpolate(maps, size=target, mode="bicubic", antialias=True)
    if rule == "bicubic":
        return F.interpolate(maps, size=target, mode="bicubic")
    if rule == "offset":
        scale = tuple((t + 0.1) / s for t, s in zip(target, maps.shape[-2:], strict=True))
        return F.interpolate(maps, scale_factor=scale, mode="bicubic")
    mode = "bicubic" if rule == "corners" else "bilinear"
    return F.interpolate(maps, size=target, mode=mode, align_corners=True)


def resize_patches(
    weight: Float[Tensor, "d c p q"], size: tuple[int, int]
) -> Float[Tensor, "d c r s"]:
    """Bring the kernel of a patch embedding to another patch size by the pseudo-inverse resize.

    The new kernel answers to a resized patch as the old one does to the patch itself: exactly where
    the patch grows, and as nearly as can be, over patches of white noise, where it shrinks.
    Computed in float64.

    Args:
        weight: one kernel a feature and channel.
        size: height and width of the new patch in pixels.
    Source: Beyer et al. 2023 (FlexiViT), arXiv:2212.08013, section 3.4; bilinear as there.
    """
    old = (weight.shape[2], weight.shape[3])
    if old == size:
        return weight
    inverse = _pseudo_inverse(old, size).to(weight.device)  # new pixels x old pixels
    resized = weight.double().flatten(2) @ inverse.T
    return resized.reshape(*weight.shape[:2], *size).to(weight.dtype)


@cache
def _pseudo_inverse(old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Give the matrix P that keeps <w, x> = <P w, B x>, where B is the resize of a patch.

    B, new x old pixels, is found by resizing each patch that has a single lit pixel. For all x:
    Bᵀ P = 1, hence P = (Bᵀ)⁺.
    """
    lit = torch.eye(old[0] * old[1], dtype=torch.float64, device="cpu").reshape(-1, *old)
    resize = F.interpolate(lit[:, None], size=new, mode="bilinear").flatten(1)  # Bᵀ: old x new
    inverse: Tensor = torch.linalg.pinv(resize)
    return inverse


def inflate_channels(weight: Float[Tensor, "d c p q"], channels: int) -> Float[Tensor, "d e p q"]:
    """Bring a stem to images of another number of channels; the sum over the channels stays.

    So an image whose channels are all equal, such as a grey one, keeps its answer. Missing channels
    take the weights of the first ones again, each shared out over its copies; where channels go,
    their weights are shared out over those that stay.

    Source: after Carreira & Zisserman 2017, arXiv:1705.07750, section 2.4.1 (inflation in time).
    """
    old = weight.shape[1]
    if channels <= old:
        gone = weight[:, channels:].sum(dim=1, keepdim=True)
        return weight[:, :channels] + gone / channels if channels < old else weight
    index = torch.arange(channels, device=weight.device) % old
    copies = torch.bincount(index, minlength=old)[index].to(weight.dtype)
    return weight[:, index] / copies[:, None, None]
