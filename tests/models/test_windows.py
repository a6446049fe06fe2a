"""Windows, shifts, masks and bias tables against their definitions, token by token."""

from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.helpers import draw_images, perturb
from vitrail.models.windows import (
    Layout,
    WindowAttention,
    cut_windows,
    join_windows,
    lay_out,
    relative_bias,
    resize_bias,
    shift_mask,
)

# (map, window): whole windows, filled up, smaller than a window, one window along one side
CASES = [
    ((6, 8), (3, 4)),
    ((5, 9), (3, 4)),
    ((2, 3), (3, 4)),
    ((3, 9), (3, 4)),
    ((7, 4), (3, 4)),
    ((9, 10), (4, 5)),
    ((4, 6), (7, 7)),
    ((3, 5), (1, 2)),
    ((1, 1), (2, 3)),
]


def places(grid: tuple[int, int]) -> Tensor:
    """Row and column of every token, 2 t."""
    return torch.stack(torch.meshgrid(*map(torch.arange, grid), indexing="ij")).flatten(1)


def may_attend(layout: Layout, window: tuple[int, int]) -> Tensor:
    """Which tokens of the filled-up map are in one window, t t; nothing is rolled or cut here.

    The windows begin at -size + shift, shift, shift + size, … along each side.
    """
    allowed = torch.tensor(True)
    for place, size, shift in zip(places(layout.padded), window, layout.shift, strict=True):
        index = (place - shift).div(size, rounding_mode="floor")
        allowed = allowed & (index[:, None] == index[None, :])
    return allowed


def plain_attention(layer: WindowAttention, x: Tensor, grid: tuple[int, int]) -> Tensor:
    """Attention of all tokens of the filled-up map to all, b H t t, masked by `may_attend`."""
    layout = lay_out(grid, layer.window, layer.shifted)
    q, k, _ = plain_qkv(layer, x, grid)
    distance = places(layout.padded)[:, :, None] - places(layout.padded)[:, None, :]  # 2 t t
    height, width = layer.window
    row = (distance[0] + height - 1) * (2 * width - 1) + distance[1] + width - 1
    allowed = may_attend(layout, layer.window)
    bias = layer.relative_position_bias_table[row.where(allowed, 0)].permute(2, 0, 1)
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5 + bias
    return scores.masked_fill(~allowed, -torch.inf).softmax(-1)


def plain_qkv(layer: WindowAttention, x: Tensor, grid: tuple[int, int]) -> tuple[Tensor, ...]:
    """Queries, keys and values of the filled-up map, each b H t k."""
    rows, columns = lay_out(grid, layer.window, layer.shifted).padded
    maps = F.pad(x.unflatten(1, grid), (0, 0, 0, columns - grid[1], 0, rows - grid[0]))
    qkv = layer.qkv(maps.flatten(1, 2)).unflatten(-1, (3, layer.heads, -1))
    return qkv.permute(2, 0, 3, 1, 4).unbind()  # type: ignore[no-any-return]


def make_layer(window: tuple[int, int], shifted: bool) -> WindowAttention:
    """A layer whose scores are of size one, in float64: sums in another order agree."""
    torch.manual_seed(0)
    layer = WindowAttention(8, 2, window, shifted).double()
    torch.nn.init.zeros_(layer.relative_position_bias_table)
    perturb(layer, std=1.0)
    return layer


def draw_tokens(grid: tuple[int, int]) -> Tensor:
    return draw_images(2, grid[0] * grid[1], 8).double()


# --- windows ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grid", "window", "padded", "shift"),
    [
        ((56, 56), (7, 7), (56, 56), (3, 3)),
        ((7, 7), (7, 7), (7, 7), (0, 0)),
        ((4, 6), (7, 7), (7, 7), (0, 0)),
        ((7, 8), (7, 7), (7, 14), (0, 3)),
        ((8, 5), (4, 6), (8, 6), (2, 0)),
        ((9, 13), (4, 6), (12, 18), (2, 3)),
        ((3, 3), (1, 2), (3, 4), (0, 1)),  # half of a window of one token is nothing
    ],
)
def test_layout(grid: tuple, window: tuple, padded: tuple, shift: tuple) -> None:
    assert lay_out(grid, window, shifted=True) == (padded, shift)
    assert lay_out(grid, window, shifted=False) == (padded, (0, 0))


def test_windows_and_their_tokens_go_row_by_row() -> None:
    maps = torch.arange(4 * 6.0).reshape(1, 4, 6, 1)
    windows = cut_windows(maps, (2, 3))[0, :, :, 0]
    assert windows.shape == (4, 6)
    assert windows[0].tolist() == [0, 1, 2, 6, 7, 8]
    assert windows[1].tolist() == [3, 4, 5, 9, 10, 11]
    assert windows[2].tolist() == [12, 13, 14, 18, 19, 20]


@pytest.mark.parametrize(("size", "window"), [((4, 6), (2, 3)), ((6, 4), (1, 4)), ((3, 5), (3, 5))])
def test_join_undoes_cut(size: tuple[int, int], window: tuple[int, int]) -> None:
    maps = torch.randn(2, *size, 5)
    assert torch.equal(join_windows(cut_windows(maps, window), size, window), maps)


