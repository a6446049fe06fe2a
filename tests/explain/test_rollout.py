import numpy as np
import pytest
import torch
from torch import Tensor

from tests.explain.conftest import GRID, tiny_vit
from vitrail.device import autocast
from vitrail.errors import ModelError
from vitrail.explain import attention_maps, rollout
from vitrail.explain.rollout import Fusion, check_settings, layer_flow
from vitrail.models.vit import ViT


def oracle(maps: list[np.ndarray], fusion: str, discard_ratio: float) -> np.ndarray:
    """Roll out one image element by element, in float64: the whole product, first layer first."""
    total = None
    for weights in maps:
        heads, n, _ = weights.shape
        flow = np.zeros((n, n))
        for i in range(n):
            for j in range(n):
                column = weights[:, i, j]
                fused = {"mean": column.sum() / heads, "max": column.max(), "min": column.min()}
                flow[i, j] = fused[fusion]
            order = sorted(range(1, n), key=flow[i].tolist().__getitem__)
            for j in order[: int(discard_ratio * (n - 1))]:
                flow[i, j] = 0.0
            for j in range(n):
                flow[i, j] = 0.5 * flow[i, j] + 0.5 * (i == j)
            flow[i] /= flow[i].sum()
        total = flow if total is None else flow @ total
    assert total is not None
    return total[0, 1:].reshape(GRID)


@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
@pytest.mark.parametrize("discard_ratio", [0.0, 0.3, 0.9, 0.99])
def test_equals_the_product_of_all_layers_in_float64(
    model: ViT, images: Tensor, fusion: Fusion, discard_ratio: float
) -> None:
    heat = rollout(model, images, fusion=fusion, discard_ratio=discard_ratio)
    maps = attention_maps(model, images)
    for b in range(len(images)):
        layers = [maps[layer][b].double().numpy() for layer in range(3)]
        expected = oracle(layers, fusion, discard_ratio)
        np.testing.assert_allclose(heat[b].numpy(), expected, rtol=1e-4, atol=1e-7)


def test_one_layer_gives_half_of_its_attention(images: Tensor) -> None:
    model = tiny_vit(depth=1).eval()
    row = attention_maps(model, images)[0][:, :, 0].mean(dim=1)  # b n
    expected = 0.5 * row[:, 1:].unflatten(-1, GRID)
    torch.testing.assert_close(rollout(model, images), expected)


def test_uniform_attention_has_a_closed_form(images: Tensor) -> None:
    model = tiny_vit(depth=2)
    for block in model.blocks:
        torch.nn.init.zeros_(block.attn.qkv.weight)
        torch.nn.init.zeros_(block.attn.qkv.bias)
    n = GRID[0] * GRID[1] + 1
    # (I/2 + U/2)² = I/4 + 3 U/4, as the uniform matrix U is its own square
    torch.testing.assert_close(rollout(model, images), torch.full((2, *GRID), 0.75 / n))
    kept = rollout(model, images, discard_ratio=0.9)  # all are equally low: none is preferred
    torch.testing.assert_close(kept, torch.full((2, *GRID), 0.75 / n))


def test_a_row_forgets_its_lowest_patches_but_never_the_class_token() -> None:
    row = torch.tensor([0.01, 0.29, 0.1, 0.2, 0.4])  # the class token has the lowest weight
    flow = layer_flow(row.expand(1, 2, 5, 5), 1, discard_ratio=0.5)
    kept = torch.tensor([0.01, 0.29, 0.0, 0.0, 0.4])
    expected = 0.5 * kept + 0.5 * torch.tensor([1.0, 0, 0, 0, 0])
    torch.testing.assert_close(flow[0, 0], expected / expected.sum())
    torch.testing.assert_close(flow.sum(-1), torch.ones(1, 5))


def test_shares_sum_to_less_than_one(model: ViT, images: Tensor) -> None:
    heat = rollout(model, images)
    assert heat.min() >= 0
    assert heat.sum(dim=(1, 2)).max() < 1


def test_autocast_does_not_touch_the_product(images: Tensor) -> None:
    model = tiny_vit(depth=8).eval()
    with autocast(torch.device("cpu"), "bf16"):
        heat = rollout(model, images)
        maps = attention_maps(model, images)
    assert heat.dtype == torch.float32
    expected = oracle([maps[layer][0].double().numpy() for layer in range(8)], "mean", 0.0)
    np.testing.assert_allclose(heat[0].numpy(), expected, rtol=1e-4)


def test_settings_out_of_range_are_refused(model: ViT, images: Tensor) -> None:
    with pytest.raises(
        ModelError, match="fusion='maxx' is not one of mean, max, min; did you mean"
    ):
        check_settings("maxx", 0.0)
    for ratio in (-0.1, 1.0, float("nan")):
        with pytest.raises(ModelError, match=f"discard_ratio={ratio} must be at least 0 and less"):
            rollout(model, images, discard_ratio=ratio)
