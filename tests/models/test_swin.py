"""The Swin Transformer: sizes, first weights, padding, intermediates, weights of other sizes."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.helpers import draw_images, images_for, tiny, tiny_model
from vitrail.config import Config
from vitrail.errors import ModelError
from vitrail.models import build_model, count_flops, create_model
from vitrail.models.swin import Swin
from vitrail.models.swin_config import SWIN_MODELS, SwinConfig
from vitrail.models.windows import resize_bias


def swin(config: Config | None = None, **sizes: Any) -> Swin:
    """A tiny model in evaluation mode, or a fresh one of these sizes."""
    model = build_model(config) if config is not None else tiny_model("swin", **sizes)
    assert isinstance(model, Swin)
    return model.eval()


# --- sizes --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "millions", "gmacs"),
    [
        ("swin_tiny_patch4_window7_224", 29, 4.5),
        ("swin_small_patch4_window7_224", 50, 8.7),
        ("swin_base_patch4_window7_224", 88, 15.4),
        ("swin_base_patch4_window12_384", 88, 47.0),
        ("swin_large_patch4_window7_224", 197, 34.5),
        ("swin_large_patch4_window12_384", 197, 103.9),
    ],
)
def test_table_1_of_the_paper(name: str, millions: int, gmacs: float) -> None:
    assert name in SWIN_MODELS
    with torch.device("meta"):
        model = create_model(name)
    # the table says 29 for 28.3
    assert model.count_parameters() / 1e6 == pytest.approx(millions, rel=0.03)
    flops = count_flops(model, model.config.image_size, 3)
    assert flops / 2e9 == pytest.approx(gmacs, rel=0.005)


def analytic_flops(config: SwinConfig, size: tuple[int, int]) -> int:
    """Two for every multiply-add of a matrix product, those of filled-up places included."""
    window = math.prod(config.window_size)
    grids = config.grids(*size)
    count = math.prod(grids[0]) * config.in_channels * config.patch_size**2 * config.width
    for stage, (grid, d) in enumerate(zip(grids, config.widths, strict=True)):
        n = math.prod(grid)
        cut = [math.ceil(side / part) for side, part in zip(grid, config.window_size, strict=True)]
        full = math.prod(cut) * window
        block = full * d * 3 * d + 2 * full * window * d + n * d * d
        block += 2 * n * d * int(d * config.mlp_ratio)
        count += config.depths[stage] * block + (n * 2 * d * d if stage else 0)
    return 2 * (count + config.widths[-1] * config.classes)


@pytest.mark.parametrize("size", [(32, 48), (97, 131), (8, 8), (1, 3)], ids=str)
def test_flops_are_the_analytic_count(size: tuple[int, int]) -> None:
    model = tiny_model("swin")
    assert isinstance(model.config, SwinConfig)
    assert count_flops(model, size, 3) == analytic_flops(model.config, size)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"heads": (2, 3)}, r"heads=\(2, 3\): 3 heads of stage 1 must divide its 32 features"),
        ({"depths": (2, 2, 2)}, r"depths=\(2, 2, 2\) and heads=\(2, 4\) must have one number a"),
        ({"depths": (), "heads": ()}, r"depths"),
        ({"window_size": (0, 4)}, r"window_size"),
        ({"image_size": (0, 4)}, r"image_size"),
        ({"mlp_ratio": 0.0}, r"mlp_ratio"),
    ],
)
def test_impossible_sizes_are_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny("swin", **sizes)


def test_impossible_sizes_are_refused_by_name() -> None:
    with pytest.raises(ModelError, match=r"5 heads of stage 0 must divide its 96 features"):
        create_model("swin_tiny_patch4_window7_224", heads=(5, 6, 12, 24))


def test_the_maps_of_the_stages() -> None:
    config = SwinConfig(image_size=(97, 131))
    assert config.grids(97, 131) == ((25, 33), (13, 17), (7, 9), (4, 5))
    assert config.tokens == 25 * 33
    assert SwinConfig().grids(224, 224) == ((56, 56), (28, 28), (14, 14), (7, 7))
    assert config.widths == (96, 192, 384, 768)


def test_the_image_size_changes_no_parameter() -> None:
    shapes = [
        {name: p.shape for name, p in swin(tiny("swin", image_size=size)).named_parameters()}
        for size in [(1, 1), (32, 48), (500, 333)]
    ]
    assert shapes[0] == shapes[1] == shapes[2]


def test_every_second_block_is_shifted() -> None:
    model = swin(tiny("swin", depths=(3, 2)))
    shifted = [[block.attn.shifted for block in layer.blocks] for layer in model.layers]
    assert shifted == [[False, True, False], [False, True]]


def test_drop_path_grows_linearly_over_all_blocks() -> None:
    model = swin(tiny("swin", depths=(1, 4), drop_path=0.4))
    rates = [block.drop_path.rate for layer in model.layers for block in layer.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


# --- first weights ------------------------------------------------------------


def test_first_weights_follow_the_stated_law() -> None:
    torch.manual_seed(0)
    model = swin(tiny("swin", width=96, heads=(3, 6), window_size=(7, 7)))
    for name, parameter in model.named_parameters():
        values = parameter.detach()
        if name.startswith("head"):
            assert not values.any()
        elif name.startswith("patch_embed.proj"):
            assert 0.9 < float(values.abs().max()) * math.sqrt(3 * 4 * 4) <= 1  # uniform
        elif "norm" in name:
            assert (values == (1.0 if name.endswith("weight") else 0.0)).all()
        elif name.endswith("bias"):
            assert not values.any()
        else:
            error = 5 / math.sqrt(2 * values.numel())
            assert float(values.std()) == pytest.approx(0.02, rel=error), name


# --- images of any size -------------------------------------------------------


@pytest.mark.parametrize("size", [(9, 13), (97, 131), (1, 1), (5, 64)], ids=str)
def test_zeros_fill_up_images_below_and_to_the_right(size: tuple[int, int]) -> None:
    model = swin()
    images = draw_images(2, 3, *size)
    filled = F.pad(images, (0, -size[1] % 4, 0, -size[0] % 4))
    assert torch.equal(model(images), model(filled))
    assert model.features(images).grid == tuple(math.ceil(side / 8) for side in size)


def test_zeros_fill_up_odd_maps_before_the_norm() -> None:
    merging = swin().layers[1].downsample
    x = draw_images(2, 3, 5, 16)
    filled = F.pad(x, (0, 0, 0, 1, 0, 1))
    expected = merging(filled.flatten(1, 2), (4, 6))
    assert torch.equal(merging(x.flatten(1, 2), (3, 5)), expected)


def test_merging_takes_the_four_column_by_column() -> None:
    merging = swin().layers[1].downsample
    x = draw_images(1, 4, 6, 16)
    four = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
    expected = merging.reduction(merging.norm(torch.cat(four, dim=-1)))
    assert torch.equal(merging(x.flatten(1, 2), (4, 6)), expected.flatten(1, 2))


def test_the_tokens_are_those_of_the_patches_row_by_row() -> None:
    model = swin()
    images = images_for(model, 1)
    changed = images.clone()
    changed[:, :, 8:12, 20:24] += 1  # row 2, column 5 of a map of 8 x 12
    differs = (model.patch_embed(images) != model.patch_embed(changed)).any(-1)[0]
    assert differs.nonzero().flatten().tolist() == [2 * 12 + 5]


def test_one_unshifted_block_relates_a_window_only() -> None:
    model = swin(depths=(1,), heads=(2,), window_size=(2, 3))
    images = images_for(model, 1)
    changed = images.clone()
    changed[:, :, 8:12, 20:24] += 1  # row 2, column 5: rows 2 and 3, columns 3 to 5
    differs = (model.features(images).tokens != model.features(changed).tokens).any(-1)[0]
    window = [row * 12 + column for row in (2, 3) for column in (3, 4, 5)]
    assert differs.nonzero().flatten().tolist() == window


# --- intermediates ------------------------------------------------------------


def test_the_recorded_intermediates_are_what_their_names_say() -> None:
    model = swin()
    images = images_for(model)
    seen = model.intermediates(images)
    x = model.patch_embed(images)
    assert torch.equal(seen["embed"], x)
    for stage, grid in enumerate(model.config.grids(32, 48)):
        layer = model.layers[stage]
        if layer.downsample is not None:
            x = layer.downsample(x, (8, 12))
        for i, block in enumerate(layer.blocks):
            name = f"layers.{stage}.blocks.{i}"
            assert torch.equal(seen[f"{name}.attn.input"], block.norm1(x))
            mixed = block.attn(seen[f"{name}.attn.input"], grid)
            assert torch.equal(seen[f"{name}.attn.output"], mixed)
            assert torch.equal(seen[f"{name}.mlp.output"], block.mlp(block.norm2(x + mixed)))
            x = x + mixed + seen[f"{name}.mlp.output"]
            assert torch.equal(seen[f"{name}.output"], x)
    assert torch.equal(seen["norm"], model.norm(x))
    assert torch.equal(seen["norm"], model.features(images).tokens)
    assert torch.equal(seen["pooled"], seen["norm"].mean(dim=1))


# --- weights of other sizes ---------------------------------------------------


def fitted(target: Swin, source: Swin) -> dict[str, Tensor]:
    """The weights of `source`, each brought to the shape that it has in `target`."""
    weights = source.state_dict().items()
    return {name: target.fit(name, tensor, source.config) for name, tensor in weights}


def test_weights_of_other_windows_patches_and_channels_fit() -> None:
    source = swin()
    target = swin(tiny("swin", window_size=(5, 2), patch_size=8, in_channels=1))
    weights = fitted(target, source)
    target.load_state_dict(weights)
    name = "layers.1.blocks.1.attn.relative_position_bias_table"
    expected = resize_bias(source.state_dict()[name], (3, 4), (5, 2))
    assert torch.equal(weights[name], expected)
    assert target(draw_images(2, 1, 40, 56)).isfinite().all()


def test_weights_of_the_same_sizes_stay() -> None:
    source = swin()
    weights = fitted(swin(tiny("swin", image_size=(64, 40), drop_path=0.1)), source)
    assert all(torch.equal(weights[name], tensor) for name, tensor in source.state_dict().items())
