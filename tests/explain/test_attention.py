import gc
import weakref

import pytest
import torch
from torch import Tensor, nn

from tests.explain.conftest import GRID, HEIGHT, TOKENS, WIDTH, tiny_vit
from vitrail.device import autocast
from vitrail.errors import ModelError
from vitrail.explain import attention_maps, class_attention, class_attentions, iter_attention
from vitrail.explain.attention import check_images
from vitrail.models import Record
from vitrail.models.vit import ViT


def test_each_row_sums_to_one_and_the_heads_differ(model: ViT, images: Tensor) -> None:
    maps = attention_maps(model, images)
    assert list(maps) == [0, 1, 2]
    for weights in maps.values():
        assert weights.shape == (2, 2, TOKENS, TOKENS)
        assert not weights.requires_grad
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, TOKENS))
        assert (weights[:, 0] - weights[:, 1]).abs().max() > 0.01


def test_a_matrix_is_what_the_fused_forward_has_applied(model: ViT, images: Tensor) -> None:
    inside = model.intermediates(images, ["blocks.1.attn.input", "blocks.1.attn.output"])
    attention = model.blocks[1].attn
    value = attention.qkv(inside["blocks.1.attn.input"])[..., 64:].unflatten(-1, (2, 16))
    mixed = attention_maps(model, images, [1])[1] @ value.transpose(1, 2)
    output = attention.proj(mixed.transpose(1, 2).flatten(2))
    torch.testing.assert_close(output, inside["blocks.1.attn.output"], rtol=1e-5, atol=1e-5)


def test_only_the_layers_asked_for_are_kept(
    model: ViT, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    records: list[Record] = []

    def run(images: Tensor, record: Record) -> Tensor:
        records.append(record)
        return ViT.run(model, images, record)

    monkeypatch.setattr(model, "run", run)
    assert list(attention_maps(model, images, [1])) == [1]
    assert [list(record) for record in records] == [["blocks.1.attn.input"]]


def test_layers_come_in_the_order_asked_counted_from_either_end(model: ViT, images: Tensor) -> None:
    maps = attention_maps(model, images, [-1, 0, 2])  # -1 and 2 are the same
    assert list(maps) == [2, 0]
    everything = attention_maps(model, images)
    assert all(torch.equal(weights, everything[layer]) for layer, weights in maps.items())


def test_one_matrix_lives_at_a_time(model: ViT, images: Tensor) -> None:
    seen: list[weakref.ref[Tensor]] = []
    for _, weights in iter_attention(model, images):
        gc.collect()
        assert [each() for each in seen] == [None] * len(seen)
        seen.append(weakref.ref(weights))
        del weights
    assert len(seen) == 3


def test_iterating_does_not_switch_the_callers_gradients_off(model: ViT, images: Tensor) -> None:
    for _ in iter_attention(model, images):
        assert torch.is_grad_enabled()


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_logits_are_equal_to_the_bit_with_and_without_explaining(
    model: ViT, images: Tensor, precision: str
) -> None:
    with torch.no_grad(), autocast(torch.device("cpu"), precision):
        before = model(images)
        recorded = model.intermediates(images)["logits"]
        for weights in attention_maps(model, images).values():
            assert weights.dtype == torch.float32
            torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, TOKENS), rtol=0, atol=1e-2)
        after = model(images)
    assert before.dtype == (torch.float32 if precision == "float32" else torch.bfloat16)
    assert torch.equal(before, recorded)
    assert torch.equal(before, after)


def test_every_part_keeps_its_mode_and_drop_path_stays_out(images: Tensor) -> None:
    model = tiny_vit(drop_path=0.9).train()
    model.blocks[0].eval()  # such as a frozen block
    modes = {name: module.training for name, module in model.named_modules()}
    first = attention_maps(model, images, [2])[2]
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert torch.equal(first, attention_maps(model, images, [2])[2])
    with pytest.raises(ModelError, match="channels"):
        attention_maps(model, images[:, :2])
    assert {name: module.training for name, module in model.named_modules()} == modes


