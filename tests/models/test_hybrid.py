"""The hybrid ViT: the numbers of timm, and the residual stem before it."""

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.helpers import draw_images, perturb, tiny, tiny_model
from vitrail.errors import ModelError
from vitrail.models import ALIASES, MODELS, build_model, create_model
from vitrail.models.hybrid import HYBRID_ALIASES, HYBRIDS, Hybrid, HybridConfig
from vitrail.models.resnet_stem import ResNetStem, StemConfig, StemRoot, build_stem

ROUNDING = 5e-5  # of float32; so far timm's are from their own float64, where we agree to 1e-12
# depths of the stem, patch size; every 8, 8, 16 and 32 pixels a token
STEMS = {"root": ((), 2), "two": ((1, 2), 1), "patches": ((1, 2), 2), "four": ((1, 1, 2, 1), 1)}


@pytest.fixture(scope="module", params=STEMS)
def model(request: pytest.FixtureRequest) -> Hybrid:
    """A stem of the true widths before a small ViT, every weight perturbed; eval mode."""
    depths, patch_size = STEMS[request.param]
    torch.manual_seed(0)
    config = HybridConfig(
        image_size=(64, 96),
        stem=StemConfig(depths=depths),
        patch_size=patch_size,
        width=48,
        depth=2,
        heads=3,
        classes=7,
    )
    built = Hybrid(config)
    perturb(built, std=0.05)
    return built.eval()


def timm_stem(config: StemConfig) -> nn.Module:
    """Build timm's residual stem of the same sizes."""
    resnetv2 = pytest.importorskip("timm.models.resnetv2")
    from timm.layers import StdConv2dSame

    options: dict[str, Any] = {
        "stem_type": "same",
        "preact": False,
        "conv_layer": partial(StdConv2dSame, eps=1e-8),  # as in all hybrids of timm
    }
    if not config.depths:
        return resnetv2.create_resnetv2_stem(3, **options)  # type: ignore[no-any-return]
    return resnetv2.ResNetV2(config.depths, num_classes=0, global_pool="", **options)  # type: ignore[no-any-return]


