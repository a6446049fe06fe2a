"""Positions on other grids, patches of other sizes, stems for other channels."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vitrail.models.resample import Rule, inflate_channels, resample_positions, resize_patches


def table_of(rows: int, columns: int, prefix: int = 1, width: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, prefix + rows * columns, width, generator=generator)


def ramp(rows: int, columns: int) -> Tensor:
    """A table whose two features are the row and the column, each in [0, 1] from edge to edge."""
    down = (torch.arange(rows) + 0.5) / rows
    across = (torch.arange(columns) + 0.5) / columns
    return torch.cartesian_prod(down, across)[None]


def test_the_same_grid_gives_the_same_table() -> None:
    table = table_of(3, 5)
    assert resample_positions(table, (3, 5), (3, 5), prefix=1) is table


@pytest.mark.parametrize("prefix", [0, 1, 5])
@pytest.mark.parametrize("target", [(6, 10), (2, 3), (5, 3), (1, 1)], ids=str)
def test_rows_without_a_place_stay(prefix: int, target: tuple[int, int]) -> None:
    table = table_of(3, 5, prefix)
    resampled = resample_positions(table, (3, 5), target, prefix)
    assert resampled.shape == (1, prefix + target[0] * target[1], 6)
    assert torch.equal(resampled[:, :prefix], table[:, :prefix])


def test_a_turned_grid_is_another_grid_although_the_count_is_equal() -> None:
    table = table_of(16, 9)
    turned = resample_positions(table, (16, 9), (9, 16), prefix=1)
    assert turned.shape == table.shape
    assert not torch.allclose(turned, table, atol=0.1)


def test_rows_and_columns_are_not_mixed_up() -> None:
    wide = resample_positions(ramp(8, 12), (8, 12), (4, 24), prefix=0)
    inner = [row * 24 + column for row in (1, 2) for column in range(4, 20)]  # edges are clamped
    torch.testing.assert_close(wide[:, inner], ramp(4, 24)[:, inner], rtol=0, atol=0.02)


def test_a_constant_table_stays_constant() -> None:
    table = torch.full((1, 1 + 15, 2), 0.7)
    resampled = resample_positions(table, (3, 5), (7, 4), prefix=1)
    torch.testing.assert_close(resampled, torch.full((1, 29, 2), 0.7))


def test_the_type_is_kept_and_gradients_flow() -> None:
    table = table_of(3, 5).bfloat16().requires_grad_()
    resampled = resample_positions(table, (3, 5), (4, 4), prefix=1)
    assert resampled.dtype == torch.bfloat16
    (gradient,) = torch.autograd.grad(resampled.float().square().sum(), table)
    assert (gradient != 0).any(-1).all()


@pytest.mark.parametrize(("rows", "prefix"), [(15, 1), (17, 1), (16, 0)])
def test_a_table_of_another_length_is_refused(rows: int, prefix: int) -> None:
    with pytest.raises(ValueError, match=rf"a table of {rows} rows does not fit grid=\(3, 5\)"):
        resample_positions(torch.zeros(1, rows, 2), (3, 5), (3, 5), prefix)


@pytest.mark.peer
@pytest.mark.parametrize("target", [(6, 10), (2, 3), (9, 16), (14, 14)], ids=str)
def test_equals_timms(target: tuple[int, int]) -> None:
    layers = pytest.importorskip("timm.layers")
    table = table_of(16, 9, prefix=2)
    expected = layers.resample_abs_pos_embed(
        table, new_size=list(target), old_size=[16, 9], num_prefix_tokens=2
    )
    ours = resample_positions(table, (16, 9), target, prefix=2)
    torch.testing.assert_close(ours, expected, rtol=0, atol=0)


# --- interpolation, as each ecosystem does it ---------------------------------


def zoomed(table: Tensor, source: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """Resample as Google's code does: SciPy's zoom, linear, corners in place."""
    ndimage = pytest.importorskip("scipy.ndimage")
    places = table[0].reshape(*source, -1).numpy()
    factors = (target[0] / source[0], target[1] / source[1], 1)
    return torch.from_numpy(ndimage.zoom(places, factors, order=1)).flatten(0, 1)[None]


@pytest.mark.parametrize("target", [(6, 10), (9, 4), (3, 7)], ids=str)
def test_linear_is_what_google_does(target: tuple[int, int]) -> None:
    table = table_of(4, 6, prefix=0)
    ours = resample_positions(table, (4, 6), target, 0, "linear")
    torch.testing.assert_close(ours, zoomed(table, (4, 6), target), rtol=0, atol=1e-5)


@pytest.mark.peer
@pytest.mark.parametrize("side", [3, 7, 10])
def test_corners_is_what_torchvision_does(side: int) -> None:
    vit = pytest.importorskip("torchvision.models.vision_transformer")
    table = table_of(5, 5)
    expected = vit.interpolate_embeddings(
        image_size=side * 8,
        patch_size=8,
        model_state={"encoder.pos_embedding": table},
        interpolation_mode="bicubic",
    )["encoder.pos_embedding"]
    ours = resample_positions(table, (5, 5), (side, side), 1, "corners")
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("target", [(6, 10), (9, 4), (5, 5)], ids=str)
def test_offset_is_what_dino_does(target: tuple[int, int]) -> None:
    table = table_of(4, 6, prefix=0)
    maps = table[0].T.reshape(1, 6, 4, 6)
    scale = ((target[0] + 0.1) / 4, (target[1] + 0.1) / 6)
    there = F.interpolate(maps, scale_factor=scale, mode="bicubic")
    assert there.shape[-2:] == target
    ours = resample_positions(table, (4, 6), target, 0, "offset")
    assert torch.equal(ours[0], there[0].flatten(1).T)
    assert not torch.allclose(ours, resample_positions(table, (4, 6), target, 0, "bicubic"))


def test_the_rules_differ_where_a_table_shrinks() -> None:
    table = table_of(8, 12, prefix=0)
    rules: list[Rule] = ["antialias", "bicubic", "offset", "corners", "linear"]
    results = [resample_positions(table, (8, 12), (4, 5), 0, rule) for rule in rules]
    for i, one in enumerate(results):
        assert not any(torch.allclose(one, other, atol=1e-2) for other in results[:i])


# --- patches ------------------------------------------------------------------


@pytest.mark.parametrize("new", [(8, 8), (6, 10), (9, 7)], ids=str)
def test_a_larger_kernel_answers_to_resized_patches_as_the_old_one(new: tuple[int, int]) -> None:
    torch.manual_seed(0)
    weight, patches = torch.randn(5, 3, 4, 6), torch.randn(7, 3, 4, 6)
    resized = F.interpolate(patches, size=new, mode="bilinear")
    kernel = resize_patches(weight, new)
    assert kernel.shape == (5, 3, *new) and kernel.dtype == torch.float32
    before = torch.einsum("bchw,dchw->bd", patches, weight)
    after = torch.einsum("bchw,dchw->bd", resized, kernel)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-4)


def test_a_smaller_kernel_is_the_best_one_for_white_noise() -> None:
    torch.manual_seed(0)
    weight = torch.randn(1, 1, 6, 6)
    lit = torch.eye(36, dtype=torch.float64).reshape(36, 1, 6, 6)
    resize = F.interpolate(lit, size=(3, 4), mode="bilinear").flatten(1)  # old x new
    best = torch.linalg.lstsq(resize, weight.double().flatten()[:, None]).solution
    ours = resize_patches(weight, (3, 4)).double().flatten()
    torch.testing.assert_close(ours, best[:, 0], rtol=0, atol=1e-6)


def test_a_kernel_of_the_same_size_is_the_same() -> None:
    weight = torch.randn(2, 3, 4, 6)
    assert resize_patches(weight, (4, 6)) is weight


# --- channels -----------------------------------------------------------------


@pytest.mark.parametrize("old", [1, 3, 4])
@pytest.mark.parametrize("new", [1, 2, 3, 4, 5, 9])
def test_equal_channels_get_the_same_answer(old: int, new: int) -> None:
    weight = torch.randn(5, old, 2, 3, generator=torch.Generator().manual_seed(0))
    inflated = inflate_channels(weight, new)
    assert inflated.shape == (5, new, 2, 3)
    torch.testing.assert_close(inflated.sum(1), weight.sum(1), rtol=0, atol=1e-6)
    assert inflate_channels(weight, old) is weight


def test_channels_repeat_in_turn_and_share_their_weight() -> None:
    weight = torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    four = inflate_channels(weight, 4)
    assert torch.equal(four[:, 1:3], weight[:, 1:3])
    assert torch.equal(four[:, 0], weight[:, 0] / 2) and torch.equal(four[:, 3], weight[:, 0] / 2)


@pytest.mark.peer
@pytest.mark.parametrize("channels", [1, 3, 6, 9])
def test_inflation_equals_timms_where_channels_repeat_evenly(channels: int) -> None:
    manipulate = pytest.importorskip("timm.models._manipulate")
    weight = torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    expected = manipulate.adapt_input_conv(channels, weight)
    torch.testing.assert_close(inflate_channels(weight, channels), expected)
