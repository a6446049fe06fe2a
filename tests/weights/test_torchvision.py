"""torchvision's state dicts, against torchvision itself."""

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from tests.helpers import draw_images, images_for, perturb
from tests.weights.references import (
    assert_same_logits,
    assert_same_model,
    close,
    prepared,
)
from tests.weights.torchvision_models import CASES, a_model
from vitrail.errors import WeightsError
from vitrail.models import Backbone
from vitrail.weights.convert import convert
from vitrail.weights.load import load_model, read_any, save_model
from vitrail.weights.source import OWN_KEY, Source
from vitrail.weights.tensors import read_metadata, read_tensors, write_tensors
from vitrail.weights.torchvision import TORCHVISION


def reference(case: str, size: int = 32, heads: int = 2, width: int = 32) -> nn.Module:
    """Build torchvision's model of the same sizes, every weight perturbed; eval mode."""
    pytest.importorskip("torchvision")
    from torchvision.models import resnet
    from torchvision.models.swin_transformer import SwinTransformer
    from torchvision.models.vision_transformer import VisionTransformer

    torch.manual_seed(1)
    if case == "vit":
        sizes = {"num_layers": 2, "num_heads": heads, "hidden_dim": width, "mlp_dim": 2 * width}
        model = VisionTransformer(image_size=size, patch_size=8, **sizes, num_classes=5)
    elif case == "swin":
        model = SwinTransformer([4, 4], 16, [2, 2], [2, 4], [3, 4], num_classes=5)
    else:
        block = resnet.BasicBlock if "basic" in case else resnet.Bottleneck
        layers = [1, 2, 1, 1] if "basic" in case else [1, 1, 1, 1]
        model = resnet.ResNet(block, layers, num_classes=5)
    perturb(model, std=0.02 if "resnet" in case else 0.1)
    return model.eval()


def tokens_of(theirs: nn.Module, images: Tensor) -> Tensor:
    """Give torchvision's last states of all patches, b n d."""
    if hasattr(theirs, "encoder"):
        patches = theirs._process_input(images)  # type: ignore[operator]
        first = theirs.class_token.expand(len(images), -1, -1)  # type: ignore[operator]
        return theirs.encoder(torch.cat([first, patches], dim=1))[:, 1:]  # type: ignore[operator, no-any-return]
    if hasattr(theirs, "features"):
        return theirs.norm(theirs.features(images)).flatten(1, 2)  # type: ignore[operator, no-any-return]
    names = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"]
    return nn.Sequential(*(getattr(theirs, name) for name in names))(images).flatten(2).mT  # type: ignore[no-any-return]


def assert_same(model: Backbone, theirs: nn.Module, *sizes: tuple[int, int]) -> None:
    """Logits and tokens agree at the native size and `sizes`."""
    assert_same_logits(model, theirs, *sizes)
    for size in (model.config.image_size, *sizes):
        images = draw_images(2, 3, *size)
        with torch.no_grad():
            close(model.features(images).tokens, tokens_of(theirs, images))


def saved(theirs: nn.Module, path: Path) -> Path:
    """Write a state dict as others do, without a description."""
    safetensors.torch.save_file(theirs.state_dict(), path)
    return path


# torchvision's ViT asserts images of the one, square size that it was built for; larger ones are
# compared below, after interpolate_embeddings. The others take any size.
OTHER_SIZES = {"vit": [], "swin": [(40, 56), (64, 64)]}
CNN_SIZES = [(64, 64), (48, 72)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["folder", "file.safetensors"])
def test_a_round_trip_gives_every_bit_back(case: str, name: str, tmp_path: Path) -> None:
    model = a_model(case, drop_path=0.2)
    save_model(model, tmp_path / name, format="torchvision")
    back = load_model(tmp_path / name)
    assert_same_model(back, model)
    assert back.loaded is not None
    assert back.loaded.format == ("timm" if "resnet" in case else "torchvision")
    assert {row.fate for row in back.loaded.rows} <= {"loaded", "dropped"}


@pytest.mark.peer
@pytest.mark.parametrize("case", CASES)
def test_torchvision_loads_what_is_written(case: str, tmp_path: Path) -> None:
    model = a_model(case, **({"mlp_ratio": 2.0} if case == "vit" else {}))
    save_model(model, tmp_path / "a.safetensors", format="torchvision", quiet=True)
    theirs = reference(case)
    own = {name: (tensor.shape, tensor.dtype) for name, tensor in theirs.state_dict().items()}
    written = safetensors.torch.load_file(tmp_path / "a.safetensors")
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in written.items()} == own
    indices = {k: v for k, v in theirs.state_dict().items() if k.endswith("position_index")}
    assert all(torch.equal(written[name], index) for name, index in indices.items())
    theirs.load_state_dict(written)
    assert_same(model, theirs, *OTHER_SIZES.get(case, CNN_SIZES))


@pytest.mark.peer
@pytest.mark.parametrize("case", CASES)
def test_what_torchvision_has_is_read_by_its_shapes(case: str, tmp_path: Path) -> None:
    theirs = reference(case, heads=2, width=128)  # 64 features a head, which nothing tells
    path = saved(theirs, tmp_path / "a.safetensors")
    if "resnet" in case:  # timm's reader knows the named ones only
        with pytest.raises(WeightsError, match="of none of the named ones"):
            load_model(path)
        return
    model = load_model(path, quiet=True)
    assert_same(model, theirs, *OTHER_SIZES[case])
    assert model.loaded is not None and model.loaded.format == "torchvision"
    notes = " ".join(model.loaded.notes)
    assert "does not name its classes" in notes
    assert ("heads=2 (64 wide) is assumed" in notes) == (case == "vit")
    assert ("4x4 (square) is assumed" in notes) == (case == "vit")
    assert ("image size; 224x224 is assumed" in notes) == (case == "swin")
    contract = dict(model.preprocess or {})
    assert contract["interpolation"] == ("bilinear" if case == "vit" else "bicubic")
    assert contract["crop_fraction"] == 224 / (256 if case == "vit" else 232)
    assert contract["mean"] == (0.485, 0.456, 0.406)
    assert f"{contract['interpolation']}, crop 224 of" in notes