@pytest.mark.parametrize(("grid", "window"), CASES, ids=str)
def test_mask_lets_tokens_of_one_window_of_the_map_attend(grid: tuple, window: tuple) -> None:
    layout = lay_out(grid, window, shifted=True)
    rows, columns = layout.padded
    number = torch.arange(rows * columns).reshape(1, rows, columns, 1)
    rolled = number.roll((-layout.shift[0], -layout.shift[1]), dims=(1, 2)).float()
    tokens = cut_windows(rolled, window)[0, :, :, 0].long()  # m n: which token lies there
    allowed = may_attend(layout, window)
    expected = torch.stack([allowed[t][:, t] for t in tokens])
    assert torch.equal(shift_mask(layout, window), expected)
    # whatever a token may see lies in its window: the roll separates nothing
    assert expected.sum() == allowed.sum()


# --- bias ---------------------------------------------------------------------


@pytest.mark.parametrize("window", [(2, 3), (3, 2), (1, 4), (4, 4)])
def test_bias_is_looked_up_by_distance(window: tuple[int, int]) -> None:
    height, width = window
    table = torch.randn((2 * height - 1) * (2 * width - 1), 2)
    bias = relative_bias(table, window)
    tokens = list(product(range(height), range(width)))
    assert bias.shape == (2, len(tokens), len(tokens))
    for (i, (y, x)), (j, (v, u)) in product(enumerate(tokens), enumerate(tokens)):
        row = (y - v + height - 1) * (2 * width - 1) + (x - u + width - 1)
        assert torch.equal(bias[:, i, j], table[row])


@pytest.mark.parametrize(
    ("source", "target"), [((7, 7), (12, 12)), ((12, 12), (7, 7)), ((2, 3), (5, 4))], ids=str
)
def test_resized_bias_is_interpolated_in_two_dimensions(source: tuple, target: tuple) -> None:
    old, new = ([2 * side - 1 for side in size] for size in (source, target))
    table = torch.randn(old[0] * old[1], 3)
    resized = resize_bias(table, source, target)
    assert resized.shape == (new[0] * new[1], 3)
    for head in range(3):
        one = table[:, head].reshape(1, 1, *old)
        expected = F.interpolate(one, size=new, mode="bicubic", align_corners=False)
        torch.testing.assert_close(resized[:, head], expected.flatten())


@pytest.mark.peer
def test_resized_bias_equals_timms() -> None:
    timm_layers = pytest.importorskip("timm.layers")
    resize = timm_layers.resize_rel_pos_bias_table_simple
    table = torch.randn(13 * 13, 4)
    expected = resize(table, (12, 12), (23 * 23, 4))
    assert torch.equal(resize_bias(table, (7, 7), (12, 12)), expected)
    table = torch.randn(5 * 9, 4)  # a map a head: only so timm takes a source that is not square
    expected = resize(table.T.reshape(4, 5, 9), (6, 4), (4, 11, 7))
    assert torch.equal(resize_bias(table, (3, 5), (6, 4)), expected.flatten(1).T)


def test_a_bias_that_fits_or_belongs_elsewhere_stays() -> None:
    table = torch.randn(13 * 13, 4)
    assert resize_bias(table, (7, 7), (7, 7)) is table
    assert resize_bias(table, (12, 12), (7, 7)) is table
    assert resize_bias(table.bfloat16(), (7, 7), (4, 5)).dtype == torch.bfloat16


# --- attention ----------------------------------------------------------------


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("grid", "window"), CASES, ids=str)
def test_attention_equals_the_definition(grid: tuple, window: tuple, shifted: bool) -> None:
    layer = make_layer(window, shifted)
    x = draw_tokens(grid)
    _, _, v = plain_qkv(layer, x, grid)
    mixed = plain_attention(layer, x, grid) @ v  # b H t k
    maps = mixed.transpose(1, 2).flatten(2).unflatten(1, lay_out(grid, window, shifted).padded)
    expected = layer.proj(maps[:, : grid[0], : grid[1]].flatten(1, 2))
    torch.testing.assert_close(layer(x, grid), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("grid", "window"), CASES, ids=str)
def test_weights_are_those_of_the_definition(grid: tuple, window: tuple, shifted: bool) -> None:
    layer = make_layer(window, shifted)
    x = draw_tokens(grid)
    weights = layer.weights(x, grid)  # b m H n n
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    layout = lay_out(grid, window, shifted)
    rows, columns = layout.padded
    number = torch.arange(rows * columns).reshape(1, rows, columns, 1)
    rolled = number.roll((-layout.shift[0], -layout.shift[1]), dims=(1, 2)).float()
    plain = plain_attention(layer, x, grid)
    for m, tokens in enumerate(cut_windows(rolled, window)[0, :, :, 0].long()):
        expected = plain[:, :, tokens][..., tokens]
        torch.testing.assert_close(weights[:, m], expected, rtol=1e-10, atol=1e-10)
        assert torch.equal(weights[:, m] == 0, expected == 0)  # what is masked is exactly zero


def test_the_layer_keeps_nothing_but_parameters() -> None:
    layer = make_layer((2, 3), True)
    before = dict(vars(layer))
    layer(draw_tokens((5, 7)), (5, 7))
    assert vars(layer) == before
    assert list(layer.buffers()) == []