def timm_twin(model: Hybrid, dynamic: bool = True) -> nn.Module:
    """Build timm's model of the same sizes with the same weights."""
    vision_transformer = pytest.importorskip("timm.models.vision_transformer")
    from timm.layers import HybridEmbed

    config = model.config
    twin: nn.Module = vision_transformer.VisionTransformer(
        img_size=config.image_size,
        patch_size=config.patch_size,
        embed_layer=partial(HybridEmbed, backbone=timm_stem(config.stem)),
        embed_dim=config.width,
        depth=config.depth,
        num_heads=config.heads,
        num_classes=config.classes,
        dynamic_img_size=dynamic,
    )
    twin.load_state_dict(model.state_dict())
    return twin.eval()


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Compare; absolute, on values of size one."""
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.peer
@pytest.mark.parametrize("name", HYBRIDS)
def test_names_shapes_and_image_sizes_equal_timms(name: str) -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        ours, theirs = create_model(name), timm.create_model(name, num_classes=1000)
    shapes = {key: tensor.shape for key, tensor in theirs.state_dict().items()}
    assert {key: tensor.shape for key, tensor in ours.state_dict().items()} == shapes
    assert ours.count_parameters() == sum(p.numel() for p in theirs.parameters())
    assert ours.config.image_size == theirs.default_cfg["input_size"][1:]
    assert ours.config.grid == theirs.patch_embed.grid_size


@pytest.mark.peer
@pytest.mark.parametrize("name", ["vit_tiny_r_s16_p8_224", "vit_small_r26_s32_224"])
def test_named_models_equal_timms(name: str) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = create_model(name, image_size=(64, 96), num_classes=7, depth=2).eval()
    perturb(model, std=0.02)
    twin = timm.create_model(name, img_size=(64, 96), num_classes=7, depth=2).eval()
    twin.load_state_dict(model.state_dict())
    images = draw_images(2, 3, 64, 96)
    with torch.no_grad():
        close(model(images), twin(images))


@pytest.mark.peer
@pytest.mark.parametrize("size", [(64, 96), (96, 64), (128, 160), (32, 32)], ids=str)
def test_logits_and_tokens_equal_timms(model: Hybrid, size: tuple[int, int]) -> None:
    images, twin = draw_images(2, 3, *size), timm_twin(model)
    with torch.no_grad():
        logits, features = model(images), model.features(images)
        assert 0.05 < logits.std() < 10  # what the tolerance means
        close(logits, twin(images), ROUNDING)
        states = twin.forward_features(images)
    close(features.tokens, states[:, 1:], ROUNDING)
    close(features.pooled, states[:, 0], ROUNDING)
    stride = model.config.stride
    assert features.grid == (size[0] // stride, size[1] // stride)


@pytest.mark.peer
def test_logits_equal_timms_to_the_last_digits_of_float64(model: Hybrid) -> None:
    twin, images = timm_twin(model, dynamic=False).double(), draw_images(2, 3, 64, 96).double()
    with torch.no_grad():
        close(copy.deepcopy(model).double()(images), twin(images), 1e-12)


@pytest.mark.peer
def test_gradients_equal_timms(model: Hybrid) -> None:
    # in float64: one place where max pooling chooses otherwise after rounding makes 5e-4
    nets = copy.deepcopy(model).double(), timm_twin(model).double()
    images, names = draw_images(2, 3, 64, 96).double(), [n for n, _ in model.named_parameters()]
    ours, theirs = (
        torch.autograd.grad(net(images).square().sum(), [net.get_parameter(name) for name in names])
        for net in nets
    )
    for name, a, b in zip(names, ours, theirs, strict=True):
        assert float((a - b).norm() / b.norm()) < 1e-10, name


@pytest.mark.peer
@pytest.mark.parametrize("depths", [(), (1,), (1, 2, 1)], ids=str)
@pytest.mark.parametrize("size", [(97, 131), (33, 65), (30, 64), (5, 9)], ids=str)
def test_the_stem_alone_equals_timms_at_any_size(
    depths: tuple[int, ...], size: tuple[int, int]
) -> None:
    config = StemConfig(depths=depths)
    twin = timm_stem(config).eval()
    perturb(twin, std=0.05)
    stem = build_stem(config, in_channels=3)
    stem.load_state_dict(twin.state_dict())
    images = draw_images(2, 3, *size)
    with torch.no_grad():
        ours, theirs = stem(images), twin(images)
    close(ours, theirs, ROUNDING)
    assert ours.shape[1] == config.channels
    assert ours.shape[2:] == tuple(-(-side // config.stride) for side in size)


def test_the_stem_is_the_root_where_it_has_no_stages() -> None:
    assert type(build_stem(StemConfig(depths=()), 3)) is StemRoot
    assert type(build_stem(StemConfig(), 3)) is ResNetStem
    assert (StemConfig(depths=()).stride, StemConfig(depths=()).channels) == (4, 64)
    assert (StemConfig().stride, StemConfig().channels) == (16, 1024)


@pytest.mark.parametrize("alias", HYBRID_ALIASES)
def test_the_papers_names(alias: str) -> None:
    config = MODELS[ALIASES[alias]]
    assert isinstance(config, HybridConfig)
    assert alias.endswith(f"/{config.stride}")
    assert config.tokens == (224 // config.stride) ** 2 + 1


def test_images_must_be_a_multiple_of_the_stride() -> None:
    with pytest.raises(ModelError, match=r"image_size=100x96 .* patch_size=16; .* is 96x96"):
        create_model("R50+B/16", image_size=(100, 96))
    model = tiny_model("hybrid").eval()
    with pytest.raises(ModelError, match=r"36x40 pixels must be a multiple of .* patch_size=8"):
        model(draw_images(2, 3, 36, 40))
    assert model(draw_images(2, 3, 40, 40)).isfinite().all()


def test_the_groups_of_the_stem_must_divide_its_width() -> None:
    with pytest.raises(ModelError, match=r"stem=.*width=48 must be a multiple of groups=32"):
        create_model("R50+B/16", stem={"width": 48})
    with pytest.raises(ModelError, match=r"stem.groups=0: input should be greater than"):
        create_model("R50+B/16", stem={"groups": 0})


@pytest.mark.parametrize("kind", ["hybrid", "hybrid-root"])
def test_grey_images_reach_the_kernel_that_reads_them(kind: str) -> None:
    model = build_model(tiny(kind, in_channels=1))
    assert model.state_dict()[model.stem_weight].shape == (8, 1, 7, 7)
    fitted = model.fit(model.stem_weight, torch.ones(8, 3, 7, 7), model.config)
    assert torch.equal(fitted, torch.full((8, 1, 7, 7), 3.0))


def test_positions_are_brought_to_the_grid_of_another_size() -> None:
    small, large = tiny_model("hybrid"), build_model(tiny("hybrid", image_size=(64, 48)))
    fitted = large.fit("pos_embed", small.state_dict()["pos_embed"], small.config)
    assert fitted.shape == (1, 1 + 8 * 6, 32)
