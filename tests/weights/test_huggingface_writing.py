"""Writing for transformers, and opening it there."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.helpers import draw_images, images_for
from tests.weights.references import assert_same_model, close, files, ready_model
from tests.weights.transformers_models import states_and_logits
from vitrail.data.preprocess import Preprocess
from vitrail.errors import WeightsError
from vitrail.models import Backbone
from vitrail.weights.load import load_model, save_model
from vitrail.weights.tensors import read_metadata, read_tensors

SQUARE: dict[str, Any] = {"image_size": (32, 32)}
DINOV2 = SQUARE | {"layer_scale": 0.5, "mlp_ratio": 2.0}
GATED = {"mlp": "swiglu", "mlp_ratio": 1.5}  # 48 features: 8 times 6
WINDOWS = {"window_size": (4, 4), "image_size": (40, 64)}
# case: (kind of our tiny models, sizes, class of transformers)
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "vit": ("vit", {"norm_eps": 1e-12, "qkv_bias": "none"}, "ViTForImageClassification"),
    "vit-no-prefix": ("vit", {"prefix_positions": False}, "ViTForImageClassification"),
    "vit-fixed": ("vit", {"positions": "sincos"}, "ViTForImageClassification"),
    "vit-bare": ("vit", {"classes": 0}, "ViTModel"),
    "mae": ("vit", SQUARE | {"positions": "sincos", "classes": 0}, "ViTMAEModel"),
    "deit": ("vit-deit", {}, "DeiTForImageClassificationWithTeacher"),
    "deit-no-prefix": (
        "vit-deit",
        {"prefix_positions": False},
        "DeiTForImageClassificationWithTeacher",
    ),
    "deit-register": ("vit", {"registers": 1}, "DeiTForImageClassification"),
    "deit-bare": ("vit-deit", {"classes": 0}, "DeiTModel"),
    "dinov2": ("vit", DINOV2 | {"pool": "token+mean"}, "Dinov2ForImageClassification"),
    "dinov2-token": ("vit", DINOV2 | GATED, "Dinov2ForImageClassification"),
    "dinov2-mean": ("vit", DINOV2 | {"pool": "mean"}, "Dinov2ForImageClassification"),
    "dinov2-bare": ("vit", DINOV2 | {"classes": 0}, "Dinov2Model"),
    "deit3": ("vit-deit3", SQUARE, "Dinov2ForImageClassification"),
    "registers": (
        "vit",
        DINOV2 | GATED | {"registers": 3, "prefix_positions": False, "pool": "token+mean"},
        "Dinov2WithRegistersForImageClassification",
    ),
    "dinov3": ("vit-dinov3", {"classes": 0}, "DINOv3ViTModel"),
    "dinov3-gated": (
        "vit-dinov3",
        {"classes": 0, "mlp": "swiglu", "registers": 0, "qkv_bias": "full", "rotary_base": 30.0},
        "DINOv3ViTModel",
    ),
    "dinov3-no-bias": ("vit-dinov3", {"classes": 0, "qkv_bias": "none"}, "DINOv3ViTModel"),
    "swin": ("swin", WINDOWS, "SwinForImageClassification"),
    "swin-bare": ("swin", WINDOWS | {"classes": 0}, "SwinModel"),
    "resnet": ("resnet", {}, "ResNetForImageClassification"),
    "resnet-basic": ("resnet-basic", {}, "ResNetForImageClassification"),
    "resnet-bare": ("resnet", {"classes": 0}, "ResNetModel"),
}
CLASSIFIERS = [case for case in CASES if CASES[case][2].find("ForImage") > 0]


def a_model(case: str) -> Backbone:
    """Build a small model that can be written."""
    kind, sizes, _ = CASES[case]
    return ready_model(kind, **sizes)


def opened(path: Path, case: str) -> nn.Module:
    """Open a folder in transformers, which must find every tensor and know every one."""
    transformers = pytest.importorskip("transformers")
    classifies = "ForImage" in CASES[case][2]
    auto = transformers.AutoModelForImageClassification if classifies else transformers.AutoModel
    model, info = auto.from_pretrained(path, output_loading_info=True)
    random = {name for name in info["missing_keys"] if not name.startswith("pooler.")}
    assert (random, set(info["unexpected_keys"])) == (set(), set())
    assert type(model).__name__ == CASES[case][2]
    twin: nn.Module = model.eval()
    return twin


@pytest.mark.parametrize("case", CASES)
def test_a_round_trip_gives_every_bit_back(case: str, tmp_path: Path) -> None:
    model = a_model(case)
    save_model(model, tmp_path, format="huggingface", quiet=True)
    assert files(tmp_path) == {"config.json", "preprocessor_config.json", "model.safetensors"}
    back = load_model(tmp_path, quiet=True)
    assert_same_model(back, model)
    assert back.loaded is not None and back.loaded.format == "huggingface"
    assert {row.fate for row in back.loaded.rows} <= {"loaded", "dropped"}
    assert not back.loaded.notes


@pytest.mark.peer
@pytest.mark.parametrize("case", CASES)
def test_transformers_opens_what_is_written(case: str, tmp_path: Path) -> None:
    model = a_model(case)
    save_model(model, tmp_path, format="huggingface", quiet=True)
    twin = opened(tmp_path, case)
    images = images_for(model)
    states, logits = states_and_logits(twin, images)
    with torch.no_grad():
        tokens, answer = model.features(images).tokens, model(images)
    states = states.flatten(2).mT if states.ndim == 4 else states
    close(tokens, states[:, -tokens.shape[1] :])
    if logits is not None:
        close(answer, logits)
        assert tuple(twin.config.id2label.values()) == model.classes  # type: ignore[union-attr]


@pytest.mark.peer
@pytest.mark.parametrize("case", CASES)
def test_what_transformers_saves_again_computes_the_same(case: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = a_model(case)
    save_model(model, tmp_path / "ours", format="huggingface", quiet=True)
    opened(tmp_path / "ours", case).save_pretrained(tmp_path / "again")  # type: ignore[operator]
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "ours")
    processor.save_pretrained(tmp_path / "again")
    ours = set(read_tensors(tmp_path / "ours" / "model.safetensors"))
    again = set(read_tensors(tmp_path / "again" / "model.safetensors"))
    assert {name for name in again if not name.startswith("pooler.")} == ours
    assert "vitrail" not in read_metadata(tmp_path / "again" / "model.safetensors")
    back = load_model(tmp_path / "again", quiet=True)
    images = images_for(model)
    with torch.no_grad():
        close(back.features(images).tokens, model.features(images).tokens)
        if model.config.classes:
            close(back(images), model(images))
    assert (back.classes, back.preprocess) == (model.classes, model.preprocess)


def photograph(height: int, width: int) -> Image.Image:
    """Draw a smooth colour image."""
    small = draw_images(3, 6, 8).sigmoid().mul(255).permute(1, 2, 0).numpy().astype(np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


# preprocessing: settings, and how far scores are apart for an image of another size. Vitrail cuts
# before it resizes, transformers after; with a crop that is no square it does not cut at all.
PREPROCESSES: dict[str, tuple[dict[str, Any], float]] = {
    "squash": ({"resize": "squash", "interpolation": "bilinear"}, 1e-4),
    "nearest": ({"resize": "squash", "interpolation": "nearest"}, 1e-4),
    "crop": ({"resize": "crop"}, 0.02),  # 0.0014 with 224 pixels
}


def scores_of(model: Backbone, image: Image.Image) -> torch.Tensor:
    """Give a score a class."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    assert isinstance(model.preprocess, Preprocess)
    with torch.no_grad():
        images = model.preprocess.normalise(model.preprocess.fit(pixels))[None]
        return model(images).softmax(dim=-1)[0]


