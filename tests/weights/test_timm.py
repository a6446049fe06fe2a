"""timm's format, against timm itself."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.helpers import TINY, draw_images, images_for, perturb
from tests.weights.references import (
    assert_same_logits,
    assert_same_model,
    close,
    prepared,
    ready_model,
)
from vitrail.data.preprocess import Preprocess
from vitrail.errors import VitrailError, WeightsError
from vitrail.models import Backbone, create_model
from vitrail.weights.load import load_model, save_model
from vitrail.weights.names import write_by
from vitrail.weights.tensors import read_tensors, write_tensors
from vitrail.weights.timm import rules

# timm has no pooling of two vectors side by side, and no narrow CNNs.
KINDS = [kind for kind in TINY if kind.startswith("vit") and kind != "vit-dinov2"] + ["swin"]
NAMED = {
    "resnet18": {"image_size": (40, 56), "depths": (1, 1, 2, 1)},
    "resnet50": {"image_size": (40, 56), "depths": (1, 1, 2, 1)},
    "resnetv2_50x1_bit": {"image_size": (40, 56)},
    "vit_tiny_r_s16_p8_224": {"image_size": (32, 64), "depth": 2, "patch_size": 2},
    "vit_small_r26_s32_224": {"image_size": (32, 64), "depth": 1},
    "vit_giant_patch14_dinov2": {"image_size": (28, 42), "depth": 1, "width": 32, "heads": 2},
}
CASES = [*KINDS, *NAMED]
EXACT = {  # as timm computes
    "vit-mae": {"norm_eps": 1e-6},
    "vit-dinov3": {"norm_eps": 1e-5},
    "swin": {"image_size": (24, 32)},
}


def a_model(case: str, **sizes: Any) -> Backbone:
    """Build a small model of a kind, or a named one made small."""
    if case in KINDS:
        return ready_model(case, **sizes)
    torch.manual_seed(0)
    model = create_model(case, num_classes=5, **NAMED[case])
    perturb(model, std=0.02)
    return prepared(model)


def reference(name: str, **arguments: Any) -> nn.Module:
    """Build timm's model with every weight perturbed."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, **arguments)
    perturb(model, std=0.05)
    return model.eval()


def timm_folder(model: nn.Module, path: Path) -> Path:
    """Save a model as timm does for the hub."""
    from timm.models import save_for_hf

    labels = [f"kind {i}" for i in range(model.num_classes)]  # type: ignore[call-overload]
    save_for_hf(model, path, model_config={"label_names": labels}, safe_serialization=True)
    return path


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("name", ["folder", "file.safetensors"])
def test_a_round_trip_gives_every_bit_back(kind: str, name: str, tmp_path: Path) -> None:
    model = a_model(kind)
    save_model(model, tmp_path / name, format="timm")
    back = load_model(tmp_path / name)
    assert_same_model(back, model)
    assert back.loaded is not None and back.loaded.format == "timm"
    assert {row.fate for row in back.loaded.rows} <= {"loaded", "dropped"}


