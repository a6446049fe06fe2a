"""The Swin Transformer gives the numbers of timm, torchvision and transformers.

Which sizes each supports, and which of them it computes as we do (see `Swin`, `WindowAttention`):

- torchvision: all that the patches divide (it cuts the rest off); as we do.
- transformers: all whose maps are larger than the window along both sides, or as large along both.
  A smaller map makes it shrink the window, but not the bias, and it fails; a map no larger than the
  window along one side is not shifted along the other either. It shrinks for good: each size needs
  a model of its own.
- timm: the shift and the window are fixed by the size that a model is built for. Where the windows
  do not divide a shifted map it fills up after the roll, so that the mask does not fit what lies in
  the windows. So shifted blocks agree where the windows divide the maps, others for all sizes.
"""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.helpers import draw_images, perturb
from vitrail.models import create_model
from vitrail.models.swin import Swin
from vitrail.models.swin_config import SWIN_MODELS

pytestmark = pytest.mark.peer
TINY = "swin_tiny_patch4_window7_224"  # its maps at 224: 56, 28, 14, 7


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Compare; absolute, on values of size one."""
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def make_model(depth: int = 2) -> Swin:
    """Swin-T but narrow and with `depth` blocks a stage, every weight perturbed."""
    torch.manual_seed(0)
    model = create_model(TINY, num_classes=7, width=16, heads=(1, 2, 4, 8), depths=(depth,) * 4)
    perturb(model)
    assert isinstance(model, Swin)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> Swin:
    return make_model()


def timm_twin(model: Swin, size: tuple[int, int] = (224, 224), **options: Any) -> nn.Module:
    """Build timm's model of the same sizes with the same weights, for images of `size`."""
    swin_transformer = pytest.importorskip("timm.models.swin_transformer")
    config = model.config
    twin = swin_transformer.SwinTransformer(
        img_size=size,
        num_classes=config.classes,
        embed_dim=config.width,
        depths=config.depths,
        num_heads=config.heads,
        window_size=config.window_size,
        **options,
    )
    twin.load_state_dict(model.state_dict())
    return twin.eval()  # type: ignore[no-any-return]


def torchvision_twin(model: Swin) -> nn.Module:
    """Build torchvision's model of the same sizes with the same weights."""
    swin_transformer = pytest.importorskip("torchvision.models.swin_transformer")
    config = model.config
    sizes = [list(size) for size in (config.depths, config.heads, config.window_size)]
    twin = swin_transformer.SwinTransformer([4, 4], config.width, *sizes, num_classes=7)
    weights = {torchvision_name(name): tensor for name, tensor in model.state_dict().items()}
    missing, unexpected = twin.load_state_dict(weights, strict=False)
    assert unexpected == [] and all(name.endswith("position_index") for name in missing)
    return twin.eval()  # type: ignore[no-any-return]


def torchvision_name(name: str) -> str:
    first, *rest = name.replace("fc1", "0").replace("fc2", "3").split(".")
    if first == "patch_embed":
        return ".".join(["features.0", {"proj": "0", "norm": "2"}[rest[0]], rest[1]])
    if first == "layers":  # stem, blocks, merging, blocks, merging, …
        place = 2 * int(rest[0]) + (rest[1] == "blocks")
        return ".".join([f"features.{place}", *rest[2:]])
    return name.replace("head.fc", "head")


def transformers_twin(model: Swin, **options: Any) -> nn.Module:
    """Build transformers' model of the same sizes with the same weights."""
    transformers = pytest.importorskip("transformers")
    config = model.config
    sizes = transformers.SwinConfig(
        embed_dim=config.width,
        depths=list(config.depths),
        num_heads=list(config.heads),
        window_size=config.window_size[0],
        num_labels=config.classes,
        **options,
    )
    twin = transformers.SwinForImageClassification(sizes)
    weights: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        parts = tensor.chunk(3) if ".qkv." in name else (tensor,)
        weights |= zip(transformers_names(name), parts, strict=True)
    twin.load_state_dict(weights)
    return twin.eval()  # type: ignore[no-any-return]


def transformers_names(name: str) -> list[str]:
    first, *rest = name.split(".")
    if first == "head":
        return ["classifier." + rest[-1]]
    if first == "norm":
        return ["swin.layernorm." + rest[-1]]
    if first == "patch_embed":
        part = {"proj": "patch_embeddings.projection", "norm": "norm"}[rest[0]]
        return [f"swin.embeddings.{part}.{rest[1]}"]
    if rest[1] == "downsample":  # stands at the end of the stage before
        return [".".join(["swin.encoder.layers", str(int(rest[0]) - 1), *rest[1:]])]
    for ours, theirs in {
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.relative": "attention.relative_position_bias.relative",
        "attn.proj": "attention.o_proj",
        "attn.qkv": "attention.qkv",
    }.items():
        name = name.replace(ours, theirs)
    letters = "qkv" if ".qkv." in name else " "
    return [f"swin.encoder.{name.replace('qkv', f'{letter}_proj')}" for letter in letters]


