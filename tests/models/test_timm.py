"""The ViT gives timm's numbers with timm's weights."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.helpers import draw_images, images_for, perturb
from vitrail.models import create_model, list_models
from vitrail.models.vit import ViT
from vitrail.weights.names import write_by
from vitrail.weights.timm import rules

pytestmark = pytest.mark.peer


def timm_twin(model: ViT, **options: Any) -> nn.Module:
    """Build timm's model of the same sizes with the same weights."""
    timm_vit = pytest.importorskip("timm.models.vision_transformer")
    c = model.config
    options = {"img_size": c.image_size, "num_classes": c.classes} | options
    twin = timm_vit.VisionTransformer(
        patch_size=c.patch_size,
        in_chans=c.in_channels,
        embed_dim=c.width,
        depth=c.depth,
        num_heads=c.heads,
        mlp_ratio=c.mlp_ratio,
        **options,
    )
    twin.load_state_dict(model.state_dict())
    return twin.eval()  # type: ignore[no-any-return]


def close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    """Compare; absolute, on values of size one."""
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module")
def model() -> ViT:
    """ViT-Ti/16 with a grid of 3 x 5, every weight perturbed."""
    torch.manual_seed(0)
    built = create_model("vit_tiny_patch16_224", image_size=(48, 80), num_classes=7)
    perturb(built, std=0.02)
    assert isinstance(built, ViT)
    return built.eval()


@pytest.mark.parametrize("name", list_models())
def test_names_shapes_and_counts_equal_timms(name: str) -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        ours = create_model(name)
        # a head even where timm's default weights have none, as long as ours has one
        pool = {"global_pool": "token"} if "dinov3" in name else {}
        theirs = timm.create_model(name, num_classes=ours.config.classes, **pool)
    assert ours.count_parameters() == sum(p.numel() for p in theirs.parameters())
    shapes = {key: tensor.shape for key, tensor in theirs.state_dict().items()}
    translated = write_by(rules(ours.config), ours.state_dict())  # only DINOv3 changes names
    assert {key: tensor.shape for key, tensor in translated.items()} == shapes
    if "dinov3" not in name:
        assert translated.keys() == ours.state_dict().keys()


def test_logits_and_patch_tokens_equal_timms(model: ViT) -> None:
    twin = timm_twin(model)
    images = images_for(model)
    with torch.no_grad():
        close(model(images), twin(images), 1e-5)
        states = twin.forward_features(images)
        features = model.features(images)
    close(features.tokens, states[:, 1:], 1e-5)
    close(features.pooled, states[:, 0], 1e-5)
    assert features.grid == (3, 5)


@pytest.mark.parametrize("size", [(80, 48), (64, 32), (96, 176)], ids=str)
def test_logits_at_another_size_equal_timms(model: ViT, size: tuple[int, int]) -> None:
    twin = timm_twin(model, dynamic_img_size=True)
    images = draw_images(2, 3, *size)
    with torch.no_grad():
        close(model(images), twin(images), 1e-5)
        close(model.features(images).tokens, twin.forward_features(images)[:, 1:], 1e-5)


def test_logits_equal_timms_when_timm_was_made_for_the_other_size(model: ViT) -> None:
    from timm.layers import resample_abs_pos_embed

    twin = timm_twin(model)
    twin.set_input_size(img_size=(64, 112))
    table = resample_abs_pos_embed(model.pos_embed, new_size=[4, 7], old_size=[3, 5])
    close(twin.pos_embed, table, 0)
    images = draw_images(2, 3, 64, 112)
    with torch.no_grad():
        close(model(images), twin(images), 1e-5)


def test_gradients_equal_timms(model: ViT) -> None:
    twin = timm_twin(model)
    images = images_for(model)
    names = ["cls_token", "pos_embed", "patch_embed.proj.weight", "norm.bias", "head.weight"]
    for i in range(model.config.depth):
        names += [f"blocks.{i}.attn.qkv.weight", f"blocks.{i}.mlp.fc1.bias"]
    ours, theirs = (
        torch.autograd.grad(net(images).square().sum(), [net.get_parameter(name) for name in names])
        for net in (model, twin)
    )
    for name, a, b in zip(names, ours, theirs, strict=True):
        assert float((a - b).norm() / b.norm()) < 1e-4, name
