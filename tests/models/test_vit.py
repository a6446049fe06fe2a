"""The ViT's sizes, first weights, intermediates and refusals."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers import draw_images, images_for, tiny, tiny_model
from vitrail.config import Config
from vitrail.errors import ModelError
from vitrail.models import build_model, create_model
from vitrail.models.vit import ViT
from vitrail.models.vit_config import ViTConfig

# --- sizes --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "millions", "exact"),
    [
        ("ViT-B/16", 86, 86_567_656),
        ("ViT-L/16", 307, 304_326_632),
        ("ViT-H/14", 632, 632_045_800),
    ],
)
def test_table_1_of_the_paper(name: str, millions: int, exact: int) -> None:
    # The table names no patch size, and does not say whether the head counts. 632 M is H/14 with a
    # head of 1000 classes; 307 M is not L/16 (304.3 M) but L/32, see below; 86 M is B/16 without.
    with torch.device("meta"):
        count = create_model(name).count_parameters()
    assert count == exact
    assert abs(count / 1e6 - millions) < 0.01 * millions


def test_table_1_counts_large_with_patches_of_32() -> None:
    with torch.device("meta"):
        assert round(create_model("ViT-L/32").count_parameters() / 1e6) == 307
        base = create_model("ViT-B/16")
    head = sum(p.numel() for p in base.head.parameters())
    assert round((base.count_parameters() - head) / 1e6) == 86


def test_table_1_sizes() -> None:
    with torch.device("meta"):
        sizes = {
            letter: (c.depth, c.width, int(c.width * c.mlp_ratio), c.heads)
            for letter in ("B/16", "L/16", "H/14")
            if isinstance(c := create_model(f"ViT-{letter}").config, ViTConfig)
        }
    assert sizes == {
        "B/16": (12, 768, 3072, 12),
        "L/16": (24, 1024, 4096, 16),
        "H/14": (32, 1280, 5120, 16),
    }


# --- initialisation -----------------------------------------------------------


def assert_std(weight: Tensor, expected: float) -> None:
    """The deviation is right within five standard errors of a normal sample."""
    weight = weight.detach()
    error = 5 / math.sqrt(2 * weight.numel())
    assert float(weight.std()) == pytest.approx(expected, rel=error)
    assert abs(float(weight.mean())) < 5 * expected / math.sqrt(weight.numel())


@pytest.mark.parametrize("mlp_ratio", [4.0, 1.5])
def test_initial_weights_follow_the_stated_law(mlp_ratio: float) -> None:
    torch.manual_seed(0)
    config = tiny("vit", width=192, heads=3, depth=2, mlp_ratio=mlp_ratio)
    model = build_model(config)
    assert isinstance(model, ViT)
    hidden = int(192 * mlp_ratio)
    assert_std(model.patch_embed.proj.weight, math.sqrt(1 / (3 * 8 * 8)))
    assert_std(model.pos_embed, 0.02)
    for block in model.blocks:
        for square in (*block.attn.qkv.weight.chunk(3), block.attn.proj.weight):
            assert_std(square, math.sqrt(2 / (192 + 192)))
            assert float(square.detach().abs().max()) <= math.sqrt(6 / (192 + 192))  # uniform
        assert_std(block.mlp.fc1.weight, math.sqrt(2 / (192 + hidden)))
        assert_std(block.mlp.fc2.weight, math.sqrt(2 / (192 + hidden)))
        assert_std(block.mlp.fc1.bias, 1e-6)
        assert_std(block.mlp.fc2.bias, 1e-6)


def test_initial_zeros_and_ones() -> None:
    model = build_model(tiny("vit"))
    zero = {"cls_token", "patch_embed.proj.bias", "norm.bias", "head.weight", "head.bias"}
    for i in (0, 1):
        zero |= {f"blocks.{i}.{part}.bias" for part in ("norm1", "norm2", "attn.qkv", "attn.proj")}
    one = {"norm.weight"} | {f"blocks.{i}.norm{j}.weight" for i in (0, 1) for j in (1, 2)}
    assert {name for name, p in model.named_parameters() if not p.any()} == zero
    assert {name for name, p in model.named_parameters() if (p == 1).all()} == one


# --- the rest -----------------------------------------------------------------


def test_drop_path_grows_linearly_over_the_blocks() -> None:
    model = build_model(tiny("vit", depth=4, drop_path=0.3))
    rates = [block.drop_path.rate for block in model.blocks]  # type: ignore[union-attr]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_the_tokens_are_those_of_the_patches_row_by_row() -> None:
    model = tiny_model("vit").eval()
    assert isinstance(model, ViT)
    images = images_for(model, 1)
    changed = images.clone()
    changed[:, :, 8:16, 32:40] += 1  # row 1, column 4 of a grid of 4 x 6
    differs = (model.embed(images) != model.embed(changed)).any(-1)[0]
    assert differs.nonzero().flatten().tolist() == [1 * 6 + 4]
    assert model.grid_of(24, 56) == (3, 7)
    assert model.config.grid == (4, 6)
    assert model.config.tokens == 25


def test_the_recorded_intermediates_are_what_their_names_say() -> None:
    model = tiny_model("vit").eval()
    assert isinstance(model, ViT)
    seen = model.intermediates(images_for(model))
    for before, i in (("embed", 0), ("blocks.0.output", 1)):
        block, name = model.blocks[i], f"blocks.{i}"
        assert torch.equal(seen[f"{name}.attn.input"], block.norm1(seen[before]))
        assert torch.equal(seen[f"{name}.attn.output"], block.attn(seen[f"{name}.attn.input"]))
        between = seen[before] + seen[f"{name}.attn.output"]
        assert torch.equal(seen[f"{name}.mlp.output"], block.mlp(block.norm2(between)))
        assert torch.equal(seen[f"{name}.output"], between + seen[f"{name}.mlp.output"])
    assert torch.equal(seen["norm"], model.norm(seen["blocks.1.output"]))
    assert torch.equal(seen["pooled"], seen["norm"][:, 0])
    assert torch.equal(seen["logits"], model.head(seen["pooled"]))


def test_images_that_the_patches_do_not_divide_are_refused() -> None:
    model = tiny_model("vit")
    with pytest.raises(
        ModelError, match="images of 32x50 pixels must be a multiple of patch_size=8"
    ):
        model(draw_images(1, 3, 32, 50))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"image_size": (32, 50)}, "must be a multiple of patch_size=8; the nearest is 32x48"),
        ({"image_size": (3, 48)}, "the nearest is 8x48"),
        ({"heads": 3}, "width=32 must be a multiple of heads=3"),
        ({"depth": 0}, "greater than or equal to 1"),
        ({"drop_path": 1.0}, "less than 1"),
        ({"mlp_ratio": 0.0}, "greater than 0"),
        ({"mlp_ratio": math.inf}, "finite"),
    ],
)  # fmt: skip
def test_impossible_sizes_are_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny("vit", **sizes)


def test_more_of_everything_is_more_parameters() -> None:
    def count(**sizes: Any) -> int:
        config: Config = tiny("vit", **sizes)
        with torch.device("meta"):
            return build_model(config).count_parameters()

    for steps in (
        [{"depth": 1}, {"depth": 2}, {"depth": 3}],
        [{"width": 16}, {"width": 32}, {"width": 64}],
        [{"classes": 2}, {"classes": 5}],
        [{"image_size": (8, 16)}, {"image_size": (16, 16)}],
    ):
        counts = [count(**sizes) for sizes in steps]
        assert all(a < b for a, b in pairwise(counts))
