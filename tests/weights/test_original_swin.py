"""Swin's own checkpoints, against timm, which reads them too."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.helpers import draw_images, perturb, tiny_model
from tests.weights.references import assert_same_model, close
from vitrail.errors import WeightsError
from vitrail.weights.adapt import Wanted, adapt
from vitrail.weights.load import load_model, read_any, save_model
from vitrail.weights.swin import their_name
from vitrail.weights.tensors import write_tensors

# Images of 32 x 32: windows of 4 divide the maps of 8 x 8 and 4 x 4; the second is not shifted.
SIZES: dict[str, Any] = {"window_size": (4, 4), "image_size": (32, 32)}


def reference(height: int, width: int, state: dict[str, Tensor] | None = None) -> nn.Module:
    """Build timm's Swin for images of a size, with the weights of another one's file if given."""
    pytest.importorskip("timm")
    from timm.models.swin_transformer import SwinTransformer, checkpoint_filter_fn

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4)}
    model = SwinTransformer(img_size=(height, width), window_size=4, num_classes=5, **sizes)
    perturb(model)
    if state is not None:
        model.load_state_dict(checkpoint_filter_fn(dict(state), model))
    return model.eval()  # type: ignore[no-any-return]


def as_published(model: nn.Module) -> dict[str, Tensor]:
    """Give the weights and buffers of timm's model in the layout of Liu et al."""
    named = dict(model.named_parameters()) | dict(model.named_buffers())
    merged = "layers.1.downsample."
    names = {name: name.replace(merged, "layers.0.downsample.") for name in named}
    return {
        names[name].replace("head.fc.", "head."): tensor.detach() for name, tensor in named.items()
    }


def our_state(**sizes: Any) -> dict[str, Tensor]:
    """Give the weights of a tiny model of ours in that layout, without the buffers."""
    model = tiny_model("swin", **SIZES | sizes)
    return {their_name(name): tensor for name, tensor in model.state_dict().items()}


@pytest.mark.peer
def test_answers_are_those_of_timm(tmp_path: Path) -> None:
    state = as_published(reference(32, 32))
    assert {"layers.0.downsample.reduction.weight", "layers.0.blocks.1.attn_mask"} <= state.keys()
    beside = {"optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}, "max_accuracy": 81.2}
    torch.save({"model": state, "epoch": 299, **beside}, tmp_path / "x.pth")
    foreign, format = read_any(tmp_path / "x.pth", pickles=True)
    model = adapt(foreign, Wanted(), "x.pth", format)
    assert format == "swin" and dict(model.config) == dict(
        tiny_model("swin", **SIZES).config, kind="swin"
    )
    for size in ((32, 32), (64, 64), (64, 96)):
        theirs, images = reference(*size, state), draw_images(2, 3, *size)
        with torch.no_grad():
            close(model(images), theirs(images))
            tokens = theirs.forward_features(images)  # type: ignore[operator]  # b rows columns d
            close(model.features(images).tokens, tokens.flatten(1, 2))
    dropped = {row.why for row in model.loaded.of("dropped")}  # type: ignore[union-attr]
    assert dropped == {"computed from the sizes", "state of the optimiser"}


@pytest.mark.peer
@pytest.mark.parametrize("side", [32, 64])
def test_masks_tell_the_image_size(side: int, tmp_path: Path) -> None:
    write_tensors(tmp_path / "x.safetensors", as_published(reference(side, side)))
    model = load_model(tmp_path / "x.safetensors", quiet=True)
    assert model.config.image_size == (side, side)
    assert model.loaded is not None
    assert f"{side}x{side} (square) is assumed: give trained_size" in str(model.loaded.notes)


@pytest.mark.parametrize(
    ("size", "crop", "resize"), [((32, 64), 0.875, "crop"), ((384, 384), 1.0, "squash")]
)
def test_the_caller_may_know_the_image_size(
    size: tuple[int, int], crop: float, resize: str, tmp_path: Path
) -> None:
    write_tensors(tmp_path / "x.safetensors", our_state())
    model = load_model(tmp_path / "x.safetensors", trained_size=size, quiet=True)
    assert model.config.image_size == size and model.loaded is not None
    assert not any("image size" in note for note in model.loaded.notes)
    preprocess: Any = model.preprocess
    assert (preprocess.size, preprocess.crop_fraction, preprocess.resize) == (size, crop, resize)


def test_without_masks_the_last_stage_has_one_window(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x.safetensors", our_state(classes=0))
    model = load_model(tmp_path / "x.safetensors", quiet=True)
    assert (model.config.image_size, model.config.classes) == ((32, 32), 0)
    state = tiny_model("swin", classes=0, **SIZES).state_dict()
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("to", ["vitrail", "timm", "torchvision"])
def test_it_goes_to_formats_that_are_written(to: str, tmp_path: Path) -> None:
    write_tensors(tmp_path / "x.safetensors", our_state())
    model = load_model(tmp_path / "x.safetensors", quiet=True)
    path = tmp_path / ("y.safetensors" if to == "torchvision" else "y")
    save_model(model, path, format=to, quiet=True)
    assert_same_model(load_model(path, quiet=True), model)


def faulty(**changes: Tensor) -> dict[str, Tensor]:
    """Change tensors whose names stand with __ for dots."""
    return our_state() | {name.replace("__", "."): tensor for name, tensor in changes.items()}


TABLE = "layers__{}__blocks__0__attn__relative_position_bias_table"
FAULTS = {
    "ape": (faulty(absolute_pos_embed=torch.ones(1, 64, 16)), r"has absolute_pos_embed \(APE\)"),
    "windows": (
        faulty(**{TABLE.format(1): torch.ones(9, 4)}),
        r"has windows of several sizes \(bias tables of \[49, 9\] rows\)",
    ),
    "no square": (
        faulty(**{TABLE.format(i): torch.ones(35, 2 + 2 * i) for i in (0, 1)}),
        r"a bias table of 35 rows is of no square window",
    ),
    "even": (
        faulty(**{TABLE.format(i): torch.ones(36, 2 + 2 * i) for i in (0, 1)}),
        r"a bias table of 36 rows is of no square window",
    ),
    "heads": (
        faulty(**{TABLE.format(0): torch.ones(49, 3)}),
        r"heads=\(3, 4\): 3 heads of stage 0 must divide its 16 features",
    ),
    "axes": (
        faulty(patch_embed__proj__weight=torch.ones(16)),
        r"patch_embed.proj.weight is \[16\]; it must have 4 axes",
    ),
    "oblong": (
        faulty(patch_embed__proj__weight=torch.ones(16, 3, 4, 2)),
        r"has patches of 4x2 pixels; here they are square",
    ),
    "unknown": (faulty(extra__weight=torch.ones(2)), r"has 'extra.weight', which this"),
    "a stage more": (
        faulty(layers__7__x=torch.ones(2)),
        r"lacks 'layers.2.blocks.0.attn.relative_position_bias_table'",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_refusals(name: str, tmp_path: Path) -> None:
    state, match = FAULTS[name]
    write_tensors(tmp_path / "x.safetensors", state)
    with pytest.raises(Exception, match=match) as caught:
        load_model(tmp_path / "x.safetensors")
    assert str(caught.value).startswith(str(tmp_path))


def test_without_the_norm_of_patches(tmp_path: Path) -> None:
    state = our_state()
    del state["patch_embed.norm.weight"], state["patch_embed.norm.bias"]
    write_tensors(tmp_path / "x.safetensors", state)
    with pytest.raises(WeightsError, match=r"lacks 'patch_embed.norm.bias' \(2 tensors missing\)"):
        load_model(tmp_path / "x.safetensors")
