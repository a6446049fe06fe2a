"""What a ViT can have beyond the paper, each against the plainest way to write it."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.helpers import draw_images, images_for, tiny, tiny_model
from vitrail.errors import ModelError
from vitrail.models import build_model
from vitrail.models.attention import Attention
from vitrail.models.layers import AttentionPool, LayerScale, SwiGlu
from vitrail.models.patch_dropout import drop_patches
from vitrail.models.posembed import rotary_positions, rotate, sincos_positions
from vitrail.models.vit import ViT


def vit(kind: str = "vit", **sizes: Any) -> ViT:
    model = tiny_model(kind, **sizes).eval()
    assert isinstance(model, ViT)
    return model


# --- positions ----------------------------------------------------------------


def test_sincos_is_the_formula() -> None:
    table = sincos_positions((3, 5), 16)
    assert table.shape == (1, 15, 16) and table.dtype == torch.float32
    for row in range(3):
        for column in range(5):
            expected: list[float] = []
            for place in (column, row):  # the column's features come first
                angles = [place / 10000 ** (i / 4) for i in range(4)]
                expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
            got = table[0, row * 5 + column]
            torch.testing.assert_close(got, torch.tensor(expected), rtol=0, atol=1e-6)


@pytest.mark.peer
def test_sincos_equals_transformers_mae() -> None:
    mae = pytest.importorskip("transformers.models.vit_mae.modeling_vit_mae")
    table = mae.build_2d_sinusoidal_position_embedding(3, 5, 48)  # rows first; MAE: columns first
    expected = torch.cat(table.chunk(2, dim=-1)[::-1], dim=-1)
    torch.testing.assert_close(sincos_positions((3, 5), 48)[0], expected, rtol=0, atol=1e-6)


def test_rotary_turns_by_the_angle_of_the_place() -> None:
    k, grid, base = 8, (2, 3), 100.0
    turn = rotary_positions(grid, k, base)
    x = torch.randn(1, 1, 6, k, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    turned = rotate(x, turn.double())
    for row in range(2):
        for column in range(3):
            place = ((row + 0.5) / 2 * 2 - 1, (column + 0.5) / 3 * 2 - 1)
            before, after = x[0, 0, row * 3 + column], turned[0, 0, row * 3 + column]
            for pair in range(4):  # the first two by the row, the others by the column
                angle = 2 * math.pi * place[pair // 2] / base ** ((pair % 2) / 2)
                one, two = float(before[pair]), float(before[pair + 4])
                expected = (
                    one * math.cos(angle) - two * math.sin(angle),
                    two * math.cos(angle) + one * math.sin(angle),
                )
                assert float(after[pair]) == pytest.approx(expected[0], abs=1e-5)
                assert float(after[pair + 4]) == pytest.approx(expected[1], abs=1e-5)


def test_rotation_keeps_lengths_and_leaves_prefix_tokens() -> None:
    turn = rotary_positions((3, 4), 16, 100.0)
    x = torch.randn(2, 3, 5 + 12, 16, generator=torch.Generator().manual_seed(0))
    turned = rotate(x, turn)
    assert torch.equal(turned[:, :, :5], x[:, :, :5])
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert not torch.allclose(turned[:, :, 5:], x[:, :, 5:], atol=0.1)


def test_without_positions_a_model_sees_a_bag_of_patches() -> None:
    model = vit("vit-map")
    images = images_for(model)
    turned = images.flip(3).unflatten(3, (6, 8)).flip(4).flatten(3)  # patches in another order
    torch.testing.assert_close(model(turned), model(images), rtol=1e-4, atol=1e-5)
    placed = vit("vit")
    assert not torch.allclose(placed(turned), placed(images), atol=1e-2)


@pytest.mark.parametrize("kind", ["vit-mae", "vit-dinov3"])
def test_computed_positions_have_no_parameters(kind: str) -> None:
    assert "pos_embed" not in vit(kind).state_dict()
    assert vit(kind).config.position_rows == 0


# --- tokens and pooling -------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "prefix", "rows"),
    [("vit", 1, 25), ("vit-deit", 2, 26), ("vit-deit3", 1, 24), ("vit-dinov2", 4, 28),
     ("vit-dinov3", 3, 0), ("vit-gap", 0, 24), ("vit-map", 0, 0)],
)  # fmt: skip
def test_the_tokens_before_the_patches(kind: str, prefix: int, rows: int) -> None:
    model = vit(kind)
    assert (model.prefix_tokens, model.config.position_rows) == (prefix, rows)
    assert model.config.tokens == 24 + prefix
    seen = model.intermediates(images_for(model), ["embed"])
    assert seen["embed"].shape == (2, 24 + prefix, 32)
    patches = model.embed(images_for(model))
    assert torch.equal(seen["embed"][:, prefix:], patches)


@pytest.mark.parametrize("kind", ["vit-dinov2", "vit-dinov3"])
def test_registers_have_no_place_and_are_not_shown(kind: str) -> None:
    model = vit(kind)
    features = model.features(images_for(model))
    assert features.tokens.shape[1] == 24 == features.grid[0] * features.grid[1]


def test_both_heads_of_a_distilled_model() -> None:
    model = vit("vit-deit")
    pooled = model.features(images_for(model)).pooled
    one, two = model.classify_both(pooled)
    assert model.head_dist is not None
    final = model.intermediates(images_for(model), ["norm"])["norm"]
    assert torch.equal(one, model.head(final[:, 0]))
    assert torch.equal(two, model.head_dist(final[:, 1]))
    assert torch.equal(model(images_for(model)), (one + two) / 2)
    with pytest.raises(ModelError, match="has no distillation token"):
        vit().classify_both(pooled)


def test_pooling_is_what_it_says() -> None:
    for kind in ("vit", "vit-mae", "vit-dinov2", "vit-gap"):
        model = vit(kind)
        final = model.intermediates(images_for(model), ["norm"])["norm"]
        patches = final[:, model.prefix_tokens :].mean(dim=1)
        expected = {
            "vit": final[:, 0],
            "vit-mae": patches,
            "vit-dinov2": torch.cat([final[:, 0], patches], dim=1),
            "vit-gap": model.fc_norm(patches),
        }[kind]
        assert torch.equal(model.features(images_for(model)).pooled, expected)


def test_attention_pooling_by_loops() -> None:
    torch.manual_seed(0)
    pool = AttentionPool(8, 2, 16, 1e-6)
    for parameter in pool.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x = torch.randn(2, 5, 8)
    q, (k, v) = pool.q(pool.latent[0, 0]), pool.kv(x).chunk(2, dim=-1)
    mixed = torch.zeros(2, 8)
    for head in (slice(0, 4), slice(4, 8)):
        weights = (k[..., head] @ q[head] / 2).softmax(dim=1)
        mixed[:, head] = (weights[..., None] * v[..., head]).sum(dim=1)
    y = pool.proj(mixed)
    torch.testing.assert_close(pool(x), y + pool.mlp(pool.norm(y)), rtol=1e-5, atol=1e-5)


# --- attention and MLP --------------------------------------------------------


def test_qk_norm_normalises_each_head() -> None:
    torch.manual_seed(0)
    attn = Attention(16, 2, norm_eps=1e-6)
    x = 100 * torch.randn(2, 5, 16)
    weights = attn.weights(x)
    q, k, _ = attn.qkv(x).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
    scores = F.layer_norm(q, (8,)) @ F.layer_norm(k, (8,)).transpose(-2, -1) / 8**0.5
    torch.testing.assert_close(weights, scores.softmax(-1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bias", ["full", "no_key", "none"])
def test_which_of_queries_keys_and_values_have_a_bias(bias: Any) -> None:
    torch.manual_seed(0)
    attn = Attention(8, 2, bias=bias)
    names = {name for name, _ in attn.named_parameters() if "bias" in name}
    assert names - {"proj.bias"} == {
        "full": {"qkv.bias"},
        "no_key": {"q_bias", "v_bias"},
        "none": set(),
    }[bias]  # fmt: skip
    for parameter in attn.parameters():
        torch.nn.init.normal_(parameter)
    zero = torch.zeros(1, 3, 8)
    q, k, v = attn._split(zero, None)
    assert [bool(each.any()) for each in (q, k, v)] == {
        "full": [True, True, True],
        "no_key": [True, False, True],
        "none": [False, False, False],
    }[bias]


def test_swiglu_gates() -> None:
    torch.manual_seed(0)
    mlp, x = SwiGlu(6, 10), torch.randn(2, 3, 6)
    gate, value = mlp.fc1(x)[..., :10], mlp.fc1(x)[..., 10:]
    torch.testing.assert_close(mlp(x), mlp.fc2(gate * gate.sigmoid() * value))


def test_layer_scale_begins_at_its_value() -> None:
    model = build_model(tiny("vit-deit3"))
    scales = [module for module in model.modules() if isinstance(module, LayerScale)]
    assert len(scales) == 4
    assert all(torch.equal(scale.gamma, torch.full((32,), 0.5)) for scale in scales)


# --- patch dropout ------------------------------------------------------------


def test_dropped_patches_take_their_places_along() -> None:
    tokens = torch.arange(24.0)[None, :, None].expand(3, -1, 4)
    turn = rotary_positions((4, 6), 8, 100.0)
    kept, places = drop_patches(tokens, turn, 0.75)
    assert kept.shape == (3, 6, 4) and places is not None
    for image in range(3):
        index = kept[image, :, 0].long()
        assert index.tolist() == sorted(set(index.tolist()))  # in their order, none twice
        assert torch.equal(places[:, image, 0], turn[:, 0, 0, index])
    assert not torch.equal(kept[0], kept[1]) or not torch.equal(kept[0], kept[2])


@pytest.mark.parametrize("kind", ["vit", "vit-dinov3", "vit-deit"])
def test_patch_dropout_acts_in_training_only(kind: str) -> None:
    model = vit(kind, patch_dropout=0.5)
    images = images_for(model)
    assert torch.equal(model(images), vit(kind)(images))
    model.train()
    seen = model.intermediates(images, ["embed"])["embed"]
    assert seen.shape[1] == model.prefix_tokens + 12
    assert model.features(images).tokens.shape[1] == 24
    assert drop_patches(draw_images(2, 3, 4), None, 0.99)[0].shape == (2, 1, 4)


# --- what does not fit --------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"class_token": False}, "pool=token needs class_token=True"),
        ({"class_token": False, "pool": "token+mean"}, "needs class_token=True"),
        ({"distilled": True, "pool": "mean"}, "distilled=True needs pool=token"),
        ({"distilled": True, "norm_after_pool": True}, "distilled=True needs pool=token and norm"),
        ({"pool": "token+mean", "norm_after_pool": True}, "needs pool=token, mean or map"),
        ({"positions": "sincos", "width": 30, "heads": 2}, "needs width=30 to be a multiple of 4"),
        ({"positions": "rotary", "width": 36, "heads": 2}, "needs width / heads = 18"),
        ({"registers": -1}, "greater than or equal to 0"),
        ({"patch_dropout": 1.0}, "less than 1"),
    ],
)
def test_settings_that_contradict_each_other(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny("vit", **sizes)
