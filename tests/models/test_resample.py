"""Position embeddings on other grids."""

import pytest
import torch
from torch import Tensor

from vitrail.models.resample import resample_positions


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
