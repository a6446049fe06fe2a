"""Google's `.npz` files without our description, in every layout, and wrong ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.helpers import images_for
from tests.weights.google_models import CASES, SIZE, a_model, bare
from tests.weights.references import prepared
from vitrail.errors import VitrailError
from vitrail.models import create_model
from vitrail.weights.load import load_model, save_model
from vitrail.weights.npz import write_npz


@pytest.mark.parametrize("case", CASES)
def test_a_file_alone_is_read_by_its_shapes(case: str, tmp_path: Path) -> None:
    model = a_model(case)
    bare(model, tmp_path / "a.npz")
    back = load_model(tmp_path / "a.npz", trained_size=SIZE, quiet=True)
    assert back.config == model.config
    assert torch.equal(back(images_for(model)), model(images_for(model)))
    assert back.loaded is not None
    notes = " ".join(back.loaded.notes)
    assert "the whole image resized, bilinear" in notes
    assert ("does not name its classes" in notes) == (model.config.classes > 0)
    assert ("approximates GELU by tanh" in notes) == (case != "bit")
    contract = dict(back.preprocess or {})
    assert (contract["resize"], contract["interpolation"]) == ("squash", "bilinear")
    assert set(contract["mean"]) == set(contract["std"]) == {0.5}


def test_a_square_grid_is_assumed_and_said(tmp_path: Path) -> None:
    bare(a_model("token", image_size=(40, 40)), tmp_path / "a.npz")
    back = load_model(tmp_path / "a.npz", quiet=True)
    assert back.config.image_size == (40, 40)
    assert back.loaded is not None
    assert any("grid of patches; 5x5 (square) is assumed" in note for note in back.loaded.notes)
    bare(a_model("bit"), tmp_path / "b.npz")
    bit = load_model(tmp_path / "b.npz", quiet=True)
    assert bit.loaded is not None
    assert any("image size; 224x224 is assumed" in note for note in bit.loaded.notes)


def test_a_model_that_has_a_name_gets_it(tmp_path: Path) -> None:
    model = create_model("vit_tiny_patch16_384", num_classes=0)
    bare(prepared(model), tmp_path / "a.npz")
    back = load_model(tmp_path / "a.npz", quiet=True)
    assert back.name == "vit_tiny_patch16_384"
    assert back.config == model.config.replace(position_rule="linear")


def moved(tensors: dict[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    """Change the beginning of every name."""
    assert all(name.startswith(old) for name in tensors)
    return {new + name.removeprefix(old): tensor for name, tensor in tensors.items()}


def as_in_training(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Write as flax's optimiser does."""
    extra = {"opt/state/step": torch.tensor(7), "opt/state/param_states/cls/m": torch.zeros(3)}
    return moved(tensors, "", "opt/target/") | extra


def as_in_two_towers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Write as SigLIP."""
    text = {f"params/{name}": torch.zeros(1) for name in ("t", "b", "txt/Embed_0/embedding")}
    return moved(tensors, "params/", "params/img/") | text


def scanned(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Stack the blocks, as big_vision does when it scans."""
    result = {name: tensor for name, tensor in tensors.items() if "encoderblock_" not in name}
    for name, tensor in tensors.items():
        if "encoderblock_0" in name:
            parts = torch.stack([tensor, tensors[name.replace("block_0", "block_1")]])
            result[name.replace("encoderblock_0", "encoderblock")] = parts
    return result


