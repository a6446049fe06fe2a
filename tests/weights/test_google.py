"""Google's `.npz` files there and back, against timm, which reads the same files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.helpers import draw_images, images_for
from tests.weights.google_models import CASES, NO_CLASS, a_model, reference
from tests.weights.references import assert_same_logits, assert_same_model, close, ready_model
from vitrail.errors import StorageError, WeightsError
from vitrail.models.resample import resample_positions
from vitrail.weights import google
from vitrail.weights.load import load_model, save_model


@pytest.mark.parametrize("case", CASES)
def test_a_round_trip_gives_every_bit_back(case: str, tmp_path: Path) -> None:
    model = a_model(case, drop_path=0.2)
    save_model(model, tmp_path / "a.npz", format="google")
    assert {path.name for path in tmp_path.iterdir()} == {"a.npz", "a.json"}
    back = load_model(tmp_path / "a.npz")
    assert_same_model(back, model)
    assert back.loaded is not None and back.loaded.format == "google" and back.loaded.as_it_was
    assert all(parameter.is_contiguous() for parameter in back.parameters())


@pytest.mark.peer
@pytest.mark.parametrize("case", CASES)
def test_timm_reads_what_is_written(case: str, tmp_path: Path) -> None:
    model = a_model(case)
    save_model(model, tmp_path / "a.npz", format="google", quiet=True)
    theirs = reference(case).eval()
    theirs.load_pretrained(str(tmp_path / "a.npz"))  # type: ignore[operator]
    assert_same_logits(model, theirs, *([(40, 56)] if case == "bit" else []))
    images = images_for(model)
    with torch.no_grad():
        states = theirs.forward_features(images)  # type: ignore[operator]
        tokens = model.features(images).tokens
    if case == "bit":
        close(tokens, states.flatten(2).mT)
    else:
        close(tokens, states[:, theirs.num_prefix_tokens :])


@pytest.mark.peer
@pytest.mark.parametrize("case", ["token", "mean", "token without position", "map", "hybrid"])
@pytest.mark.parametrize("size", [(48, 64), (64, 32)])
def test_another_size_is_as_in_googles_code(
    case: str, size: tuple[int, int], tmp_path: Path
) -> None:
    """timm resamples Google's positions in another way, so that it gets them from scipy."""
    ndimage = pytest.importorskip("scipy.ndimage")
    model = a_model(case)
    save_model(model, tmp_path / "a.npz", format="google", quiet=True)
    native = reference(case)
    native.load_pretrained(str(tmp_path / "a.npz"))  # type: ignore[operator]
    table = model.pos_embed.detach().numpy()[0]  # type: ignore[union-attr, operator]
    prefix, grid = model.config.position_prefix, model.config.grid  # type: ignore[attr-defined]
    new = (size[0] // 8, size[1] // 8)
    zoom = (new[0] / grid[0], new[1] / grid[1], 1)
    places = ndimage.zoom(table[prefix:].reshape(*grid, -1), zoom, order=1)
    places = np.concatenate([table[:prefix], places.reshape(new[0] * new[1], -1)])
    theirs = reference(case, size).eval()
    theirs.load_state_dict(native.state_dict() | {"pos_embed": torch.from_numpy(places)[None]})
    loaded = load_model(tmp_path / "a.npz", image_size=size, quiet=True)
    assert_same_logits(loaded, theirs)
    images = draw_images(2, 3, *size)
    with torch.no_grad():
        close(model(images), theirs(images))  # resampled on the way
        close(
            loaded.features(images).tokens,
            theirs.forward_features(images)[:, theirs.num_prefix_tokens :],  # type: ignore[operator]
        )


@pytest.mark.peer
@pytest.mark.parametrize("target", [(7, 9), (2, 3), (4, 11), (1, 1)])
def test_positions_are_resampled_as_scipy_does(target: tuple[int, int]) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    table = torch.randn(1, 1 + 4 * 6, 5, generator=torch.Generator().manual_seed(0))
    ours = resample_positions(table, (4, 6), target, 1, "linear")
    grid = table[0, 1:].reshape(4, 6, 5).numpy()
    expected = ndimage.zoom(grid, (target[0] / 4, target[1] / 6, 1), order=1)
    close(ours[0, 1:], torch.from_numpy(expected.reshape(-1, 5)), 1e-6)
    assert torch.equal(ours[:, :1], table[:, :1])


def test_the_description_is_there_before_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(path: Path, tensors: dict[str, Tensor]) -> None:
        assert path.with_suffix(".json").exists()
        raise StorageError(f"{path}: full")

    monkeypatch.setattr(google, "write_npz", fails)
    with pytest.raises(StorageError, match="full"):
        save_model(a_model("token"), tmp_path / "a.npz", format="google")


def test_what_the_layout_cannot_say_is_said(tmp_path: Path) -> None:
    model = ready_model("vit", norm_eps=1e-3)
    notes = save_model(model, tmp_path / "a.npz", format="google", quiet=True)
    assert "has no place for norm_eps=0.001; Google's code computes with 1e-06" in notes
    assert any("no place for position_rule=antialias" in note for note in notes)
    assert any("keep both together" in note for note in notes)


@pytest.mark.parametrize(
    ("kind", "sizes", "message"),
    [
        ("vit", {"registers": 2}, "Google's layout has no place for registers=2, only"),
        ("vit", {"mlp": "swiglu"}, "no place for mlp=swiglu"),
        ("vit", {"layer_scale": 0.1}, "no place for layer_scale=0.1"),
        ("vit", {"positions": "rotary"}, "no place for positions=rotary"),
        ("vit", {"positions": "sincos"}, "no place for positions=sincos"),
        ("vit", {"positions": "none"}, "no place for positions=none"),
        ("vit", {"distilled": True}, "no place for distilled=True"),
        ("vit", {"qk_norm": True}, "no place for qk_norm=True"),
        ("vit", {"qkv_bias": "no_key"}, "no place for qkv_bias=no_key"),
        ("vit", {"pool": "token+mean"}, r"no place for pool=token\+mean"),
        ("vit", NO_CLASS | {"norm_after_pool": True}, "no place for norm_after_pool=True"),
        ("vit", {"pool": "mean"}, "with pool=mean, has no place for class_token=True"),
        ("vit", {"pool": "map"}, "with pool=map, has no place for class_token=True"),
        ("hybrid", {}, "no place for stem.groups=4"),
        (
            "hybrid",
            {"stem": {"depths": (1,), "width": 32}, "prefix_positions": False},
            "has hybrids only with pool=mean, or token with a position",
        ),
        ("bit", {}, "no place for groups=4, only for groups=32"),
        ("swin", {}, "no place for a swin"),
        ("resnet", {}, "no place for a resnet"),
    ],
)
def test_what_google_lacks_is_refused(
    kind: str, sizes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=message):
        save_model(ready_model(kind, **sizes), tmp_path / "a.npz", format="google")
    assert list(tmp_path.iterdir()) == []


def test_another_ending_and_a_model_without_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"is a \.npz file; choose a name that ends so"):
        save_model(a_model("token"), tmp_path / "a.safetensors", format="google")
    model = a_model("token")
    model.classes = ()
    with pytest.raises(WeightsError, match=r"set model\.classes"):
        save_model(model, tmp_path / "a.npz", format="google")
    assert list(tmp_path.iterdir()) == []
