import math

import pytest
import torch
from torch import Tensor, nn

from tests.explain.conftest import GRID, PATCH, tiny_vit
from vitrail.errors import ModelError
from vitrail.explain import attention_distance, attention_maps, position_similarity
from vitrail.explain.distance import grid_distances
from vitrail.models.vit import ViT

PLACES = [(i, j) for i in range(GRID[0]) for j in range(GRID[1])]


def test_distances_on_a_grid_that_is_not_square() -> None:
    distances = grid_distances((3, 5))
    assert distances.shape == (3, 5, 3, 5)
    assert distances[0, 0, 2, 4] == math.hypot(2, 4)
    assert distances[2, 1, 2, 4] == 3.0
    assert torch.equal(distances, distances.permute(2, 3, 0, 1))


def test_uniform_attention_spans_the_mean_distance_of_two_patches(images: Tensor) -> None:
    model = tiny_vit()
    for block in model.blocks:
        nn.init.zeros_(block.attn.qkv.weight)
        nn.init.zeros_(block.attn.qkv.bias)
    mean = sum(math.dist(a, b) for a in PLACES for b in PLACES) / len(PLACES) ** 2
    expected = torch.full((3, 2), mean * PATCH)  # pixels
    torch.testing.assert_close(attention_distance(model, images), expected)


def test_equals_an_explicit_sum(model: ViT, images: Tensor) -> None:
    weights = attention_maps(model, images, [1])[1]
    total = 0.0
    for b in range(2):
        for i, here in enumerate(PLACES):
            row = weights[b, 1, 1 + i, 1:].double()
            looked = sum(float(row[j]) * math.dist(here, there) for j, there in enumerate(PLACES))
            total += PATCH * looked / float(row.sum())
    distance = attention_distance(model, images, [0, 1])
    assert distance.shape == (2, 2)
    assert distance[1, 1].item() == pytest.approx(total / (2 * len(PLACES)), rel=1e-5)


def test_a_head_that_looks_at_itself_spans_nothing(
    model: ViT, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    eye = torch.eye(len(PLACES) + 1).expand(2, 2, -1, -1)
    only_class = torch.zeros_like(eye).index_fill(-1, torch.tensor(0), 1.0)
    monkeypatch.setattr(model.blocks[0].attn, "weights", lambda *_: eye)
    monkeypatch.setattr(model.blocks[1].attn, "weights", lambda *_: only_class)
    assert torch.equal(attention_distance(model, images, [0, 1]), torch.zeros(2, 2))


def test_no_layers_give_no_rows(model: ViT, images: Tensor) -> None:
    assert attention_distance(model, images, []).shape == (0, 2)


def test_positions_resemble_each_other_by_their_angle() -> None:
    model = tiny_vit()
    angles = torch.tensor([math.pi / 6 * i + math.pi / 9 * j for i, j in PLACES])
    with torch.no_grad():
        model.pos_embed.zero_()
        model.pos_embed[0, 0] = 7.0  # of the class token; must not matter
        model.pos_embed[0, 1:, 0] = 3 * angles.cos()
        model.pos_embed[0, 1:, 1] = 3 * angles.sin()
    similarity = position_similarity(model)
    assert similarity.shape == (*GRID, *GRID)
    assert not similarity.requires_grad
    assert similarity[2, 1, 2, 1].item() == pytest.approx(1.0)
    turned = math.pi / 6 * (4 - 1) + math.pi / 9 * (3 - 1)
    assert similarity[1, 1, 4, 3].item() == pytest.approx(math.cos(turned), abs=1e-6)


def test_an_embedding_of_zeros_resembles_nothing(model: ViT) -> None:
    nn.init.zeros_(model.pos_embed)
    assert torch.equal(position_similarity(model), torch.zeros(*GRID, *GRID))


def test_another_model_is_refused(images: Tensor) -> None:
    with pytest.raises(ModelError, match="Flatten without attention"):
        position_similarity(nn.Flatten())
    with pytest.raises(ModelError, match="Flatten without attention"):
        attention_distance(nn.Flatten(), images)
