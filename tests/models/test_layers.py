"""The parts of the encoder, each against the plainest way to write it."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.helpers import draw_images, perturb
from vitrail.models.attention import EXPLICIT_BELOW, Attention, attention, attention_weights
from vitrail.models.base import Record
from vitrail.models.layers import (
    BLOCK_PARTS,
    Block,
    DropPath,
    Mlp,
    PatchEmbed,
    patchify,
)


def heads_of(b: int = 2, h: int = 3, n: int = 11, k: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k_, v = torch.randn(3, b, h, n, k, generator=generator).unbind()
    return 2 * q, 2 * k_, v


def attend_by_loops(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention in float64, one head, one query at a time."""
    out = torch.empty(v.shape, dtype=torch.float64)
    for image in range(q.shape[0]):
        for head in range(q.shape[1]):
            for i, query in enumerate(q[image, head].double()):
                powers = (k[image, head].double() @ query / q.shape[-1] ** 0.5).exp()
                out[image, head, i] = (powers / powers.sum()) @ v[image, head].double()
    return out


# --- attention ----------------------------------------------------------------


def test_explicit_and_fused_attention_equal_the_loops() -> None:
    q, k, v = heads_of()
    expected = attend_by_loops(q, k, v)
    fused, explicit = attention(q, k, v), attention_weights(q, k) @ v
    torch.testing.assert_close(fused.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(explicit.double(), expected, rtol=1e-5, atol=1e-5)
    exact = attention(q.double(), k.double(), v.double())
    torch.testing.assert_close(exact, expected, rtol=1e-12, atol=1e-12)


def test_attention_is_not_disturbed_by_large_scores() -> None:
    q, k, v = heads_of()
    assert attention_weights(100 * q, 100 * k).isfinite().all()
    assert attention(100 * q, 100 * k, v).isfinite().all()


@pytest.mark.parametrize("n", [11, EXPLICIT_BELOW - 1, EXPLICIT_BELOW])
def test_attention_in_bf16_on_both_sides_of_the_limit(n: int) -> None:
    q, k, v = heads_of(1, 1, n)
    expected = F.scaled_dot_product_attention(q, k, v)
    leaves = [each.bfloat16().requires_grad_() for each in (q, k, v)]
    trained = attention(*leaves)
    assert trained.dtype == torch.bfloat16
    with torch.no_grad():
        inferred = attention(*leaves)
    for answer in (trained, inferred):
        assert float((answer.detach().float() - expected).norm() / expected.norm()) < 0.02
    gradients = torch.autograd.grad(trained.float().square().sum(), leaves)
    exact = [each.clone().requires_grad_() for each in (q, k, v)]
    wanted = torch.autograd.grad(F.scaled_dot_product_attention(*exact).square().sum(), exact)
    for got, want in zip(gradients, wanted, strict=True):
        assert float((got.float() - want).norm() / want.norm()) < 0.05


def test_which_attention_is_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def spy(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        calls.append(q.shape[2])
        return attention_weights(q, k) @ v

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    rough = [each.bfloat16().requires_grad_() for each in heads_of(1, 1, 5)]
    attention(*rough)
    assert calls == []  # trains in bf16 on the CPU
    attention(*[each.detach() for each in rough])
    attention(*[each.detach().float().requires_grad_() for each in rough])
    attention(*[each.bfloat16().requires_grad_() for each in heads_of(1, 1, EXPLICIT_BELOW)])
    assert calls == [5, 5, EXPLICIT_BELOW]


def test_weights_are_those_that_forward_applies() -> None:
    torch.manual_seed(0)
    layer = Attention(24, heads=3)
    perturb(layer)
    x = torch.randn(2, 7, 24)
    weights = layer.weights(x)
    assert weights.shape == (2, 3, 7, 7)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 7))
    values = layer.qkv(x)[..., 48:].unflatten(-1, (3, 8)).transpose(1, 2)  # b h n k
    by_hand = layer.proj((weights @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(layer(x), by_hand, rtol=1e-5, atol=1e-5)


def test_attention_does_not_care_for_the_order_of_tokens() -> None:
    torch.manual_seed(0)
    layer, x, order = Attention(24, heads=3), torch.randn(2, 7, 24), torch.randperm(7)
    torch.testing.assert_close(layer(x[:, order]), layer(x)[:, order], rtol=1e-5, atol=1e-6)


def test_attention_equals_multihead_attention() -> None:
    torch.manual_seed(0)
    layer = Attention(24, heads=3)
    perturb(layer)
    reference = torch.nn.MultiheadAttention(24, 3, batch_first=True)
    with torch.no_grad():
        reference.in_proj_weight.copy_(layer.qkv.weight)
        reference.in_proj_bias.copy_(layer.qkv.bias)
        reference.out_proj.load_state_dict(layer.proj.state_dict())
    x = torch.randn(2, 7, 24)
    expected, weights = reference(x, x, x, average_attn_weights=False)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(layer.weights(x), weights, rtol=1e-5, atol=1e-5)


# --- MLP and block ------------------------------------------------------------


def test_mlp_acts_on_each_token_alone_with_the_exact_gelu() -> None:
    torch.manual_seed(0)
    mlp, x = Mlp(6, 10).double(), torch.randn(2, 3, 6, dtype=torch.float64)
    hidden = mlp.fc1(x)
    gelu = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    torch.testing.assert_close(mlp(x), mlp.fc2(gelu), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(mlp(x)[:, 1:2], mlp(x[:, 1:2]), rtol=1e-12, atol=1e-12)


def test_block_tells_a_record_of_its_parts() -> None:
    torch.manual_seed(0)
    block = Block(Attention(24, 3), Mlp(24, 48), 24, drop_path=0.0)
    x = torch.randn(2, 7, 24)
    record = Record()
    y = block(x, record, "blocks.9")
    assert tuple(record) == tuple(f"blocks.9.{part}" for part in BLOCK_PARTS)
    assert torch.equal(record["blocks.9.output"], y)
    assert torch.equal(block(x), y)


def test_record_keeps_what_is_wanted() -> None:
    record = Record(["b"])
    record("a", torch.zeros(1))
    record("b", torch.ones(1))
    assert list(record) == ["b"]


# --- drop path ----------------------------------------------------------------


def test_drop_path_keeps_the_expectation_and_drops_at_its_rate() -> None:
    torch.manual_seed(0)
    y = DropPath(0.3)(torch.ones(20_000, 2, 3))
    dropped = (y == 0).all(dim=(1, 2))
    assert float(dropped.float().mean()) == pytest.approx(0.3, abs=0.015)  # 4.6 standard errors
    assert float(y.mean()) == pytest.approx(1.0, abs=0.02)


def test_drop_path_drops_whole_images() -> None:
    torch.manual_seed(0)
    y = DropPath(0.5)(torch.ones(64, 2, 3)).flatten(1)
    assert set(y[:, 0].tolist()) == {0.0, 2.0}
    assert (y == y[:, :1]).all()


@pytest.mark.parametrize(("rate", "training"), [(0.5, False), (0.0, True), (0.0, False)])
def test_drop_path_is_otherwise_nothing(rate: float, training: bool) -> None:
    x = torch.randn(4, 2, 3)
    state = torch.get_rng_state()
    assert DropPath(rate).train(training)(x) is x
    assert torch.equal(torch.get_rng_state(), state)


def test_drop_path_keeps_the_type_and_stops_gradients() -> None:
    torch.manual_seed(0)
    x = torch.ones(16, 2, 3, dtype=torch.bfloat16, requires_grad=True)
    y = DropPath(0.5)(x)
    assert y.dtype == torch.bfloat16
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient == 0, y == 0)


# --- patches ------------------------------------------------------------------


def test_patchify_equals_loops_and_unfold() -> None:
    images = draw_images(2, 3, 12, 20)
    patches = patchify(images, 4)
    assert patches.shape == (2, 3 * 5, 3 * 4 * 4)
    for row in range(3):
        for column in range(5):
            piece = images[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            assert torch.equal(patches[:, row * 5 + column], piece.flatten(1))
    assert torch.equal(patches, F.unfold(images, 4, stride=4).transpose(1, 2))


@pytest.mark.parametrize("patch_size", [1, 4, 12])
@pytest.mark.parametrize("channels", [1, 3])
def test_patch_embed_equals_the_convolution(patch_size: int, channels: int) -> None:
    torch.manual_seed(0)
    embed = PatchEmbed(patch_size, channels, 8).double()
    images = draw_images(2, channels, 12, 36).double()
    convolved = embed.proj(images).flatten(2).transpose(1, 2)
    torch.testing.assert_close(embed(images), convolved, rtol=1e-12, atol=1e-12)


def test_patch_embed_has_the_gradients_of_the_convolution() -> None:
    torch.manual_seed(0)
    embed = PatchEmbed(4, 3, 8).double()
    images = draw_images(2, 3, 12, 20).double().requires_grad_()
    leaves = [images, *embed.parameters()]
    ours = torch.autograd.grad(embed(images).square().sum(), leaves)
    theirs = torch.autograd.grad(embed.proj(images).square().sum(), leaves)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_patch_embed_takes_channels_last_images() -> None:
    torch.manual_seed(0)
    embed, images = PatchEmbed(4, 3, 8), draw_images(2, 3, 12, 20)
    last = images.to(memory_format=torch.channels_last)
    torch.testing.assert_close(embed(last), embed(images), rtol=1e-6, atol=1e-6)