def test_class_attention_lies_as_the_patches_lie(model: ViT, images: Tensor) -> None:
    weights = attention_maps(model, images)
    maps = class_attention(model, images, layer=1)
    assert maps.shape == (2, 2, *GRID)
    torch.testing.assert_close(maps[1, 1, 4, 2], weights[1][1, 1, 0, 1 + 4 * GRID[1] + 2])
    assert torch.equal(class_attention(model, images, layer=1, head=-1), maps[:, 1])
    assert torch.equal(class_attention(model, images), class_attention(model, images, layer=2))
    stacked = class_attentions(model, images)
    assert stacked.shape == (2, 3, 2, *GRID)
    assert torch.equal(stacked[:, 1], maps)


def test_another_image_size_than_the_models_gives_its_own_grid(model: ViT) -> None:
    assert class_attention(model, torch.randn(1, 3, 8, 20)).shape == (1, 2, 2, 5)


@pytest.mark.parametrize("layer", [3, -4])
def test_a_layer_out_of_range_is_refused(model: ViT, images: Tensor, layer: int) -> None:
    expected = (
        rf"^layer={layer} is out of range: this model has 3 layers, so layer goes from -3 to 2$"
    )
    with pytest.raises(ModelError, match=expected):
        attention_maps(model, images, [0, layer])


def test_other_impossible_requests_are_refused(model: ViT, images: Tensor) -> None:
    with pytest.raises(ModelError, match=r"head=2 is out of range: .* 2 heads, .* from -2 to 1"):
        class_attention(model, images, head=2)
    with pytest.raises(ModelError, match=r"shape \[3, 24, 16\] are no batch"):
        check_images(images[0])
    with pytest.raises(ModelError, match="layers is empty"):
        class_attentions(model, images, [])
    with pytest.raises(ModelError, match=r"Linear without attention; .* needs a ViT"):
        attention_maps(nn.Linear(2, 2), images)


@pytest.mark.peer
def test_equals_the_eager_attention_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    ours = tiny_vit().eval()
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = transformers.ViTConfig(
        **sizes,
        intermediate_size=128,
        image_size=(HEIGHT, WIDTH),
        patch_size=4,
        layer_norm_eps=1e-6,
        attn_implementation="eager",
    )
    theirs = transformers.ViTModel(config, add_pooling_layer=False).eval()
    missing = theirs.load_state_dict(_their_names(ours), strict=True)
    assert not missing.missing_keys
    images = torch.randn(2, 3, HEIGHT, WIDTH)
    with torch.no_grad():
        expected = theirs(images, output_attentions=True).attentions
    maps = attention_maps(ours, images)
    assert len(expected) == len(maps) == 3
    for layer, weights in maps.items():
        torch.testing.assert_close(weights, expected[layer], rtol=0, atol=1e-5)
        assert weights.max() > 3 / TOKENS  # far from uniform, where all would agree


def _their_names(model: ViT) -> dict[str, Tensor]:
    """Give our weights under the names that transformers has."""
    state = {
        "embeddings.cls_token": model.cls_token,
        "embeddings.position_embeddings": model.pos_embed,
        "embeddings.patch_embeddings.projection.weight": model.patch_embed.proj.weight,
        "embeddings.patch_embeddings.projection.bias": model.patch_embed.proj.bias,
        "layernorm.weight": model.norm.weight,
        "layernorm.bias": model.norm.bias,
    }
    parts = {
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.o_proj",
        "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2",
    }
    for i, block in enumerate(model.blocks):
        for kind in ("weight", "bias"):
            for our, their in parts.items():
                state[f"layers.{i}.{their}.{kind}"] = block.get_parameter(f"{our}.{kind}")
            for letter, part in zip("qkv", getattr(block.attn.qkv, kind).chunk(3), strict=True):
                state[f"layers.{i}.attention.{letter}_proj.{kind}"] = part
    return {name: tensor.detach() for name, tensor in state.items()}