def linen(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Number the parts of a block as newer versions of flax do."""
    new = {"Attention_1": "Attention_0", "MlpBlock_3": "MlpBlock_0", "LayerNorm_2": "LayerNorm_1"}
    result = {}
    for name, tensor in tensors.items():
        for one, other in new.items():
            name = name.replace(one, other)
        result[name] = tensor
    return result


def before_2022(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Call the positions as big_vision did; the class token had one."""
    old = "Transformer/posembed_input/pos_embedding"
    table = {"Transformer/pos_embedding": tensors[old]}
    return {name: tensor for name, tensor in tensors.items() if name != old} | table


def old_norms(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Write group norms as flax did before 0.3.6."""
    return {
        name: tensor.reshape(1, 1, 1, -1) if "gn" in name.split("/")[-2] else tensor
        for name, tensor in ((f"/{name}", tensor) for name, tensor in tensors.items())
    }


VARIANTS = {
    "training": ("token", as_in_training),
    "two towers": ("map", as_in_two_towers),
    "scanned": ("map", scanned),
    "scanned, old names": ("token", scanned),
    "linen": ("token", linen),
    "before 2022": ("token", lambda tensors: linen(before_2022(tensors))),
    "old group norms": ("hybrid", lambda tensors: moved(old_norms(tensors), "/", "")),
    "other optimiser": ("map", lambda tensors: tensors | {"opt/0/mu/cls": torch.zeros(1)}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_other_layouts_of_googles_are_read(variant: str, tmp_path: Path) -> None:
    case, change = VARIANTS[variant]
    model = a_model(case)
    tensors = change(bare(model, tmp_path / "a.npz"))
    write_npz(tmp_path / "a.npz", tensors)
    back = load_model(tmp_path / "a.npz", trained_size=SIZE, quiet=True)
    assert back.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name
    assert back.loaded is not None
    whys = {row.why for row in back.loaded.of("dropped")}
    assert whys <= {"the optimiser's", "of the text tower"}
    assert bool(whys) == (variant in ("training", "two towers", "other optimiser"))


def test_half_precision_is_read(tmp_path: Path) -> None:
    tensors = bare(a_model("token"), tmp_path / "a.npz")
    raw = {name: tensor.bfloat16().view(torch.int16).numpy() for name, tensor in tensors.items()}
    np.savez(tmp_path / "a.npz", **{name: array.view("V2") for name, array in raw.items()})
    back = load_model(tmp_path / "a.npz", trained_size=SIZE, quiet=True)
    expected = tensors["embedding/bias"].bfloat16().float()
    assert torch.equal(back.state_dict()["patch_embed.proj.bias"], expected)


def test_a_head_behind_pre_logits_is_left_out(tmp_path: Path) -> None:
    model = a_model("token")
    tensors = bare(model, tmp_path / "a.npz")
    extra = {"pre_logits/kernel": torch.ones(32, 32), "pre_logits/bias": torch.ones(32)}
    write_npz(tmp_path / "a.npz", tensors | extra)
    back = load_model(tmp_path / "a.npz", trained_size=SIZE, quiet=True)
    assert back.config.classes == 0
    images = images_for(model)
    assert torch.equal(back(images), model.features(images).pooled)
    assert back.loaded is not None
    assert {row.name for row in back.loaded.of("dropped")} == {*extra, "head/kernel", "head/bias"}
    assert any("its head stands behind pre_logits" in note for note in back.loaded.notes)
    again = load_model(tmp_path / "a.npz", trained_size=SIZE, num_classes=3, quiet=True)
    assert again(images).shape == (2, 3)


QUERY = "Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel"


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        ("token", {"cls": None}, r"24 patches; trained|25 patches; trained_size=32x48 has 24"),
        ("token", {"head/bias": None}, "lacks 'head/bias'"),
        ("token", {"head/kernel": None}, "has 'head/bias', which this architecture lacks"),
        ("token", {"surprise": (3,)}, "has 'surprise', which this architecture lacks"),
        ("token", {"embedding/kernel": (8, 4, 3, 32)}, "patches of 8x4 pixels"),
        ("token", {"embedding/kernel": (8, 3, 32)}, r"embedding/kernel is \[8, 3, 32\]; it must"),
        ("token", {"embedding/kernel": (8, 8, 3, 0)}, "must have 4 axes, none empty"),
        ("token", {"embedding/kernel": (8, 8, 3, 31)}, "width=31 must be a multiple of heads=2"),
        ("token", {QUERY: (32, 32)}, "query/kernel is .* must have 3 axes"),
        ("token", {QUERY: (32, 4, 8)}, r"encoderblock_0/.*the other tensors ask for"),
        ("token", {QUERY: None}, "lacks 'Transformer/encoderblock_0/Multi.*_1/query/kernel'"),
        ("token", {"cls": (1, 32)}, r"cls is \[1, 32\]; the other tensors ask for \[1, 1, 32\]"),
        ("token", {"Transformer/posembed_input/pos_embedding": None}, "has no table of positions"),
        ("token", {"Transformer/posembed_input/pos_embedding": (25,)}, "must have 3 axes"),
        ("token", {"Transformer/encoderblock_5/x": (1,)}, "lacks 'Transformer/encoderblock_2"),
        ("token", {"Transformer/encoderblock/x": ()}, "has 'Transformer/encoderblock/x'"),
        ("map", {"params/cls": (1, 1, 32)}, "has 'params/cls'"),
        ("hybrid", {"conv_root/kernel": (7, 7, 3, 8)}, "width=8 must be a multiple of groups=32"),
        ("hybrid", {"block3/unit1/conv1/kernel": (1,)}, "patches; trained_size=32x48"),
        ("bit", {"resnet/group_norm/gamma": (3,)}, "gamma is .* the other tensors ask for"),
        ("bit", {"resnet/block4/unit01/x": (3,)}, r"depths\.2=0: input should be"),
    ],
)
def test_a_wrong_file_is_refused(
    case: str, changes: dict[str, tuple[int, ...] | None], message: str, tmp_path: Path
) -> None:
    tensors = bare(a_model(case), tmp_path / "a.npz")
    for name, shape in changes.items():
        tensors.pop(name, None)
        if shape is not None:
            tensors[name] = torch.ones(shape)
    write_npz(tmp_path / "a.npz", tensors)
    with pytest.raises(VitrailError, match=message) as caught:
        load_model(tmp_path / "a.npz", trained_size=SIZE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "must hold a JSON object"),
        ({"format": 9}, "written by another version"),
        ({"architecture": {"kind": "os"}}, "architecture kind 'os' is not one of"),
        ({"architecture": {"kind": "swin", "classes": 5}}, "has no place for a swin"),
        ({"architecture": {"kind": "vit", "width": "x"}}, "width"),
        ({"architecture": {"kind": "vit", "classes": 5}}, "is .*the other tensors ask for"),
        ({"classes": ["a"]}, "classes must be 5 different names"),
    ],
)
def test_a_wrong_description_is_refused(values: Any, message: str, tmp_path: Path) -> None:
    save_model(a_model("token"), tmp_path / "a.npz", format="google")
    side = tmp_path / "a.json"
    whole = values if isinstance(values, str) else json.dumps(json.loads(side.read_text()) | values)
    side.write_text(whole)
    with pytest.raises(VitrailError, match=message) as caught:
        load_model(tmp_path / "a.npz")
    assert "\n" not in str(caught.value)