@pytest.mark.peer
@pytest.mark.parametrize("kind", CASES)
def test_timm_opens_what_is_written(kind: str, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    model = a_model(kind, **EXACT.get(kind, {}))
    save_model(model, tmp_path, format="timm")
    twin = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    assert_same_logits(model, twin)
    about = json.loads((tmp_path / "config.json").read_text())
    again = timm.create_model(
        about["architecture"],
        checkpoint_path=str(tmp_path / "model.safetensors"),
        **about["model_args"] | {"num_classes": 5},
    )
    assert_same_logits(model, again)
    assert twin.pretrained_cfg["label_names"] == list(model.classes)


SAVED: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": {"img_size": (48, 80), "depth": 2},
    "deit_tiny_distilled_patch16_224": {"img_size": (48, 80), "depth": 2},
    "deit3_small_patch16_224": {"img_size": (48, 80), "depth": 2, "init_values": 0.1},
    "vit_base_patch16_gap_224": {"img_size": (48, 80), "depth": 2, "embed_dim": 64, "num_heads": 2},
    "vit_base_patch16_siglip_224": {
        "img_size": (48, 80),
        "depth": 2,
        "embed_dim": 64,
        "num_heads": 2,
        "num_classes": 3,
    },
    "vit_small_patch14_reg4_dinov2": {"img_size": (42, 70), "depth": 2, "num_classes": 3},
    "vit_giant_patch14_dinov2": {
        "img_size": (42, 70),
        "depth": 2,
        "embed_dim": 48,
        "num_heads": 2,
        "num_classes": 3,
    },
    "vit_small_patch16_dinov3_qkvb": {"img_size": (48, 80), "depth": 2, "num_classes": 3},
    "vit_small_plus_patch16_dinov3": {
        "img_size": (48, 80),
        "depth": 2,
        "num_classes": 0,
        "global_pool": "token",
    },
    "vit_tiny_r_s16_p8_224": {"img_size": (128, 256), "depth": 1},
    "swin_tiny_patch4_window7_224": {
        "img_size": (56, 112),
        "embed_dim": 24,
        "depths": (2, 2),
        "num_heads": (1, 2),
    },
    "resnet18": {"num_classes": 7},
    "resnetv2_50x1_bit": {"num_classes": 7, "in_chans": 1},
}


@pytest.mark.peer
@pytest.mark.parametrize("name", SAVED)
def test_what_timm_saves_for_the_hub_is_read(name: str, tmp_path: Path) -> None:
    theirs = reference(name, **SAVED[name])
    model = load_model(timm_folder(theirs, tmp_path), quiet=True)
    assert model.name == name
    assert_same_logits(model, theirs)
    images = draw_images(1, model.config.in_channels, *model.config.image_size)
    with torch.no_grad():
        states = theirs.forward_features(images)
        tokens = model.features(images).tokens
    if states.ndim == 3:  # a transformer; the others are compared where they are defined
        close(tokens, states[:, theirs.num_prefix_tokens :])
    assert model.classes == tuple(f"kind {i}" for i in range(theirs.num_classes))
    cfg = theirs.pretrained_cfg
    assert isinstance(model.preprocess, Preprocess)
    assert model.preprocess.crop_fraction == cfg["crop_pct"]
    assert model.preprocess.interpolation == cfg["interpolation"]
    if model.config.in_channels == 3:
        assert (model.preprocess.mean, model.preprocess.std) == (cfg["mean"], cfg["std"])


@pytest.mark.peer
@pytest.mark.parametrize("name", SAVED)
def test_gradients_equal_timms(name: str, tmp_path: Path) -> None:
    theirs = reference(name, **SAVED[name])
    model = load_model(timm_folder(theirs, tmp_path), quiet=True)
    images = draw_images(2, model.config.in_channels, *model.config.image_size)
    for net in (model, theirs):  # in float64, so that no ReLU decides otherwise by rounding
        net.double()(images.double()).square().sum().backward()
    state = model.state_dict(keep_vars=True)
    ours = {key: p.grad for key, p in state.items() if p.grad is not None}
    theirs_by_name = {key: p.grad for key, p in theirs.named_parameters()}
    trained = [rule for rule in rules(model.config) if rule.ours in ours]
    translated = write_by(trained, ours)  # a rule moves gradients as it moves weights
    assert translated.keys() == theirs_by_name.keys()
    scale = max(float(gradient.norm()) for gradient in theirs_by_name.values())
    for key, gradient in theirs_by_name.items():
        error = float((translated[key] - gradient).norm())
        assert error < 1e-4 * max(float(gradient.norm()), 1e-3 * scale), key


@pytest.mark.peer
@pytest.mark.parametrize(
    "name", [name for name in SAVED if "dinov3" not in name and "_gap_" not in name]
)
def test_a_bare_file_of_timms_is_read_by_its_shapes(name: str, tmp_path: Path) -> None:
    sizes = {key: value for key, value in SAVED[name].items() if key in ("num_classes", "in_chans")}
    if name.startswith(("vit", "deit")) and "_r_" not in name:
        sizes |= {"depth": 2, "img_size": 42 if "patch14" in name else 48}
    theirs = reference(name, **sizes)
    write_tensors(tmp_path / "x.safetensors", theirs.state_dict())
    model = load_model(tmp_path / "x.safetensors", quiet=True)
    assert_same_logits(model, theirs)
    assert model.loaded is not None
    assert any("does not say its preprocessing" in note for note in model.loaded.notes)
    assert any("does not name its classes" in note for note in model.loaded.notes) == (
        model.config.classes > 0
    )