@pytest.mark.peer
@pytest.mark.parametrize("case", CLASSIFIERS)
@pytest.mark.parametrize("name", PREPROCESSES)
def test_the_pipeline_gives_the_same_labels_and_scores(
    case: str, name: str, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    changes, tolerance = PREPROCESSES[name]
    model = a_model(case)
    size = model.config.image_size
    model.preprocess = Preprocess(size=size, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), **changes)
    save_model(model, tmp_path, format="huggingface", quiet=True)
    pipe = transformers.pipeline("image-classification", str(tmp_path))
    shapes = {size: 1e-4}
    if name != "crop" or size[0] == size[1]:
        shapes[90, 120] = tolerance
    for shape, apart in shapes.items():
        image = photograph(*shape)
        theirs = {each["label"]: each["score"] for each in pipe(image, top_k=5)}
        scores = scores_of(model, image)
        assert max(theirs, key=theirs.__getitem__) == model.classes[int(scores.argmax())]
        close(scores, torch.tensor([theirs[label] for label in model.classes]), apart)


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "hybrid": ("hybrid", {}, "no model with kind=hybrid; save it as vitrail"),
    "bit": ("bit", {}, "no model with kind=bit"),
    "map": ("vit-map", {}, "no model with pool=map"),
    "after": ("vit", {"pool": "mean", "norm_after_pool": True}, "norm_after_pool=True"),
    "no class": ("vit", {"pool": "mean", "class_token": False}, "class_token=False"),
    "qk norm": ("vit", {"qk_norm": True}, "qk_norm=True"),
    "nowhere": ("vit", {"positions": "none"}, "positions=none"),
    "mean": ("vit", {"pool": "mean"}, "pool=mean and no layer_scale"),
    "both": ("vit", {"pool": "token+mean"}, r"pool=token\+mean and no layer_scale"),
    "gated": ("vit", {"mlp": "swiglu"}, "mlp=swiglu and no layer_scale"),
    "no key": ("vit", {"qkv_bias": "no_key"}, "qkv_bias=no_key but rotary positions"),
    "no key 2": ("vit", DINOV2 | {"qkv_bias": "no_key"}, "qkv_bias=no_key but rotary"),
    "registers": ("vit", {"registers": 2}, "registers=2 and no layer_scale"),
    "distilled": ("vit-deit", {"registers": 1}, "registers=1 and no layer_scale"),
    "distilled 2": ("vit-deit", {"layer_scale": 0.1}, "distilled=True and layer_scale"),
    "rows": ("vit", DINOV2 | {"registers": 2}, r"in the table \(prefix_positions=True\)"),
    "wide": ("vit", DINOV2 | {"image_size": (32, 48)}, r"image_size=\(32, 48\), no square"),
    "ratio": ("vit", DINOV2 | {"mlp_ratio": 2.5}, r"mlp_ratio=2.5 \(it takes whole numbers"),
    "head": ("vit-dinov3", {}, "no model with positions=rotary and classes"),
    "unscaled": ("vit-dinov3", {"layer_scale": None}, "positions=rotary and no layer_scale"),
    "turned": (
        "vit-dinov3",
        {"distilled": True, "classes": 0},
        "positions=rotary and distilled=True",
    ),
    "window": ("swin", {}, r"window_size=\(3, 4\), no square"),
    "narrow": ("swin", WINDOWS | {"image_size": (24, 24)}, "4x4 on the 3x3 map of stage 1"),
    "one side": ("swin", WINDOWS | {"image_size": (16, 64)}, "4x4 on the 4x16 map of stage 0"),
    "eps": ("swin", WINDOWS | {"norm_eps": 1e-6}, "norm_eps=1e-06 in a Swin"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_transformers_lacks_is_refused(case: str, tmp_path: Path) -> None:
    kind, sizes, message = REFUSED[case]
    with pytest.raises(WeightsError, match=message) as caught:
        save_model(ready_model(kind, **sizes), tmp_path / "x", format="huggingface")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x").exists()


def test_a_model_that_is_not_described_is_refused(tmp_path: Path) -> None:
    model = ready_model()
    model.preprocess = None
    with pytest.raises(WeightsError, match=r"set model\.classes .* and model\.preprocess"):
        save_model(model, tmp_path / "x", format="huggingface")
    with pytest.raises(WeightsError, match="huggingface needs a folder"):
        save_model(ready_model(), tmp_path / "x.safetensors", format="huggingface")
    assert not files(tmp_path)


NOTES: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("vit", {"position_rule": "offset"}, {}, "position_rule=offset; .* computes with bicubic"),
    ("vit", {"positions": "sincos"}, {}, "fixed positions are written as a table"),
    ("vit", {"positions": "sincos", "classes": 0}, {}, "mask_ratio=0 is written"),
    ("vit", {"classes": 0}, {}, "ViTModel makes a random pooler"),
    ("vit", {"classes": 1}, {}, "a sigmoid, not a softmax"),
    ("vit", {}, {"resize": "pad"}, "do not pad to a shape"),
    ("vit", {}, {"resize": "crop"}, "do not cut out the shape of 32x48"),
    ("vit", SQUARE, {"crop_fraction": 0.9}, "resize before they cut"),
    ("vit", {"in_channels": 1}, {"channels": 1, "mean": (0.5,), "std": (0.5,)}, "give it grey"),
]


