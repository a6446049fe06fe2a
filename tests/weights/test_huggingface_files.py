"""Values from strangers in `config.json` and `preprocessor_config.json`."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.weights.references import ready_model
from vitrail.data.preprocess import Preprocess
from vitrail.errors import VitrailError
from vitrail.models import Backbone
from vitrail.weights.load import load_model, save_model
from vitrail.weights.tensors import read_tensors, write_tensors

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("vit", {}),
    "deit": ("vit-deit", {}),
    "dinov2": ("vit-deit3", {"image_size": (32, 32)}),
    "dinov3": ("vit-dinov3", {"classes": 0}),
    "swin": ("swin", {"window_size": (4, 4), "image_size": (40, 64)}),
    "resnet": ("resnet", {}),
    "resnet-basic": ("resnet-basic", {}),
}


def folder(path: Path, kind: str = "vit", **values: Any) -> Path:
    """Write a folder that knows nothing of Vitrail, with some changes of its config.json."""
    name, sizes = KINDS[kind]
    save_model(ready_model(name, **sizes), path, format="huggingface", quiet=True)
    about = json.loads((path / "config.json").read_text()) | values
    kept = {key: value for key, value in about.items() if value != "absent"}
    (path / "config.json").write_text(json.dumps(kept))
    (path / "preprocessor_config.json").unlink()
    write_tensors(path / "model.safetensors", read_tensors(path / "model.safetensors"))
    return path


def notes_of(model: Backbone) -> str:
    """Join what the load had to say."""
    assert model.loaded is not None
    return "; ".join(model.loaded.notes)


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("vit", {"model_type": "beit"}, "model_type='beit' is not one of vit, deit, .*did you mean"),
    ("vit", {"model_type": ["vit"]}, r"model_type=\['vit'\] is not one of"),
    ("vit", {"model_type": "absent"}, "model_type=None is not one of"),
    ("vit", {"quantization_config": {"bits": 4}}, "quantised weights"),
    ("vit", {"hidden_size": "x"}, "hidden_size='x' must be a whole number from 1 to 65536"),
    ("vit", {"hidden_size": [32]}, r"hidden_size=\[32\] must be"),
    ("vit", {"hidden_size": -1}, "hidden_size=-1 must be"),
    ("vit", {"hidden_size": True}, "hidden_size=True must be"),
    ("vit", {"hidden_size": 1 << 60}, "hidden_size=1152921504606846976 must be"),
    ("vit", {"hidden_size": "absent"}, "lacks 'hidden_size'"),
    ("vit", {"hidden_size": None}, "lacks 'hidden_size'"),
    ("vit", {"hidden_size": list(range(999))}, r"hidden_size=\[0, 1, 2.{50,70}… must be"),
    ("vit", {"num_hidden_layers": 65536}, "depth=65536: input should be less than or equal to"),
    ("vit", {"num_hidden_layers": 1000}, "too few for the 1000 blocks"),
    ("vit", {"num_hidden_layers": 3}, r"lacks 'encoder\.layer\.2\."),
    ("vit", {"num_hidden_layers": 1}, r"has 'encoder\.layer\.1\..* which this architecture lacks"),
    ("vit", {"num_attention_heads": 5}, "width=32 must be a multiple of heads=5"),
    ("vit", {"num_attention_heads": 0}, "num_attention_heads=0 must be"),
    ("vit", {"image_size": [32]}, r"image_size=\[32\] must be one or two whole"),
    ("vit", {"image_size": {"height": 3}}, "image_size={'height': 3} must be one or two whole"),
    ("vit", {"image_size": [32, 40]}, r"pos_embed|32x40|is \["),
    ("vit", {"patch_size": [8, 4]}, r"patch_size=\[8, 4\] must be the same in height and width"),
    (
        "vit",
        {"intermediate_size": 64},
        r"mlp\.fc1\.weight is \[128, 32\], the model has \[64, 32\]",
    ),
    ("vit", {"layer_norm_eps": float("nan")}, "layer_norm_eps=nan must be a number above 0"),
    ("vit", {"layer_norm_eps": 10**400}, "layer_norm_eps=1000.* must be a number above 0"),
    ("vit", {"layer_norm_eps": "1e-6"}, "layer_norm_eps='1e-6' must be a number"),
    ("vit", {"hidden_act": "gelu_new"}, "hidden_act='gelu_new' must be 'gelu': Vitrail's models"),
    ("vit", {"hidden_act": {}}, "hidden_act={} must be 'gelu'"),
    ("vit", {"head_dim": 8}, "head_dim=8 must be 16"),
    ("vit", {"pruned_heads": {"0": [1]}}, "pruned_heads"),
    ("vit", {"qkv_bias": "no"}, "qkv_bias='no' must be true or false"),
    ("vit", {"qkv_bias": False}, r"has 'encoder\.layer\.0\.attention\.attention\.key\.bias'"),
    ("dinov2", {"mlp_ratio": 1e12}, "mlp_ratio=1000000000000.0 must be a number above 0 to 65536"),
    ("dinov2", {"mlp_ratio": 60000}, "mlp_ratio=60000 must be such that the MLP has a width"),
    ("dinov2", {"mlp_ratio": 1e-9}, "mlp_ratio=1e-09 must be such that the MLP has a width"),
    ("vit", {"patch_size": 65536}, "patch_size=65536 must be the same .*, at most 4096"),
    ("vit", {"num_channels": 65536}, "num_channels=65536 must be a whole number from 1 to 1024"),
    ("swin", {"mlp_ratio": 1e-9}, "mlp_ratio=1e-09 must be such that the MLP has a width"),
    ("swin", {"embed_dim": 65536}, "embed_dim=65536 must be less: the last stage would exceed"),
    ("dinov2", {"layerscale_value": 0}, "layerscale_value=0 must be a number above 0"),
    ("dinov2", {"use_swiglu_ffn": True}, "lacks 'encoder.layer.0.mlp.weights_in.bias'"),
    ("dinov3", {"mlp_bias": False}, "mlp_bias=False must be True"),
    ("dinov3", {"query_bias": False}, "query_bias=False, key_bias=False, value_bias=True: must be"),
    ("dinov3", {"use_gated_mlp": True}, "hidden_act='gelu' must be 'silu'"),
    ("dinov3", {"num_register_tokens": -1}, "num_register_tokens=-1 must be a whole number from 0"),
    ("swin", {"use_absolute_embeddings": True}, "use_absolute_embeddings=True must be False"),
    ("swin", {"layer_norm_eps": 1e-6}, "layer_norm_eps=1e-06 must be 1e-05"),
    ("swin", {"qkv_bias": False}, "qkv_bias=False must be True"),
    ("swin", {"depths": [2] * 17}, "depths=.* must be 1 to 16 whole numbers"),
    ("swin", {"depths": [2, "2"]}, "depths=.* must be 1 to 16 whole numbers"),
    ("swin", {"depths": [1000, 2]}, "too few for the 1002 blocks"),
    ("swin", {"num_heads": [2]}, "must have one number a stage each"),
    ("swin", {"drop_path_rate": 2}, "drop_path=2.0"),
    ("resnet", {"hidden_act": "gelu"}, "hidden_act='gelu' must be 'relu'"),
    ("resnet", {"downsample_in_bottleneck": True}, "downsample_in_bottleneck=True must be False"),
    ("resnet", {"downsample_in_first_stage": True}, "downsample_in_first_stage=True must be"),
    ("resnet", {"layer_type": ["basic"]}, "layer_type=.* must be basic or bottleneck"),
    ("resnet", {"hidden_sizes": [32, 48]}, r"hidden_sizes=\(32, 48\) must be \(32, 64\) here"),
    ("resnet-basic", {"layer_type": "bottleneck"}, "hidden_sizes="),
]


@pytest.mark.parametrize(("kind", "values", "message"), WRONG)
def test_a_wrong_config_is_refused_in_one_line(
    kind: str, values: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(VitrailError, match=message) as caught:
        load_model(folder(tmp_path, kind, **values), quiet=True)
    assert "\n" not in str(caught.value)


def test_what_changes_nothing_is_passed_over(tmp_path: Path) -> None:
    values = {"hidden_dropout_prob": 0.1, "pooler_act": "x", "transformers_version": 7, "dtype": 1}
    assert load_model(folder(tmp_path, **values), quiet=True).config.classes == 5
    assert load_model(folder(tmp_path / "r", "resnet-basic", downsample_in_bottleneck=True))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("encoder.layer.0.attention.attention.key.weight", (32, 31), "have impossible shapes"),
        ("encoder.layer.0.attention.attention.key.weight", (), "have impossible shapes"),
        ("encoder.layer.0.attention.attention.key.weight", (31, 32), r"is \[95, 32\], the model"),
        ("embeddings.position_embeddings", (25,), r"pos_embed is \[25\]"),
        ("classifier.weight", (), "the class head is no matrix"),
        ("classifier.weight", (5, 31), r"head\.weight is \[5, 31\]"),
        ("encoder.layer.0.bonus", (1,), "'encoder.layer.0.bonus', which this architecture lacks"),
        ("vit.classifier.weight", (5, 32), "has both"),
    ],
)
def test_impossible_tensors_are_refused(
    name: str, shape: tuple[int, ...], message: str, tmp_path: Path
) -> None:
    weights = folder(tmp_path) / "model.safetensors"
    tensors = read_tensors(weights)
    full = f"vit.{name}" if name.startswith("e") else name
    write_tensors(weights, tensors | {full: torch.zeros(shape)})
    with pytest.raises(VitrailError, match=message) as caught:
        load_model(tmp_path, quiet=True)
    assert "\n" not in str(caught.value)


def test_a_class_row_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    sizes = {"registers": 1, "prefix_positions": False, "image_size": (32, 32), "layer_scale": 1.0}
    save_model(ready_model(**sizes), tmp_path, format="huggingface", quiet=True)
    weights = tmp_path / "model.safetensors"
    tensors = read_tensors(weights)
    name = next(name for name in tensors if name.endswith("position_embeddings"))
    for shape in ((17,), (1, 0, 32), (1, 17, 31)):
        write_tensors(weights, tensors | {name: torch.zeros(shape)})
        with pytest.raises(VitrailError, match=r"pos_embed(: | is \[)"):
            load_model(tmp_path, quiet=True)


def test_a_file_without_its_config_needs_it(tmp_path: Path) -> None:
    with pytest.raises(VitrailError, match=r"needs its config\.json; give the folder that holds"):
        load_model(folder(tmp_path) / "model.safetensors", quiet=True)


HALF, IMAGENET = (0.5, 0.5, 0.5), (0.485, 0.456, 0.406)
VIT, BIT = (
    {"image_processor_type": "ViTImageProcessor"},
    {"image_processor_type": "BitImageProcessor"},
)
OLD, FAST = {"feature_extractor_type": "DeiTFeatureExtractor"}, "DINOv3ViTImageProcessorFast"
NEXT = {"image_processor_type": "ConvNextImageProcessor"}
# What the file says, what becomes of it, and a note. Images are 32 x 48.
READ: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (VIT | {"size": {"height": 32, "width": 48}}, {"resize": "squash", "mean": HALF}, ""),
    (VIT | {"size": 224, "resample": 3}, {"interpolation": "bicubic"}, "makes images of 224x224"),
    ({"size": 32, "do_normalize": False}, {"mean": (0.0,) * 3, "std": (1.0,) * 3}, ""),
    ({"image_processor_type": FAST}, {"resize": "squash", "mean": IMAGENET}, "of 224x224"),
    (OLD, {"resize": "squash", "crop_fraction": 224 / 256, "interpolation": "bicubic"}, "of 224x"),
    (OLD | {"do_center_crop": False, "size": 40}, {"crop_fraction": 1.0}, "makes images of 40x40"),
    (BIT | {"size": 256}, {"resize": "crop", "crop_fraction": 0.875}, "of 224x224"),
    (BIT | {"size": {"shortest_edge": 64}, "crop_size": 32}, {"crop_fraction": 0.5}, "of 32x32"),
    (
        BIT | {"size": {"shortest_edge": 64}, "crop_size": {"height": 32, "width": 48}},
        {"crop_fraction": 0.5},
        "a crop of 32x48 that is no square",
    ),
    (BIT | {"do_center_crop": False}, {"resize": "crop", "crop_fraction": 1.0}, "the middle is"),
    (NEXT | {"size": 224, "crop_pct": 0.9}, {"resize": "crop", "crop_fraction": 0.9}, "of 224x224"),
    (NEXT | {"size": {"shortest_edge": 384}}, {"resize": "squash", "crop_fraction": 1.0}, "of 384"),
    (VIT | {"image_mean": 0.25, "image_std": [0.5, 0.25, 1]}, {"std": (0.5, 0.25, 1.0)}, ""),
    (VIT | {"do_rescale": False, "image_mean": 51, "image_std": 102}, {"mean": (0.2,) * 3}, ""),
    (VIT | {"rescale_factor": 2 / 255}, {"mean": (0.25,) * 3, "std": (0.25,) * 3}, ""),
    (VIT | {"resample": 1}, {"interpolation": "bicubic"}, "no filter resample=1; bicubic is taken"),
    (VIT | {"resample": 0}, {"interpolation": "nearest"}, ""),
    ({"image_processor_type": "BeitImageProcessor"}, {}, "image processor 'Beit' is not known"),
    ({"image_processor_type": 7, "size": 32}, {"resize": "squash"}, "of 32x32"),
]


@pytest.mark.parametrize(("values", "expected", "note"), READ)
def test_an_image_processor_is_read(
    values: dict[str, Any], expected: dict[str, Any], note: str, tmp_path: Path
) -> None:
    folder(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
    model = load_model(tmp_path, quiet=True)
    assert isinstance(model.preprocess, Preprocess)
    assert model.preprocess.size == (32, 48)
    for key, value in expected.items():
        given = getattr(model.preprocess, key)
        assert given == (value if isinstance(value, str) else pytest.approx(value)), key
    assert note in notes_of(model)


UNREADABLE: list[tuple[dict[str, Any], str]] = [
    ({"do_resize": False}, "do_resize=False must be True"),
    ({"do_pad": True}, "do_pad=True must be False"),
    ({"rescale_offset": True}, "rescale_offset=True must be False"),
    ({"resample": 9}, "resample=9 must be one of 0, 1, 2"),
    ({"resample": "bicubic"}, "resample='bicubic' must be one of"),
    ({"size": "x"}, "size='x' must be a number or an object"),
    ({"size": {"height": 32}}, "size: lacks 'width'"),
    ({"size": {"shortest_edge": 8, "longest_edge": 9}}, "longest_edge: images of many sizes"),
    ({"size": 32, "do_center_crop": True, "crop_size": 40}, "crop_fraction"),
    ({"size": 64, "do_center_crop": True, "crop_size": {"height": 32, "width": 48}}, "proportion"),
    ({"do_center_crop": True, "crop_size": [3]}, r"crop_size=\[3\] must be a number or an object"),
    ({"image_mean": [0.5]}, r"image_mean=\[0.5\] must be 3 numbers"),
    ({"image_mean": [0.5, "x", 1]}, "image_mean=.* must be 3 numbers"),
    ({"image_std": 0}, "std="),
    ({"image_std": float("inf")}, "image_std=inf must be 3 numbers"),
    ({"rescale_factor": -1}, "rescale_factor=-1 must be"),
]


@pytest.mark.parametrize(("values", "message"), UNREADABLE)
def test_an_image_processor_that_is_none_of_ours_is_said(
    values: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(VIT | values))
    model = load_model(tmp_path, quiet=True)
    assert model.preprocess is None
    with pytest.raises(AssertionError, match=f"no preprocessing: .*{message}"):
        raise AssertionError(notes_of(model))
    with pytest.raises(VitrailError, match=r"set model\.classes .* and model\.preprocess"):
        save_model(model, tmp_path / "again", quiet=True)


def test_vitrails_own_preprocessing_counts_until_somebody_changes_the_file(tmp_path: Path) -> None:
    model = ready_model()
    model.preprocess = Preprocess(size=(32, 48), resize="pad", pad_fill=7)
    save_model(model, tmp_path, format="huggingface", quiet=True)
    tensors = read_tensors(tmp_path / "model.safetensors")
    write_tensors(tmp_path / "model.safetensors", tensors)  # forgets what stands in the header
    assert load_model(tmp_path, quiet=True).preprocess == model.preprocess
    processor = json.loads((tmp_path / "preprocessor_config.json").read_text())
    changed = json.dumps(processor | {"image_mean": [0.1, 0.2, 0.3]})
    (tmp_path / "preprocessor_config.json").write_text(changed)
    back = load_model(tmp_path, quiet=True).preprocess
    assert isinstance(back, Preprocess) and back.resize == "squash"
    assert back.mean == (0.1, 0.2, 0.3)


def test_a_resnet_takes_its_image_size_from_where_it_is_said(tmp_path: Path) -> None:
    folder(tmp_path, "resnet")
    model = load_model(tmp_path, quiet=True)
    assert model.config.image_size == (224, 224)
    assert "does not say the image size" in notes_of(model)
    assert load_model(tmp_path, trained_size=(32, 48), quiet=True).config.image_size == (32, 48)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(NEXT | {"size": 288}))
    model = load_model(tmp_path, quiet=True)
    assert model.config.image_size == (288, 288)
    assert notes_of(model) == ""


def test_a_swin_whose_windows_transformers_shifts_otherwise_is_said(tmp_path: Path) -> None:
    folder(tmp_path, "swin", image_size=[32, 64])
    assert "transformers shifts along neither" in notes_of(load_model(tmp_path, quiet=True))