def test_a_bare_dinov3_needs_its_description(tmp_path: Path) -> None:
    model = ready_model("vit-dinov3")
    save_model(model, tmp_path, format="timm")
    tensors = read_tensors(tmp_path / "model.safetensors")
    write_tensors(tmp_path / "bare.safetensors", tensors)
    with pytest.raises(WeightsError, match=r"a DINOv3 of timm's needs its config.json"):
        load_model(tmp_path / "bare.safetensors")


def test_a_number_of_heads_that_nothing_tells_is_said_to_be_assumed(tmp_path: Path) -> None:
    model = ready_model(width=128, heads=2)
    write_tensors(tmp_path / "bare.safetensors", model.state_dict())
    back = load_model(tmp_path / "bare.safetensors", trained_size=(32, 48), quiet=True)
    assert back.loaded is not None
    assert any("heads=2 (64 wide) is assumed" in note for note in back.loaded.notes)
    assert torch.equal(back(images_for(model)), model(images_for(model)))


def test_a_grid_that_is_no_square_must_be_told(tmp_path: Path) -> None:
    model = ready_model(width=128, heads=2)  # a grid of 4 x 6
    write_tensors(tmp_path / "bare.safetensors", model.state_dict())
    with pytest.raises(
        WeightsError, match=r"for 24 patches, which is no square grid; give trained"
    ):
        load_model(tmp_path / "bare.safetensors")
    with pytest.raises(WeightsError, match=r"for 24 patches; trained_size=32x32 has 16"):
        load_model(tmp_path / "bare.safetensors", trained_size=(32, 32))


def change(folder: Path, **values: Any) -> None:
    """Edit config.json, and forget what Vitrail wrote into the header of the weights."""
    about = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(about | values))
    tensors = read_tensors(folder / "model.safetensors")
    write_tensors(folder / "model.safetensors", tensors)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"architecture": "vit_bas_patch16_224"}, "is not one of Vitrail's models; did you mean"),
        ({"architecture": ["os.system"]}, "is not one of Vitrail's models"),
        ({"model_args": {"act_layer": "quick_gelu"}}, "model_args.act_layer='quick_gelu' has no"),
        ({"model_args": {"embed_dim": "x"}}, "width='x': input should be a valid integer"),
        ({"model_args": {"embed_dim": 1 << 60}}, "should be less than or equal to 65536"),
        ({"model_args": [3]}, "model_args must be"),
        ({"pretrained_cfg": 3}, "pretrained_cfg must be"),
        ({"model_args": {"num_heads": 5}}, "width=192 must be a multiple of heads=5"),
    ],
)
def test_a_wrong_description_is_refused(
    values: dict[str, Any], message: str, tmp_path: Path
) -> None:
    save_model(ready_model(), tmp_path, format="timm")
    change(tmp_path, **values)
    with pytest.raises(VitrailError, match=message) as caught:
        load_model(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "sizes", "message"),
    [
        ("vit-dinov2", {}, "timm has no model with pool=token"),
        ("resnet", {}, "timm has no model with width=8"),
        ("bit", {}, "timm has no model with"),
        ("hybrid", {}, "timm has no model of this build"),
    ],
)
def test_what_timm_lacks_is_refused(
    kind: str, sizes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=message):
        save_model(ready_model(kind, **sizes), tmp_path / "x", format="timm")
    assert not (tmp_path / "x").exists()


def test_what_timm_cannot_say_is_said(tmp_path: Path) -> None:
    notes = save_model(ready_model(norm_eps=1e-3), tmp_path, format="timm", quiet=True)
    assert notes == ("has no place for norm_eps=0.001; it computes with 1e-06",)
