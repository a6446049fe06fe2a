import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import vitrail
from tests.helpers import draw_images, images_for
from tests.weights.references import ready_model
from vitrail.data.preprocess import Preprocess
from vitrail.errors import WeightsError
from vitrail.models import Backbone
from vitrail.models.lora import add_lora, lora_layers, merge_lora
from vitrail.weights.load import load_model, save_model
from vitrail.weights.lora import base_digest, load_adapter, save_adapter
from vitrail.weights.tensors import read_metadata, read_tensors, write_tensors

KEY = "vitrail.adapter"
CLASSES = ("owl", "cat", "newt")
SIZE = (40, 24)  # the base has 32x48


@torch.no_grad()
def train_lora(base: Backbone, **sizes: Any) -> Backbone:
    """Give a base other classes, perhaps other sizes, and matrices as if it had been trained."""
    saved = base.loaded.where if base.loaded else ""
    model = load_model(saved, classes=CLASSES, head="new", quiet=True, **sizes)
    model.preprocess = Preprocess(size=model.config.image_size, mean=(0.4, 0.5, 0.6))
    add_lora(model, 2, 3.0, ("attn.qkv", "mlp.fc1"), seed=1)
    generator = torch.Generator().manual_seed(1)
    for name, each in model.named_parameters():
        if each.requires_grad:
            each += 0.3 * torch.randn(each.shape, generator=generator)
            assert name.endswith(("lora_a", "lora_b")) or name in model.head_names
    return model


