"""What torchvision cannot hold, and wrong files of it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.weights.references import ready_model
from tests.weights.torchvision_models import VIT, a_model
from vitrail.errors import VitrailError, WeightsError
from vitrail.weights.load import load_model, save_model
from vitrail.weights.source import OWN_KEY
from vitrail.weights.tensors import read_metadata, read_tensors, write_tensors


@pytest.mark.parametrize(
    ("kind", "sizes", "message"),
    [
        ("vit", {}, "no place for image_size=32x48: its ViTs take square images"),
        ("vit", VIT | {"registers": 2}, "torchvision has no place for registers=2, only"),
        ("vit", VIT | {"mlp": "swiglu"}, "no place for mlp=swiglu"),
        ("vit", VIT | {"layer_scale": 0.1}, "no place for layer_scale=0.1"),
        ("vit", VIT | {"positions": "rotary"}, "no place for positions=rotary"),
        ("vit", VIT | {"distilled": True}, "no place for distilled=True"),
        ("vit", VIT | {"qk_norm": True}, "no place for qk_norm=True"),
        ("vit", VIT | {"qkv_bias": "none"}, "no place for qkv_bias=none"),
        ("vit", VIT | {"pool": "mean"}, "no place for pool=mean"),
        ("vit", VIT | {"norm_after_pool": True}, "no place for norm_after_pool=True"),
        ("vit", VIT | {"prefix_positions": False}, "no place for prefix_positions=False"),
        ("resnet", {}, "no place for width=8"),
        ("resnet", {"width": 64}, r"no place for depths=\(1, 2\), only for four"),
        ("bit", {}, "no place for a bit"),
        ("hybrid", {}, "no place for a hybrid"),
    ],
)
def test_what_torchvision_lacks_is_refused(
    kind: str, sizes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=message):
        save_model(ready_model(kind, **sizes), tmp_path / "a", format="torchvision")
    assert list(tmp_path.iterdir()) == []


def test_a_pickle_and_a_model_without_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"is a \.safetensors file or a folder here"):
        save_model(a_model("swin"), tmp_path / "a.pth", format="torchvision")
    model = a_model("swin")
    model.classes = ()
    with pytest.raises(WeightsError, match=r"set model\.classes"):
        save_model(model, tmp_path / "a", format="torchvision")
    assert list(tmp_path.iterdir()) == []


BLOCK = "encoder.layers.encoder_layer_0"
TABLE = "features.1.0.attn.relative_position_bias_table"
INDEX = "features.1.0.attn.relative_position_index"


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        ("vit", {"class_token": None}, "lacks 'class_token'"),
        ("vit", {"heads.head.bias": None}, "lacks 'heads.head.bias'"),
        ("vit", {"heads.pre_logits.weight": (3, 3)}, "has 'heads.pre_logits.weight', which"),
        ("vit", {"conv_proj.weight": (32, 3, 8, 4)}, "patches of 8x4 pixels"),
        ("vit", {"conv_proj.weight": (32,)}, "must have 4 axes"),
        ("vit", {"encoder.pos_embedding": (17,)}, "must have 3 axes"),
        ("vit", {"encoder.pos_embedding": (1, 18, 32)}, "for 17 patches, which is no square grid"),
        ("vit", {f"{BLOCK}.mlp.0.weight": (3,)}, "must have 2 axes"),
        ("vit", {f"{BLOCK}.ln_1.weight": (3,)}, r"blocks\.0\.norm1\.weight is \[3\]"),
        ("swin", {INDEX: None, TABLE: (15, 2)}, "has 15 relative positions, which are those of no"),
        ("swin", {TABLE: (24, 2)}, "has 24 relative positions"),
        ("swin", {INDEX: (144,)}, "has 35 relative positions"),
        ("swin", {TABLE: (35,)}, "must have 2 axes"),
        ("swin", {TABLE: None}, "lacks 'features.1.0.attn.relative_position_bias_table'"),
        ("swin", {"features.1.0.attn.logit_scale": (2, 1, 1)}, "a Swin v2, which is none"),
        ("swin", {"features.0.0.weight": (16, 3, 4, 2)}, "patches of 4x2 pixels"),
        ("swin", {"features.9.reduction.weight": (1,)}, "lacks 'features.5.0.attn.relative"),
        ("swin", {"surprise": (1,)}, "has 'surprise', which this architecture lacks"),
        ("swin", {"norm.weight": (1,)}, r"norm\.weight is \[1\]"),
    ],
)
def test_a_wrong_file_is_refused(
    case: str, changes: dict[str, tuple[int, ...] | None], message: str, tmp_path: Path
) -> None:
    save_model(a_model(case), tmp_path / "a.safetensors", format="torchvision")
    tensors = read_tensors(tmp_path / "a.safetensors")
    for name, shape in changes.items():
        tensors.pop(name, None)
        if shape is not None:
            tensors[name] = torch.ones(shape)
    write_tensors(tmp_path / "a.safetensors", tensors)
    with pytest.raises(VitrailError, match=message) as caught:
        load_model(tmp_path / "a.safetensors")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": 2}, "written by another version"),
        ({"architecture": {"kind": "bit", "classes": 5}}, "no place for a bit"),
        ({"architecture": {"kind": "swin", "width": -1}}, "width"),
        ({"architecture": {"kind": "swin", "classes": 5}}, "lacks"),
        ({"classes": 7}, "classes must be 5 different names"),
    ],
)
def test_a_wrong_description_is_refused(
    values: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    save_model(a_model("swin"), path, format="torchvision")
    about = json.loads(read_metadata(path)[OWN_KEY]) | values
    write_tensors(path, read_tensors(path), {OWN_KEY: json.dumps(about)})
    with pytest.raises(VitrailError, match=message) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