@pytest.mark.peer
@pytest.mark.parametrize("size", [48, 56, 16])
def test_a_vit_at_another_size_is_as_interpolate_embeddings_makes_it(
    size: int, tmp_path: Path
) -> None:
    """Square only: torchvision knows no other grid."""
    pytest.importorskip("torchvision")
    from torchvision.models.vision_transformer import interpolate_embeddings

    small, large = reference("vit", width=128), reference("vit", size, width=128)
    path = saved(small, tmp_path / "a.safetensors")
    large.load_state_dict(interpolate_embeddings(size, 8, OrderedDict(small.state_dict())))
    model = load_model(path, image_size=(size, size), quiet=True)
    assert model.config.position_rule == "corners"  # type: ignore[attr-defined]
    close(model.pos_embed.detach(), large.encoder.pos_embedding, 1e-6)  # type: ignore[union-attr, operator, arg-type]
    assert_same(model, large)
    images = draw_images(2, 3, size, size)
    with torch.no_grad():  # resampled on the way
        close(load_model(path, quiet=True)(images), large(images))


def test_names_of_older_versions_are_read(tmp_path: Path) -> None:
    model = a_model("vit", width=128)
    save_model(model, tmp_path / "a.safetensors", format="torchvision", quiet=True)
    old = {"mlp.0": "mlp.linear_1", "mlp.3": "mlp.linear_2"}
    tensors = {}
    for name, tensor in read_tensors(tmp_path / "a.safetensors").items():
        for new in old:
            name = name.replace(new, old[new])
        tensors[name] = tensor
    write_tensors(tmp_path / "a.safetensors", tensors)
    back = load_model(tmp_path / "a.safetensors", quiet=True)
    assert torch.equal(back(images_for(model)), model(images_for(model)))


@pytest.mark.peer
@pytest.mark.parametrize(
    ("build", "name", "heads"),
    [
        ("vit_b_16", "vit_base_patch16_224", 12),
        ("vit_b_32", "vit_base_patch32_224", 12),
        ("vit_l_16", "vit_large_patch16_224", 16),
        ("vit_l_32", "vit_large_patch32_224", 16),
        ("vit_h_14", "vit_huge_patch14_224", 16),
        ("swin_t", "swin_tiny_patch4_window7_224", (3, 6, 12, 24)),
        ("swin_b", "swin_base_patch4_window7_224", (4, 8, 16, 32)),
    ],
)
def test_the_named_ones_get_their_names(build: str, name: str, heads: Any) -> None:
    models = pytest.importorskip("torchvision").models
    with torch.device("meta"):
        tensors = models.get_model(build).state_dict()
    tensors = {k: v for k, v in tensors.items() if not k.endswith("position_index")}
    foreign = TORCHVISION.read(Source("a file", tensors))
    assert foreign.name == name
    assert dict(foreign.config)["heads"] == heads
    assert foreign.config.image_size == (224, 224)


@pytest.mark.peer
def test_a_file_of_pytorchs_is_converted(tmp_path: Path) -> None:
    theirs = reference("swin")
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    proof = convert(tmp_path / "a.pth", tmp_path / "b.safetensors", "torchvision")
    assert proof.tensors_equal and proof.format == "torchvision"
    assert_same(load_model(tmp_path / "b.safetensors", quiet=True), theirs)


def test_the_description_is_in_the_header(tmp_path: Path) -> None:
    model = a_model("swin")
    save_model(model, tmp_path / "a", format="torchvision", quiet=True)
    about = json.loads(read_metadata(tmp_path / "a" / "model.safetensors")[OWN_KEY])
    assert about["classes"] == list(model.classes)
    assert about["architecture"]["window_size"] == [3, 4]


def test_what_torchvision_cannot_say_is_said(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"norm_eps": 1e-3, "position_rule": "antialias"}
    model = a_model("vit", in_channels=1, classes=0, **sizes)
    model.preprocess = prepared(a_model("vit", classes=0)).preprocess.replace(  # type: ignore[union-attr]
        channels=1, mean=(0.5,), std=(0.5,)
    )
    assert save_model(model, tmp_path / "a", format="torchvision", quiet=True) == (
        "has no place for norm_eps=0.001; it computes with 1e-06",
        "has no place for position_rule=antialias; it resamples with corners",
        "its models have a head: put torch.nn.Identity() there before you load",
        "its models take 3 channels; change the first layer to 1",
    )
    assert_same_model(load_model(tmp_path / "a", quiet=True), model)


def test_a_square_window_needs_no_index(tmp_path: Path) -> None:
    model = a_model("swin", window_size=(3, 3))
    save_model(model, tmp_path / "a.safetensors", format="torchvision", quiet=True)
    tensors = read_tensors(tmp_path / "a.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "index" not in name}
    write_tensors(tmp_path / "a.safetensors", kept)
    foreign, _ = read_any(tmp_path / "a.safetensors", trained_size=(32, 48))
    assert foreign.config == model.config
