"""Tiny models of transformers for the tests of its format."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.helpers import perturb

VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8}
PLAIN = VIT | {"intermediate_size": 48, "image_size": 32}
DINOV2 = VIT | {"image_size": 32, "mlp_ratio": 2, "layerscale_value": 0.5}
DINOV3 = PLAIN | {"layerscale_value": 0.5}
GATED = {"use_gated_mlp": True, "hidden_act": "silu"}
MAE = PLAIN | {
    "decoder_hidden_size": 16,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 16,
    "mask_ratio": 0.0,
}
SWIN = {"image_size": 48, "patch_size": 4, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4]}
SWIN |= {"window_size": 4}
RESNET = {"embedding_size": 8, "depths": [1, 2]}

# case: (class, configuration class, sizes)
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "vit": ("ViTForImageClassification", "ViTConfig", PLAIN),
    "vit-wide": ("ViTForImageClassification", "ViTConfig", PLAIN | {"image_size": (32, 48)}),
    "vit-bare": ("ViTModel", "ViTConfig", PLAIN | {"qkv_bias": False, "num_channels": 1}),
    "vit-masked": ("ViTForMaskedImageModeling", "ViTConfig", PLAIN | {"encoder_stride": 8}),
    "deit": ("DeiTForImageClassification", "DeiTConfig", PLAIN),
    "deit-teacher": ("DeiTForImageClassificationWithTeacher", "DeiTConfig", PLAIN),
    "deit-bare": ("DeiTModel", "DeiTConfig", PLAIN),
    "dinov2": ("Dinov2ForImageClassification", "Dinov2Config", DINOV2),
    "dinov2-bare": ("Dinov2Model", "Dinov2Config", DINOV2 | {"use_swiglu_ffn": True}),
    "dinov2-backbone": ("Dinov2Backbone", "Dinov2Config", DINOV2),
    "registers": (
        "Dinov2WithRegistersForImageClassification",
        "Dinov2WithRegistersConfig",
        DINOV2 | {"num_register_tokens": 3, "use_swiglu_ffn": True},
    ),
    "registers-none": (
        "Dinov2WithRegistersModel",
        "Dinov2WithRegistersConfig",
        DINOV2 | {"num_register_tokens": 0},
    ),
    "dinov3": ("DINOv3ViTModel", "DINOv3ViTConfig", DINOV3 | {"num_register_tokens": 2}),
    "dinov3-gated": ("DINOv3ViTModel", "DINOv3ViTConfig", DINOV3 | GATED | {"key_bias": True}),
    "dinov3-no-bias": (
        "DINOv3ViTBackbone",
        "DINOv3ViTConfig",
        DINOV3 | {"query_bias": False, "value_bias": False, "rope_theta": 50.0},
    ),
    "mae": ("ViTMAEModel", "ViTMAEConfig", MAE),
    "mae-pretraining": ("ViTMAEForPreTraining", "ViTMAEConfig", MAE),
    "swin": ("SwinForImageClassification", "SwinConfig", SWIN),
    "swin-bare": ("SwinModel", "SwinConfig", SWIN | {"mlp_ratio": 2.5, "depths": [1, 2]}),
    "resnet": (
        "ResNetForImageClassification",
        "ResNetConfig",
        RESNET | {"hidden_sizes": [32, 64]},
    ),
    "resnet-basic": (
        "ResNetModel",
        "ResNetConfig",
        RESNET | {"hidden_sizes": [8, 16], "layer_type": "basic"},
    ),
}
LABELS = {0: "cat", 1: "dog", 2: "LABEL_2", 3: "owl", 4: "ünïcode"}


def reference(case: str, **changes: Any) -> nn.Module:
    """Build a model of transformers with five classes and every weight perturbed."""
    transformers = pytest.importorskip("transformers")
    kind, config, sizes = CASES[case]
    torch.manual_seed(0)
    labels = {"id2label": LABELS, "label2id": {name: i for i, name in LABELS.items()}}
    model: nn.Module = getattr(transformers, kind)(
        getattr(transformers, config)(**sizes | labels | changes)
    )
    perturb(model, std=0.05)
    return model.eval()


def saved(model: nn.Module, path: Path) -> Path:
    """Save it as transformers does."""
    model.save_pretrained(path)  # type: ignore[operator]
    return path


@torch.no_grad()
def states_and_logits(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor | None]:
    """Give the last states, b n d or b d h w, and the logits if there is a head."""
    kind, extra = type(model).__name__, {}
    if kind.startswith(("ViT", "DeiT")):
        extra = {"interpolate_pos_encoding": tuple(images.shape[-2:]) != native(model)}
    if kind.startswith("ViTMAE"):
        rows, columns = (side // 8 for side in images.shape[-2:])
        noise = torch.arange(rows * columns).expand(len(images), -1)  # keeps the order
        extra["noise"] = noise.float()
    base = getattr(model, model.base_model_prefix, model)  # type: ignore[arg-type]
    if "dinov3" in str(model.config.model_type):  # type: ignore[union-attr]
        base = model  # whose prefix is that of its encoder
    result = base(images, **extra)
    states = getattr(result, "last_hidden_state", None)
    if states is None:  # a backbone: the map of its last stage, without the prefix tokens
        states = result.feature_maps[-1].flatten(2).mT
    has_head = any(name.endswith("classifier") for name, _ in model.named_children())
    return states, model(images, **extra).logits if has_head else None


def native(model: nn.Module) -> tuple[int, int]:
    """Give the image size of its configuration."""
    size = model.config.image_size  # type: ignore[union-attr]
    return (size, size) if isinstance(size, int) else tuple(size)  # type: ignore[return-value,arg-type]