# --- timm ---------------------------------------------------------------------


@pytest.mark.parametrize("name", SWIN_MODELS)
def test_names_shapes_and_counts_equal_timms(name: str) -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        ours = create_model(name)
        theirs = timm.create_model(name, num_classes=1000)
    shapes = {key: tensor.shape for key, tensor in theirs.state_dict().items()}
    assert {key: tensor.shape for key, tensor in ours.state_dict().items()} == shapes
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert ours.count_parameters() == sum(p.numel() for p in theirs.parameters())


@pytest.mark.parametrize("size", [(224, 224), (224, 448), (448, 224), (448, 448)], ids=str)
def test_logits_tokens_and_stages_equal_timms(model: Swin, size: tuple[int, int]) -> None:
    twin = timm_twin(model, size)
    images = draw_images(2, 3, *size)
    with torch.no_grad():
        close(model(images), twin(images))
        features = model.features(images)
        states, stages = twin.forward_intermediates(images)
        seen = model.intermediates(images)
    close(features.tokens, states.flatten(1, 2))
    assert features.grid == states.shape[1:3]
    for stage, expected in enumerate(stages):  # b d rows columns
        close(seen[f"layers.{stage}.blocks.1.output"], expected.flatten(2).transpose(1, 2))


@pytest.mark.parametrize("size", [(256, 320), (97, 131), (40, 24), (24, 56), (7, 3)], ids=str)
def test_without_a_shift_every_size_equals_timms(size: tuple[int, int]) -> None:
    layers = pytest.importorskip("timm.layers")
    model = make_model(depth=1)
    embed = partial(layers.PatchEmbed, dynamic_img_pad=True)
    twin = timm_twin(model, strict_img_size=False, embed_layer=embed)
    images = draw_images(2, 3, *size)
    with torch.no_grad():
        close(model(images), twin(images))
        close(model.features(images).tokens, twin.forward_features(images).flatten(1, 2))


@pytest.mark.parametrize("size", [(224, 224), (224, 448)], ids=str)
def test_gradients_equal_timms(model: Swin, size: tuple[int, int]) -> None:
    twin = timm_twin(model, size)
    images = draw_images(1, 3, *size)
    names = [name for name, _ in model.named_parameters()]
    ours, theirs = (
        torch.autograd.grad(net(images).square().sum(), [net.get_parameter(name) for name in names])
        for net in (model, twin)
    )
    for name, a, b in zip(names, ours, theirs, strict=True):
        assert float((a - b).norm() / b.norm()) < 1e-4, name


# --- torchvision and transformers ---------------------------------------------


@pytest.mark.parametrize(
    "size", [(224, 224), (256, 320), (112, 448), (40, 24), (24, 56), (8, 8)], ids=str
)
def test_logits_and_tokens_equal_torchvisions(model: Swin, size: tuple[int, int]) -> None:
    twin = torchvision_twin(model)
    images = draw_images(2, 3, *size)
    with torch.no_grad():
        close(model(images), twin(images))
        close(model.features(images).tokens, twin.norm(twin.features(images)).flatten(1, 2))


@pytest.mark.parametrize("size", [(224, 224), (256, 320), (299, 237)], ids=str)
def test_logits_and_tokens_equal_transformers(model: Swin, size: tuple[int, int]) -> None:
    twin = transformers_twin(model)
    images = draw_images(2, 3, *size)
    with torch.no_grad():
        close(model(images), twin(images).logits)
        close(model.features(images).tokens, twin.swin(images).last_hidden_state)


def test_attention_weights_equal_transformers(model: Swin) -> None:
    size = (256, 320)
    twin = transformers_twin(model, attn_implementation="eager")
    images = draw_images(2, 3, *size)
    with torch.no_grad():
        seen = model.intermediates(images)
        expected = twin(images, output_attentions=True).attentions  # of the last block of a stage
        for stage, grid in enumerate(model.config.grids(*size)):
            x = seen[f"layers.{stage}.blocks.1.attn.input"]
            weights = model.layers[stage].blocks[1].attn.weights(x, grid)
            close(weights.flatten(0, 1), expected[stage])
