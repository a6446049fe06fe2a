"""Self-attention within the windows of a map (Swin). Source: Liu et al. 2021, arXiv:2103.14030.

b images, a map of h x w tokens (height, width), d features a token, m windows of n tokens, H heads
of k = d / H features.

No table of indices and no mask is kept: both follow from sizes, and are made anew where they are
needed. So a model has nothing but its parameters, for maps of any size.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vitrail.models.resample import Grid, resample_grid


class Layout(NamedTuple):
    """How a map is cut into windows; rows, then columns."""

    padded: Grid  # the map, filled up to whole windows
    shift: Grid  # how far it is rolled up and to the left before it is cut


def lay_out(grid: Grid, window: Grid, shifted: bool) -> Layout:
    """Say how a map of this size is cut: filled up below and to the right, then shifted by half.

    Along a side that a single window covers nothing is shifted, as in torchvision and timm; in
    transformers, and in Liu et al.'s code, then along neither side. The window never shrinks.
    """
    rows, columns = (-(-size // side) * side for size, side in zip(grid, window, strict=True))
    if not shifted:
        return Layout((rows, columns), (0, 0))
    down = window[0] // 2 if rows > window[0] else 0
    across = window[1] // 2 if columns > window[1] else 0
    return Layout((rows, columns), (down, across))


def cut_windows(maps: Float[Tensor, "b h w d"], window: Grid) -> Float[Tensor, "b m n d"]:
    """Cut maps into windows, row by row, and each window into tokens, row by row.

    The window's sides divide the map's.
    """
    b, h, w, d = maps.shape
    cut = maps.reshape(b, h // window[0], window[0], w // window[1], window[1], d)
    return cut.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def join_windows(
    windows: Float[Tensor, "b m n d"], size: Grid, window: Grid
) -> Float[Tensor, "b h w d"]:
    """Put windows together again to maps of `size`; undoes `cut_windows`."""
    rows, columns, d = size[0] // window[0], size[1] // window[1], windows.shape[-1]
    parts = windows.reshape(-1, rows, columns, *window, d)  # b rows columns y x d
    return parts.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def shift_mask(
    layout: Layout, window: Grid, device: torch.device | None = None
) -> Bool[Tensor, "m n n"]:
    """Say which tokens of a window of the shifted map may look at each other.

    Rolling brings the first rows of the map below its last ones, and the first columns beside the
    last. In the windows that hold both only those from the same side may.

    Source: Liu et al. 2021, section 3.2, "Efficient batch computation", figure 4.
    """
    (rows, columns), (down, across) = layout
    moved_down = torch.arange(rows, device=device) >= rows - down
    moved_across = torch.arange(columns, device=device) >= columns - across
    region = moved_down[:, None] * 2 + moved_across * 1  # rows columns; 0 … 3
    parts = cut_windows(region[None, :, :, None].float(), window)[0, :, :, 0]  # m n
    return parts[:, :, None] == parts[:, None, :]


def relative_bias(table: Float[Tensor, "p H"], window: Grid) -> Float[Tensor, "H n n"]:
    """Look up what the distance from each token (row) to each token (column) adds to their score.

    Of the p = (2 h - 1) (2 w - 1) rows of the table, the one for a query (y, x) and a key (v, u) is
    (y - v + h - 1, x - u + w - 1), row by row. For a query these are the h x w places that begin at
    (y, x), backwards: a sliding view, so that no index is needed.

    Source: Liu et al. 2021, section 3.2, "Relative position bias".
    """
    places = table.reshape(2 * window[0] - 1, 2 * window[1] - 1, -1)
    bias = places.unfold(0, window[0], 1).unfold(1, window[1], 1).flip(-2, -1)  # y x H v u
    return bias.permute(2, 0, 1, 3, 4).flatten(3, 4).flatten(1, 2)


def resize_bias(table: Float[Tensor, "p H"], source: Grid, target: Grid) -> Float[Tensor, "q H"]:
    """Bring a table of relative positions from windows of size `source` to `target`.

    Bicubic in two dimensions, as Liu et al.'s code does between window sizes. A table that does not
    belong to `source` comes back as it was.
    """
    old = (2 * source[0] - 1, 2 * source[1] - 1)
    new = (2 * target[0] - 1, 2 * target[1] - 1)
    if old == new or table.shape[0] != old[0] * old[1]:
        return table
    maps = table.T.reshape(1, -1, *old).float()  # 1 H rows columns
    return resample_grid(maps, new, "bicubic")[0].flatten(1).T.contiguous().to(table.dtype)


class WindowAttention(nn.Module):
    """Multi-head self-attention within windows (W-MSA), or within shifted windows (SW-MSA).

    A map that the windows do not divide is filled up with zeros, below and to the right, before it
    is shifted. The zeros are tokens as others are: keys and values of theirs are the biases. So do
    torchvision, transformers, and Liu et al.'s detection code, which takes images of any size. timm
    fills up after the shift, so that its shifted windows differ where they do not divide the map.

    Source: Liu et al. 2021, section 3.2 and equation 4.
    """

    def __init__(self, width: int, heads: int, window: Grid, shifted: bool) -> None:
        """`width` features a token, shared out over `heads`; `window` in tokens."""
        super().__init__()
        self.heads = heads
        self.window = window
        self.shifted = shifted
        places = (2 * window[0] - 1) * (2 * window[1] - 1)
        self.relative_position_bias_table = nn.Parameter(torch.empty(places, heads))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b t d"], grid: Grid) -> Float[Tensor, "b t d"]:
        """Let every token of a map of `grid` = (h, w), t = h w, look at those of its window."""
        layout = lay_out(grid, self.window, self.shifted)
        q, k, v = self._split(x, grid, layout)
        bias = self._bias(layout, x.device).to(q.dtype)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)  # b (m H) n k
        y = y.reshape(x.shape[0], -1, self.heads, *y.shape[2:])  # b m H n k
        maps = join_windows(y.transpose(2, 3).flatten(3), layout.padded, self.window)
        if any(layout.shift):
            maps = maps.roll(layout.shift, dims=(1, 2))
        return self.proj(maps[:, : grid[0], : grid[1]].flatten(1, 2))  # type: ignore[no-any-return]

    def weights(self, x: Float[Tensor, "b t d"], grid: Grid) -> Float[Tensor, "b m H n n"]:
        """Compute the attention that `forward` applies to the same input; each row sums to one.

        The windows and tokens lie as `lay_out` says: on the filled-up, shifted map.
        """
        layout = lay_out(grid, self.window, self.shifted)
        q, k, _ = self._split(x, grid, layout)
        scores = (q * float(q.shape[-1] ** -0.5)) @ k.transpose(-2, -1)
        weights = (scores + self._bias(layout, x.device).to(q.dtype)).softmax(dim=-1)
        return weights.reshape(x.shape[0], -1, self.heads, *weights.shape[-2:])

    def _split(self, x: Tensor, grid: Grid, layout: Layout) -> tuple[Tensor, Tensor, Tensor]:
        """Cut into windows and project to queries, keys and values, each b (m H) n k.

        Each head of each window stands as a head of its own, so that their masks need not be
        repeated for every image. Without a shift all windows have the same bias and stand as
        images: (b m) H n k.
        """
        below, beside = layout.padded[0] - grid[0], layout.padded[1] - grid[1]
        maps = F.pad(x.reshape(x.shape[0], *grid, -1), (0, 0, 0, beside, 0, below))
        if any(layout.shift):
            maps = maps.roll((-layout.shift[0], -layout.shift[1]), dims=(1, 2))
        windows = cut_windows(maps, self.window)
        if not any(layout.shift):
            windows = windows.flatten(0, 1)[:, None]
        qkv = self.qkv(windows).unflatten(-1, (3, self.heads, -1))  # b m n 3 H k
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5).flatten(2, 3).unbind()
        return q, k, v

    def _bias(self, layout: Layout, device: torch.device) -> Tensor:
        """Give what is added to the scores: 1 (m H) n n, or 1 H n n without a shift."""
        bias = relative_bias(self.relative_position_bias_table, self.window)
        if not any(layout.shift):
            return bias[None]
        apart = ~shift_mask(layout, self.window, device)
        return bias.masked_fill(apart[:, None], -torch.inf).flatten(0, 1)[None]
