"""Explanations of models with other tokens than the paper's."""

from typing import Any

import pytest
import torch

from tests.helpers import draw_images, images_for, tiny_model
from vitrail.errors import ModelError
from vitrail.explain import attention_distance, attention_maps, class_attention, explain, rollout
from vitrail.explain.distance import position_similarity
from vitrail.models.vit import ViT

READABLE = ["vit", "vit-deit", "vit-deit3", "vit-dinov2", "vit-dinov3", "vit-gap", "vit-mae"]


def vit(kind: str, **sizes: Any) -> ViT:
    model = tiny_model(kind, **sizes).eval()
    assert isinstance(model, ViT)
    return model


@pytest.mark.parametrize("kind", [*READABLE, "hybrid", "vit-map"])
def test_recomputed_attention_gives_what_the_layer_gave(kind: str) -> None:
    model = vit(kind)
    images = images_for(model)
    maps = attention_maps(model, images)
    seen = model.intermediates(images)
    for layer, weights in maps.items():
        block = model.blocks[layer]
        turn = model.turn(model.grid_of(*images.shape[-2:]))
        _, _, v = block.attn._split(seen[f"blocks.{layer}.attn.input"], turn)
        mixed = block.attn.proj((weights @ v).transpose(1, 2).flatten(2))
        given = seen[f"blocks.{layer}.attn.output"]
        torch.testing.assert_close(block.ls1(mixed), given, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))


@pytest.mark.parametrize("kind", [*READABLE, "hybrid"])
@pytest.mark.parametrize("method", ["rollout", "attention"])
def test_heat_has_the_size_of_the_images(kind: str, method: str) -> None:
    model = vit(kind)
    images = images_for(model)
    heat = explain(model, images, method=method)
    assert heat.shape == (2, *images.shape[-2:]) and heat.isfinite().all()
    assert heat.amax() == 1
    if kind != "hybrid":
        assert explain(model, draw_images(1, 3, 40, 24), method=method).shape == (1, 40, 24)


@pytest.mark.parametrize("kind", READABLE)
def test_class_attention_leaves_out_the_tokens_without_a_place(kind: str) -> None:
    model = vit(kind)
    images = images_for(model)
    weights = attention_maps(model, images, [0])[0]
    prefix = model.prefix_tokens
    row = weights[:, :, 0] if model.config.class_token else weights[:, :, prefix:].mean(2)
    expected = row[..., prefix:].reshape(2, 2, 4, 6)
    torch.testing.assert_close(class_attention(model, images, 0), expected)


@pytest.mark.parametrize("kind", READABLE)
def test_rollout_is_the_product_of_all_layers(kind: str) -> None:
    model = vit(kind)
    images = images_for(model)
    flow = torch.eye(model.config.tokens)
    for _, weights in sorted(attention_maps(model, images).items()):
        flow = (0.5 * weights.mean(1) + 0.5 * torch.eye(model.config.tokens)) @ flow
    prefix = model.prefix_tokens
    row = flow[:, 0] if model.config.class_token else flow[:, prefix:].mean(1)
    expected = row[:, prefix:].reshape(2, 4, 6)
    torch.testing.assert_close(rollout(model, images), expected, rtol=1e-5, atol=1e-6)


def test_a_model_that_pools_by_attention_is_refused_by_name() -> None:
    model = vit("vit-map")
    for method in ("rollout", "attention"):
        with pytest.raises(ModelError, match=r"pools by attention \(pool=map\)"):
            explain(model, images_for(model), method=method)


@pytest.mark.parametrize("kind", ["resnet", "bit", "swin"])
def test_a_model_without_such_attention_is_refused_by_name(kind: str) -> None:
    model = tiny_model(kind).eval()
    with pytest.raises(ModelError, match=r"this explanation needs a ViT"):
        explain(model, images_for(model))


def test_distances_of_a_hybrid_are_in_pixels_of_the_image() -> None:
    model = vit("hybrid")
    distances = attention_distance(model, images_for(model))
    height, width = model.config.image_size
    assert 0 < float(distances.min()) <= float(distances.max()) < (height**2 + width**2) ** 0.5
    assert float(distances.max()) > model.config.stride / 2


def test_positions_that_are_not_learned_cannot_be_compared() -> None:
    assert position_similarity(vit("vit-dinov2")).shape == (4, 6, 4, 6)
    with pytest.raises(ModelError, match="has positions=rotary, and no learned ones"):
        position_similarity(vit("vit-dinov3"))