@pytest.fixture(params=["vit", "vit-deit", "swin", "hybrid"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Backbone:
    return base_of(request.param, tmp_path)


def base_of(kind: str, folder: Path, seed: int = 0) -> Backbone:
    """Save a base and load it as a user does."""
    path = folder / f"{kind}-{seed}"
    save_model(ready_model(kind, seed), path, quiet=True)
    return load_model(path, quiet=True)


def test_a_base_and_an_adapter_make_the_trained_model(base: Backbone, tmp_path: Path) -> None:
    model = train_lora(base).eval()
    path = tmp_path / "adapter.safetensors"
    save_adapter(model, path, source="runs/base")
    before = {name: each.clone() for name, each in base.state_dict().items()}
    back = load_adapter(base, path)
    images = images_for(model, 1)
    merged = merge_lora(model)
    assert torch.equal(back(images), merged(images))
    torch.testing.assert_close(back(images), model(images), rtol=0, atol=1e-5)
    assert (back.classes, back.preprocess, back.config) == (CLASSES, model.preprocess, model.config)
    assert not lora_layers(back) and not back.training
    assert all(torch.equal(each, before[name]) for name, each in base.state_dict().items())
    save_model(back, tmp_path / "merged", quiet=True)  # a model as any other
    assert torch.equal(load_model(tmp_path / "merged", quiet=True)(images), back(images))


def test_the_base_may_have_its_own_image_size(tmp_path: Path) -> None:
    base = base_of("vit", tmp_path)
    model = train_lora(base, image_size=SIZE, in_channels=3).eval()
    save_adapter(model, tmp_path / "a.safetensors")
    images, merged = draw_images(2, 3, *SIZE), merge_lora(model)
    same_size = load_model(tmp_path / "vit-0", image_size=SIZE, num_classes=9, quiet=True)
    for given in (base, same_size):
        back = vitrail.load_adapter(given, tmp_path / "a.safetensors")
        assert back.config.image_size == SIZE and torch.equal(back(images), merged(images))
    moved = load_model(tmp_path / "vit-0", image_size=(64, 64), quiet=True)
    with pytest.raises(WeightsError, match=r"image_size=\(64, 64\), .* trained with \(40, 24\)"):
        load_adapter(moved, tmp_path / "a.safetensors")


def test_the_file_is_small_and_says_what_it_is(tmp_path: Path) -> None:
    base = base_of("vit", tmp_path)
    path = tmp_path / "a.safetensors"
    save_adapter(train_lora(base), path, source="hf://me/base")
    about = json.loads(read_metadata(path)[KEY])
    assert (about["rank"], about["alpha"]) == (2, 3.0)
    layers = [f"blocks.{i}.{part}" for i in (0, 1) for part in ("attn.qkv", "mlp.fc1")]
    assert about["targets"] == layers
    assert about["base"] == {"source": "hf://me/base", "sha256": base_digest(base)}
    assert about["model"]["classes"] == list(CLASSES)
    matrices = {f"{layer}.{part}" for layer in layers for part in ("lora_a", "lora_b")}
    assert set(read_tensors(path)) == matrices | {"head.weight", "head.bias"}


def test_the_digest_of_a_base_sees_what_stays_and_nothing_else(tmp_path: Path) -> None:
    base = base_of("vit", tmp_path)
    where = tmp_path / "vit-0"
    others = [
        load_model(where, image_size=SIZE, quiet=True),
        load_model(where, in_channels=1, quiet=True),
        load_model(where, num_classes=2, quiet=True),
        train_lora(base),
    ]
    assert {base_digest(each) for each in others} == {base_digest(base)}
    with torch.no_grad():
        base.blocks[1].norm2.bias[3] += 1e-6
    assert base_digest(base) != base_digest(others[0])


@pytest.mark.parametrize(
    ("kind", "seed", "match"),
    [
        ("vit", 1, r"belongs to other weights \(sha256 \w{12}…, .*\); load runs/base"),
        ("swin", 0, "belongs to a ViT, the model is a Swin; load runs/base"),
        ("vit-dinov2", 0, "belongs to other weights"),
    ],
)
def test_another_base_is_refused(kind: str, seed: int, match: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_adapter(train_lora(base_of("vit", tmp_path)), path, source="runs/base")
    with pytest.raises(WeightsError, match=match):
        load_adapter(base_of(kind, tmp_path / "other", seed), path)


def test_fewer_blocks_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_adapter(train_lora(base_of("vit", tmp_path)), path)
    with pytest.raises(WeightsError, match=r"no layer 'blocks.1.attn.qkv'; load weights that it"):
        load_adapter(ready_model("vit", depth=1), path)


Header = dict[str, Any]
Tensors = dict[str, torch.Tensor]
QKV = "blocks.0.attn.qkv.lora_b"


def nan(header: Header, tensors: Tensors) -> None:
    tensors[QKV][3, 1] = float("nan")


DAMAGE: dict[str, tuple[Callable[[Header, Tensors], object], str]] = {
    "no key": (lambda header, _: header.clear(), "its header is damaged"),
    "version": (lambda header, _: header.update(format=2), "another version"),
    "targets": (lambda header, _: header.update(targets=7), "its header is damaged"),
    "rank": (lambda header, _: header.update(rank=3), f"{QKV.replace('_b', '_a')} must be"),
    "large": (lambda header, _: header.update(rank=99), "lora.rank=99 must be at most"),
    "model": (lambda header, _: header["model"].pop("classes"), "classes must be 3 different"),
    "lacks": (lambda _, tensors: tensors.pop(QKV), f"lacks '{QKV}'"),
    "more": (lambda _, tensors: tensors.update(x=torch.ones(1)), "has an unknown 'x'"),
    "shape": (lambda _, tensors: tensors.update({QKV: torch.ones(3)}), f"{QKV} must be"),
    "nan": (nan, rf"{QKV} must be \[96, 2\], all finite"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_adapter_is_refused(case: str, tmp_path: Path) -> None:
    change, match = DAMAGE[case]
    path, base = tmp_path / "a.safetensors", base_of("vit", tmp_path)
    save_adapter(train_lora(base), path)
    header, tensors = json.loads(read_metadata(path)[KEY]), read_tensors(path)
    change(header, tensors)
    write_tensors(path, tensors, {KEY: json.dumps(header)})
    with pytest.raises(WeightsError, match=match) as caught:
        load_adapter(base, path)
    assert str(caught.value).startswith(f"{path}: ") and str(caught.value).isprintable()


def test_what_is_no_adapter_or_no_base_is_refused(tmp_path: Path) -> None:
    base, path = base_of("vit", tmp_path), tmp_path / "a.safetensors"
    with pytest.raises(WeightsError, match="has no LoRA matrices; save it by save_model"):
        save_adapter(base, path)
    with pytest.raises(WeightsError, match="no such file"):
        load_adapter(base, path)
    with pytest.raises(WeightsError, match=r"model.safetensors: not an adapter"):
        load_adapter(base, tmp_path / "vit-0" / "model.safetensors")
    model = train_lora(base)
    save_adapter(model, path)
    with pytest.raises(WeightsError, match="has LoRA matrices already"):
        load_adapter(model, path)
    with pytest.raises(WeightsError, match="only what LoRA added to other weights; load those"):
        load_model(path)
