"""Learned position embeddings on a grid of any height and width."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def resample_positions(
    table: Float[Tensor, "1 n d"], source: tuple[int, int], target: tuple[int, int], prefix: int
) -> Float[Tensor, "1 m d"]:
    """Bring a table of position embeddings to another grid of patches, in two dimensions.

    Args:
        table: `prefix` rows for tokens without a place, then one row a patch, row by row.
        source: (rows, columns) of the table.
        target: (rows, columns) wanted.
        prefix: how many leading rows have no place in the image; they stay as they are.
    Raises:
        ValueError: the table does not have `prefix` + rows x columns rows.
    Source: Dosovitskiy et al. 2021, section 3.2; bicubic and antialiased as in timm.
    """
    if table.shape[1] != prefix + source[0] * source[1]:
        raise ValueError(f"a table of {table.shape[1]} rows does not fit grid={source}, {prefix=}")
    if source == target:
        return table
    places = table[:, prefix:].reshape(1, *source, -1)  # 1 rows columns d
    places = places.permute(0, 3, 1, 2).float()
    places = F.interpolate(places, size=target, mode="bicubic", antialias=True)
    places = places.permute(0, 2, 3, 1).flatten(1, 2).to(table.dtype)
    return torch.cat([table[:, :prefix], places], dim=1)