@pytest.mark.parametrize(("kind", "sizes", "changes", "note"), NOTES)
def test_what_cannot_be_said_is_noted_and_kept(
    kind: str, sizes: dict[str, Any], changes: dict[str, Any], note: str, tmp_path: Path
) -> None:
    model = ready_model(kind, **sizes | {"in_channels": 3} if not changes else sizes)
    model.preprocess = Preprocess(size=model.config.image_size, resize="squash").replace(**changes)
    notes = save_model(model, tmp_path, format="huggingface", quiet=True)
    with pytest.raises(AssertionError, match=note):
        raise AssertionError("; ".join(notes))
    assert_same_model(load_model(tmp_path, quiet=True), model)


def test_a_model_of_four_channels_has_no_image_processor(tmp_path: Path) -> None:
    model = ready_model(in_channels=4)
    model.preprocess = None
    notes = save_model(model, tmp_path, format="huggingface", quiet=True)
    assert notes[-1] == "has no image processor for 4 channels"
    assert files(tmp_path) == {"config.json", "model.safetensors"}
    assert_same_model(load_model(tmp_path, quiet=True), model)


def test_changed_files_are_noticed(tmp_path: Path) -> None:
    model = ready_model()
    save_model(model, tmp_path, format="huggingface", quiet=True)
    for name, key in (("config.json", "id2label"), ("preprocessor_config.json", "image_mean")):
        values = json.loads((tmp_path / name).read_text())
        (tmp_path / name).write_text(json.dumps(values | {key: None}))
    back = load_model(tmp_path, quiet=True)
    assert back.classes == model.classes
    assert back.loaded is not None
    assert back.loaded.notes[0].startswith("config.json and preprocessor_config.json changed since")
    (tmp_path / "config.json").unlink()
    (tmp_path / "preprocessor_config.json").unlink()
    back = load_model(tmp_path / "model.safetensors", quiet=True)  # its header says it all
    assert_same_model(back, model)
