"""Loading with other sizes and classes than the file has, and the table that says what happened."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.helpers import TINY, draw_images, images_for
from tests.weights.references import assert_same_model, ready_model
from vitrail.data.preprocess import Preprocess
from vitrail.errors import ModelError, UsageError, VitrailError, WeightsError
from vitrail.models import Backbone
from vitrail.models.loaded import LoadReport
from vitrail.models.resample import inflate_channels, resample_positions, resize_patches
from vitrail.models.vit import ViT
from vitrail.weights.load import load_model, save_model


def saved(path: Path, kind: str = "vit", **sizes: Any) -> Backbone:
    """Save a tiny model of five classes, class 0 … class 4, and give it back."""
    model = ready_model(kind, **sizes)
    save_model(model, path)
    return model


def report(model: Backbone) -> LoadReport:
    assert model.loaded is not None
    return model.loaded


def fates(model: Backbone) -> dict[str, str]:
    return {row.name: row.fate for row in report(model).rows if row.fate != "loaded"}


# --- the same model -----------------------------------------------------------


@pytest.mark.parametrize("kind", TINY)
def test_every_kind_comes_back_to_the_bit(kind: str, tmp_path: Path) -> None:
    model = saved(tmp_path, kind)
    back = load_model(tmp_path)
    assert_same_model(back, model)
    assert report(back).as_it_was and not back.training
    assert all(parameter.requires_grad for parameter in back.parameters())
    assert torch.equal(back(images_for(model)), model(images_for(model)))


def test_loading_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path)
    load_model(tmp_path)
    assert capsys.readouterr().err == f"{tmp_path} (vitrail): tensors: 32 loaded\n"
    load_model(tmp_path, image_size=(48, 32), num_classes=3)
    said = capsys.readouterr().err
    assert "tensors: 29 loaded, 1 resized, 2 new" in said
    assert "grid 4x6 to 6x4" in said and "class head: zeros" in said
    load_model(tmp_path, quiet=True)
    assert capsys.readouterr() == ("", "")


# --- the size of images -------------------------------------------------------


@pytest.mark.parametrize("size", [(48, 32), (64, 96), (8, 8), (24, 64)])
@pytest.mark.parametrize("rule", ["antialias", "bicubic", "offset", "corners", "linear"])
def test_positions_are_resampled_from_the_true_grid(
    size: tuple[int, int], rule: str, tmp_path: Path
) -> None:
    model = saved(tmp_path, position_rule=rule)  # a grid of 4 x 6
    back = load_model(tmp_path, image_size=size, quiet=True)
    assert isinstance(back, ViT) and isinstance(model, ViT)
    grid = (size[0] // 8, size[1] // 8)
    assert model.pos_embed is not None and back.pos_embed is not None
    expected = resample_positions(model.pos_embed, (4, 6), grid, 1, rule)  # type: ignore[arg-type]
    assert torch.equal(back.pos_embed, expected)
    assert fates(back) == {"pos_embed": "resized"}
    assert isinstance(back.preprocess, Preprocess) and back.preprocess.size == size
    images = draw_images(2, 3, *size)  # the same as when the model is given such images
    torch.testing.assert_close(back(images), model(images), rtol=1e-5, atol=1e-5)


def test_16_by_9_into_9_by_16_is_resampled(tmp_path: Path) -> None:
    model = saved(tmp_path, image_size=(128, 72))  # as many places, another shape
    back = load_model(tmp_path, image_size=(72, 128), quiet=True)
    assert isinstance(model, ViT) and isinstance(back, ViT)
    assert model.pos_embed is not None and back.pos_embed is not None
    assert back.pos_embed.shape == model.pos_embed.shape
    assert not torch.equal(back.pos_embed, model.pos_embed)
    assert torch.equal(back.pos_embed[:, :1], model.pos_embed[:, :1])  # the class token's row
    places = model.pos_embed[0, 1:].T.reshape(1, 32, 16, 9)
    there = F.interpolate(places, size=(9, 16), mode="bicubic", antialias=True)
    assert torch.equal(back.pos_embed[0, 1:], there[0].flatten(1).T)
    row = next(row for row in report(back).rows if row.name == "pos_embed")
    assert (row.fate, row.why) == ("resized", "grid 16x9 to 9x16")


@pytest.mark.parametrize("kind", ["vit-deit", "vit-deit3", "vit-dinov2", "vit-gap", "hybrid"])
def test_other_prefix_tokens(kind: str, tmp_path: Path) -> None:
    model = saved(tmp_path, kind)
    back = load_model(tmp_path, image_size=(64, 80), quiet=True)
    assert fates(back) == {"pos_embed": "resized"}
    images = draw_images(1, 3, 64, 80)
    torch.testing.assert_close(back(images), model(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["vit-dinov3", "vit-map", "vit-mae", "resnet", "bit", "swin"])
def test_what_has_no_table_changes_no_tensor(kind: str, tmp_path: Path) -> None:
    model = saved(tmp_path, kind)
    back = load_model(tmp_path, image_size=(64, 80), quiet=True)
    assert fates(back) == {}
    images = draw_images(1, 3, 64, 80)
    torch.testing.assert_close(back(images), model(images), rtol=1e-5, atol=1e-5)


def test_a_size_that_patches_do_not_divide_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    with pytest.raises(ModelError, match=r"image_size=30x48 must be a multiple of patch_size=8"):
        load_model(tmp_path, image_size=(30, 48))


# --- patches, windows, channels -----------------------------------------------


def test_patches_of_another_size(tmp_path: Path) -> None:
    model = saved(tmp_path)
    back = load_model(tmp_path, patch_size=16, image_size=(64, 96), quiet=True)
    assert fates(back) == {"patch_embed.proj.weight": "resized"}  # the grid is the same
    assert isinstance(model, ViT) and isinstance(back, ViT)
    kernel = model.patch_embed.proj.weight
    assert torch.equal(back.patch_embed.proj.weight, resize_patches(kernel, (16, 16)))
    images = draw_images(2, 3, 32, 48)  # each patch, enlarged by itself, gives the same token
    patches = images.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5)  # b r c 3 8 8
    grown = F.interpolate(patches.flatten(0, 2), size=(16, 16), mode="bilinear")
    grown = grown.unflatten(0, (2, 4, 6)).permute(0, 3, 1, 4, 2, 5).reshape(2, 3, 64, 96)
    torch.testing.assert_close(back(grown), model(images), rtol=1e-4, atol=1e-4)


def test_windows_of_another_size(tmp_path: Path) -> None:
    model = saved(tmp_path, "swin")
    back = load_model(tmp_path, window_size=(4, 6), quiet=True)
    tables = [name for name in model.state_dict() if name.endswith("relative_position_bias_table")]
    assert fates(back) == dict.fromkeys(tables, "resized")
    assert back(images_for(back)).isfinite().all()


@pytest.mark.parametrize("kind", ["vit", "swin", "resnet", "bit", "hybrid", "hybrid-root"])
@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_images_of_other_channels(kind: str, channels: int, tmp_path: Path) -> None:
    model = saved(tmp_path, kind)
    back = load_model(tmp_path, in_channels=channels, quiet=True)
    assert fates(back) == {model.stem_weight: "resized"}
    stem = model.state_dict()[model.stem_weight]
    assert torch.equal(back.state_dict()[back.stem_weight], inflate_channels(stem, channels))
    grey = draw_images(2, 1, *model.config.image_size)
    if kind != "bit" and not kind.startswith("hybrid"):  # whose stems are standardised
        same = model(grey.expand(-1, 3, -1, -1))
        spread = grey.expand(-1, channels, -1, -1)
        torch.testing.assert_close(back(spread), same, rtol=1e-4, atol=1e-4)
    if channels == 1:
        assert isinstance(back.preprocess, Preprocess)
        assert back.preprocess.mean == (pytest.approx(0.2),) and back.preprocess.channels == 1
    else:
        assert back.preprocess is None
        assert any(f"no preprocessing for {channels} channels" in n for n in report(back).notes)


# --- classes ------------------------------------------------------------------


@pytest.mark.parametrize("kind", TINY)
def test_named_classes_are_cut_out(kind: str, tmp_path: Path) -> None:
    model = saved(tmp_path, kind)
    back = load_model(tmp_path, classes=["class 3", "class 0"], quiet=True)
    assert back.classes == ("class 3", "class 0") and back.config.classes == 2
    torch.testing.assert_close(back(images_for(model)), model(images_for(model))[:, [3, 0]])
    assert fates(back) == dict.fromkeys(model.head_names, "cut")


def test_all_classes_in_another_order(tmp_path: Path) -> None:
    model = saved(tmp_path)
    back = load_model(tmp_path, classes=model.classes[::-1], quiet=True)
    torch.testing.assert_close(back(images_for(model)), model(images_for(model)).flip(1))
    assert fates(back) == {"head.weight": "cut", "head.bias": "cut"}
    assert fates(load_model(tmp_path, classes=model.classes, quiet=True)) == {}


@pytest.mark.parametrize("kind", TINY)
def test_a_new_head_is_zero(kind: str, tmp_path: Path) -> None:
    model = saved(tmp_path, kind)
    back = load_model(tmp_path, num_classes=3, quiet=True)
    assert torch.equal(back(images_for(model)), torch.zeros(2, 3))
    assert back.classes == ("0", "1", "2")
    assert fates(back) == dict.fromkeys(model.head_names, "new")
    pooled = model.features(images_for(model)).pooled
    assert torch.equal(back.features(images_for(model)).pooled, pooled)


def test_a_head_of_as_many_classes_is_kept_unless_a_new_one_is_asked_for(tmp_path: Path) -> None:
    model = saved(tmp_path)
    assert fates(load_model(tmp_path, num_classes=5, quiet=True)) == {}
    back = load_model(tmp_path, num_classes=5, head="new", quiet=True)
    assert fates(back) == {"head.weight": "new", "head.bias": "new"}
    assert back.classes != model.classes
    named = load_model(tmp_path, classes=["x", "y"], head="new", quiet=True)
    assert named.classes == ("x", "y") and not named(images_for(model)).any()


def test_without_a_head(tmp_path: Path) -> None:
    model = saved(tmp_path)
    back = load_model(tmp_path, num_classes=0, quiet=True)
    assert back.classes == () and set(model.head_names).isdisjoint(back.state_dict())
    assert torch.equal(back(images_for(model)), model.features(images_for(model)).pooled)
    head = [row.fate for row in report(back).rows if row.name in model.head_names]
    assert head == ["dropped", "dropped"]
    save_model(back, tmp_path / "headless")
    again = load_model(tmp_path / "headless", num_classes=2, quiet=True)
    assert fates(again) == {"head.weight": "new", "head.bias": "new"}


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"classes": ["class 9"]}, r"class 'class 9' is not one of its 5 classes; did you mean"),
        ({"classes": ["class 1", "class 1"]}, "classes must be different names"),
        ({"classes": ["class 1"], "num_classes": 2}, "classes must be different names, as many"),
        ({"num_classes": 3, "head": "keep"}, r"has 5 classes, not num_classes=3; leave"),
        ({"head": "new"}, "head=new needs num_classes or classes"),
        ({"num_classes": -1}, "num_classes=-1 must be from 0 to 10000000"),
        ({"positions": "none"}, "has 'pos_embed', which the wanted model lacks"),
        ({"width": 64}, r"cls_token is \[1, 1, 32\], the model has \[1, 1, 64\]"),
        ({"depth": 3}, r"lacks 'blocks.2.norm1.weight', which the wanted model has"),
        ({"registers": 2}, r"lacks 'reg_token', which the wanted model has"),
        ({"depth": 10**6}, "depth=1000000: input should be less than or equal to 1000"),
        ({"image_size": (10**9, 10**9)}, "should be less than or equal to 65536"),
        ({"num_classes": 10**12}, "num_classes=1000000000000 must be from 0 to 10000000"),
        ({"depht": 3}, "depht: unknown setting; did you mean 'depth'"),
        ({"kind": "swin"}, "kind='swin'"),
    ],
)
def test_what_cannot_be_is_refused(wanted: dict[str, Any], message: str, tmp_path: Path) -> None:
    saved(tmp_path)
    with pytest.raises(VitrailError, match=message) as caught:
        load_model(tmp_path, **wanted)
    assert str(caught.value).startswith(str(tmp_path)) and "\n" not in str(caught.value)


# --- saving -------------------------------------------------------------------


def test_a_format_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"format='timmm' is not a format; .* did you mean"):
        save_model(ready_model(), tmp_path / "x", format="timmm")


def test_unknown_tensors_are_refused_with_what_is_known(tmp_path: Path) -> None:
    from vitrail.weights.tensors import write_tensors

    write_tensors(tmp_path / "x.safetensors", {"a.b": torch.zeros(2), "c": torch.zeros(1)})
    with pytest.raises(WeightsError, match=r"these 2 tensors are of no known format .*: a.b, c"):
        load_model(tmp_path / "x.safetensors")


def test_a_file_of_half_precision_is_widened(tmp_path: Path) -> None:
    from vitrail.weights.tensors import read_tensors, write_tensors

    model = saved(tmp_path)
    half = {n: t.bfloat16() for n, t in read_tensors(tmp_path / "model.safetensors").items()}
    write_tensors(tmp_path / "model.safetensors", half)
    back = load_model(tmp_path, quiet=True)
    assert {parameter.dtype for parameter in back.parameters()} == {torch.float32}
    assert {row.why for row in report(back).rows} == {"from bfloat16"}
    assert (back(images_for(model)) - model(images_for(model))).abs().max() < 0.1
