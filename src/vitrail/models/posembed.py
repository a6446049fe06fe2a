"""Positions that are computed rather than learned."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.models.resample import Grid

# Cosines and sines; images (1, or each has its own places); 1 for the heads; places; features.
Turn = Float[Tensor, "2 _ 1 _ _"]


def sincos_positions(
    grid: Grid, width: int, device: torch.device | None = None
) -> Float[Tensor, "1 n d"]:
    """Give each patch the sines and cosines of its column and of its row.

    The first half of the features belongs to the column, the second to the row; each is sin then
    cos of position x 10000^(-i / (width / 4)), i = 0 … width / 4 - 1. Computed in float64, given in
    float32.

    Args:
        width: a multiple of 4.
    Source: He et al. 2022 (MAE), arXiv:2111.06377, appendix A.1, after Vaswani et al. 2017, 3.5.
    """
    power = torch.arange(width // 4, dtype=torch.float64, device=device) / (width // 4)
    rows = torch.arange(grid[0], dtype=torch.float64, device=device)
    columns = torch.arange(grid[1], dtype=torch.float64, device=device)
    across = (columns[:, None] * 10000**-power).expand(*grid, -1)  # rows columns d/4
    down = (rows[:, None, None] * 10000**-power).expand(*grid, -1)
    table = torch.cat([across.sin(), across.cos(), down.sin(), down.cos()], dim=-1)
    return table.flatten(0, 1)[None].float()


def rotary_positions(
    grid: Grid, width: int, base: float, device: torch.device | None = None
) -> Turn:
    """Give the cosines and sines by which the queries and keys of each patch are turned.

    The centres of the patches lie at -1 … 1 along each side, whatever its length. A head's features
    are turned in pairs (i, i + width / 2): the first half of the pairs by the row, the other by the
    column, with periods base^(i / (width / 4)), i = 0 … width / 4 - 1.

    Args:
        width: features of a head; a multiple of 4.
        base: the longest period, in units of half the image's side.
    Source: Siméoni et al. 2025 (DINOv3), arXiv:2508.10104, section 3.2; Su et al. 2021,
    arXiv:2104.09864.
    """
    periods = base ** (torch.arange(width // 4, device=device) / (width // 4))
    rows = (torch.arange(grid[0], device=device) + 0.5) / grid[0] * 2 - 1
    columns = (torch.arange(grid[1], device=device) + 0.5) / grid[1] * 2 - 1
    down = (2 * math.pi * rows[:, None, None] / periods).expand(*grid, -1)  # rows columns k/4
    across = (2 * math.pi * columns[:, None] / periods).expand(*grid, -1)
    angles = torch.cat([down, across], dim=-1).flatten(0, 1).repeat(1, 2)  # n k
    return torch.stack([angles.cos(), angles.sin()])[:, None, None]


def rotate(x: Float[Tensor, "b h n k"], turn: Turn) -> Float[Tensor, "b h n k"]:
    """Turn the last tokens by their places; those before have no place and stay.

    `turn` is what `rotary_positions` gives.
    """
    prefix = x.shape[2] - turn.shape[3]
    placed = x[:, :, prefix:]
    one, two = placed.chunk(2, dim=-1)
    cos, sin = turn.unbind()
    turned = (placed * cos + torch.cat([-two, one], dim=-1) * sin).to(x.dtype)
    return torch.cat([x[:, :, :prefix], turned], dim=2)
