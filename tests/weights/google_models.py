"""Tiny models that Google's codes have, and the same in timm."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from tests.weights.references import ready_model
from vitrail.data.preprocess import Preprocess
from vitrail.models import Backbone
from vitrail.weights.load import save_model
from vitrail.weights.npz import read_npz

# By what is special about them: kind and sizes.
NO_CLASS: dict[str, Any] = {"class_token": False, "pool": "mean"}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "token": ("vit", {}),
    "grey": ("vit", {"in_channels": 1}),
    "no-head": ("vit", {"classes": 0}),
    "mean": ("vit", NO_CLASS),
    "token without position": ("vit", {"prefix_positions": False}),
    "map": ("vit", {"class_token": False, "pool": "map"}),
    "hybrid": ("hybrid", {"stem": {"depths": (1, 2), "width": 64}}),
    "hybrid-root": ("hybrid-root", {"stem": {"depths": (), "width": 64}}),
    "bit": ("bit", {"width": 32, "groups": 32}),
}
SIZE = (32, 48)


def a_model(case: str, **sizes: Any) -> Backbone:
    """Build a tiny model that Google's layouts can hold, as Google would compute it."""
    kind, own = CASES[case]
    linear = {} if kind == "bit" else {"position_rule": "linear"}
    model = ready_model(kind, **(linear | own | sizes))
    if model.config.in_channels == 1:
        model.preprocess = Preprocess(size=SIZE, channels=1, mean=(0.2,), std=(0.3,))
    return model


def bare(model: Backbone, path: Path) -> dict[str, Tensor]:
    """Write a model without the JSON beside it, as files of Google's are; give the arrays."""
    save_model(model, path, format="google", quiet=True)
    path.with_suffix(".json").unlink()
    return read_npz(path)


def reference(case: str, size: tuple[int, int] = SIZE) -> nn.Module:
    """Build the same model in timm, with other weights."""
    pytest.importorskip("timm")
    kind, sizes = CASES[case]
    if kind == "bit":
        from timm.layers import GroupNormAct, StdConv2d
        from timm.models.resnetv2 import ResNetV2

        conv, norm = partial(StdConv2d, eps=1e-8), partial(GroupNormAct, num_groups=32)
        layers: dict[str, Any] = {"layers": (1, 2), "channels": (128, 256), "num_classes": 5}
        return ResNetV2(**layers, stem_chs=32, stem_type="fixed", conv_layer=conv, norm_layer=norm)  # type: ignore[no-any-return]
    from timm.models.vision_transformer import VisionTransformer

    arguments: dict[str, Any] = {}
    if kind.startswith("hybrid"):
        from timm.models.vision_transformer_hybrid import HybridEmbed, _resnetv2

        backbone = _resnetv2(sizes["stem"]["depths"])
        arguments["embed_layer"] = partial(HybridEmbed, backbone=backbone)
    return VisionTransformer(  # type: ignore[no-any-return]
        img_size=size,
        patch_size={"vit": 8, "hybrid": 1, "hybrid-root": 2}[kind],
        in_chans=sizes.get("in_channels", 3),
        num_classes=sizes.get("classes", 5),
        embed_dim=32,
        depth=2,
        num_heads=2,
        class_token=sizes.get("class_token", True),
        no_embed_class=not sizes.get("prefix_positions", True),
        global_pool={"mean": "avg"}.get(sizes.get("pool", "token"), sizes.get("pool", "token")),
        fc_norm=False,
        **arguments,
    )
