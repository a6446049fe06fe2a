"""From `config.json` of transformers to our sizes. Checked against transformers 5.23.

Every option there is either one of ours, or must have the value with which our models compute, or
changes nothing in a trained model (dropout, initialisation) and is passed over.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vitrail.errors import WeightsError, did_you_mean
from vitrail.models import BackboneConfig
from vitrail.models.resnet import BLOCKS, ResNetConfig
from vitrail.models.swin_config import SwinConfig
from vitrail.models.vit_config import ViTConfig
from vitrail.weights.hf_values import MOST, MOST_CHANNELS, STAGES, Values, shown

# How transformers brings positions to another grid: `interpolate_pos_encoding` of each model.
POSITION_RULES = {
    "vit": "bicubic",
    "deit": "bicubic",
    "vit_mae": "bicubic",
    "dinov2": "bicubic",
    "dinov2_with_registers": "antialias",
}
SWIN_EPS = 1e-5  # some norms of transformers' Swin have it whatever `layer_norm_eps` says


@dataclass(frozen=True)
class Heads:
    """What the tensors tell: how many classes there are, and which heads."""

    classes: int
    one: bool  # a head on the class token
    two: bool  # another on the distillation token


def read_config(given: Mapping[str, Any], heads: Heads, where: str) -> BackboneConfig:
    """Read the sizes.

    Raises:
        WeightsError, ConfigError: the architecture or an option is none of ours, or a value is
            impossible.
    """
    values = Values(given, where)
    if given.get("quantization_config") is not None:
        raise WeightsError(f"{where}: quantised weights; take the original ones")
    return READERS[family_name(given, where)](values, heads)


def family_name(given: Mapping[str, Any], where: str) -> str:
    """Give the `model_type`, one of READERS. Raises WeightsError."""
    name = given.get("model_type")
    if not isinstance(name, str) or name not in READERS:
        raise WeightsError(
            f"{where}: model_type={shown(name)} is not one of {', '.join(READERS)}"
            f"{did_you_mean(name[:60], READERS) if isinstance(name, str) else ''}"
        )
    return name


def _common(values: Values, heads: Heads) -> dict[str, Any]:
    """Read what all ViTs have."""
    width, count = values.integer("hidden_size"), values.integer("num_attention_heads")
    values.only("head_dim", width // count)
    if values.given.get("pruned_heads"):
        raise WeightsError(f"{values.where}: pruned_heads: Vitrail's models keep all heads")
    return {
        "classes": heads.classes,
        "in_channels": values.integer("num_channels", 3, most=MOST_CHANNELS),
        "image_size": values.pair("image_size"),
        "patch_size": values.square("patch_size"),
        "width": width,
        "depth": values.integer("num_hidden_layers"),
        "heads": count,
    }


def _vit(values: Values, heads: Heads) -> dict[str, Any]:
    """Read what ViT, DeiT and MAE share."""
    values.only("hidden_act", "gelu")
    return _common(values, heads) | {
        "mlp_ratio": values.integer("intermediate_size") / values.integer("hidden_size"),
        "qkv_bias": "full" if values.flag("qkv_bias", True) else "none",
        "norm_eps": values.number("layer_norm_eps", 1e-12),
        "position_rule": "bicubic",
    }


def read_vit(values: Values, heads: Heads) -> BackboneConfig:
    """Read a ViT or a MAE, whose fixed positions are a table in the file."""
    return ViTConfig.parse(_vit(values, heads), values.where)


def read_deit(values: Values, heads: Heads) -> BackboneConfig:
    """Read a DeiT, which always has a distillation token.

    In `DeiTForImageClassification` nothing reads what becomes of it: it is a register then.
    """
    register = heads.one and not heads.two
    token = {"registers": 1} if register else {"distilled": True}
    return ViTConfig.parse(_vit(values, heads) | token, values.where)


def read_dinov2(values: Values, heads: Heads) -> BackboneConfig:
    """Read a DINOv2, with or without registers; its head sees class token and mean."""
    width, gated = values.integer("hidden_size"), values.flag("use_swiglu_ffn", False)
    hidden = dinov2_hidden(width, values.number("mlp_ratio", 4.0), gated)
    if not 1 <= hidden <= MOST:
        raise values.wrong("mlp_ratio", values.get("mlp_ratio"), "such that the MLP has a width")
    if not gated:
        values.only("hidden_act", "gelu")
    sizes = _common(values, heads) | {
        "mlp": "swiglu" if gated else "gelu",
        "mlp_ratio": hidden / width,
        "qkv_bias": "full" if values.flag("qkv_bias", True) else "none",
        "norm_eps": values.number("layer_norm_eps", 1e-6),
        "layer_scale": values.number("layerscale_value", 1.0),
        "pool": "token+mean" if heads.classes else "token",
        "position_rule": POSITION_RULES[values.get("model_type")],
    }
    if values.get("model_type") == "dinov2_with_registers":
        registers = values.integer("num_register_tokens", 4, least=0)
        sizes |= {"registers": registers, "prefix_positions": False}
    return ViTConfig.parse(sizes, values.where)


def dinov2_hidden(width: int, ratio: float, gated: bool) -> int:
    """Compute the features inside the MLP as `Dinov2MLP` and `Dinov2SwiGLUFFN` do."""
    hidden = int(width * ratio)
    return (int(hidden * 2 / 3) + 7) // 8 * 8 if gated else hidden


def read_dinov3(values: Values, heads: Heads) -> BackboneConfig:
    """Read a DINOv3; transformers has no head for it."""
    gated = values.flag("use_gated_mlp", False)
    values.only("hidden_act", "silu" if gated else "gelu")
    values.only("proj_bias", True)
    values.only("mlp_bias", True)
    defaults = {"query_bias": True, "key_bias": False, "value_bias": True}
    biases = tuple(values.flag(key, default) for key, default in defaults.items())
    kinds = {(True, True, True): "full", (True, False, True): "no_key", (False,) * 3: "none"}
    if biases not in kinds:
        given = ", ".join(f"{key}={bias}" for key, bias in zip(defaults, biases, strict=True))
        raise WeightsError(f"{values.where}: {given}: must be all, none, or all but key_bias")
    sizes = {
        "mlp": "swiglu" if gated else "gelu",
        "mlp_ratio": values.integer("intermediate_size") / values.integer("hidden_size"),
        "qkv_bias": kinds[biases],
        "norm_eps": values.number("layer_norm_eps", 1e-5),
        "layer_scale": values.number("layerscale_value", 1.0),
        "registers": values.integer("num_register_tokens", 0, least=0),
        "positions": "rotary",
        "rotary_base": values.number("rope_theta", 100.0),
    }
    return ViTConfig.parse(_common(values, heads) | sizes, values.where)


def read_swin(values: Values, heads: Heads) -> BackboneConfig:
    """Read a Swin Transformer."""
    values.only("hidden_act", "gelu")
    values.only("qkv_bias", True)
    values.only("use_absolute_embeddings", False)
    values.only("layer_norm_eps", SWIN_EPS)
    window = values.integer("window_size", 7)
    width, depths = values.integer("embed_dim"), values.integers("depths")
    if width << (len(depths) - 1) > MOST:
        raise values.wrong("embed_dim", width, f"less: the last stage would exceed {MOST}")
    ratio = values.number("mlp_ratio", 4.0)
    if int(width * ratio) < 1:
        raise values.wrong("mlp_ratio", ratio, "such that the MLP has a width")
    sizes = {
        "classes": heads.classes,
        "in_channels": values.integer("num_channels", 3, most=MOST_CHANNELS),
        "image_size": values.pair("image_size"),
        "patch_size": values.square("patch_size"),
        "width": width,
        "depths": depths,
        "heads": values.integers("num_heads"),
        "window_size": (window, window),
        "mlp_ratio": ratio,
        "drop_path": values.number("drop_path_rate", 0.1, zero=True),
    }
    return SwinConfig.parse(sizes, values.where)


def read_resnet(values: Values, heads: Heads) -> BackboneConfig:
    """Read a ResNet; the image size is not said."""
    values.only("hidden_act", "relu")
    values.only("downsample_in_first_stage", False)
    block = values.get("layer_type", "bottleneck")
    if not isinstance(block, str) or block not in BLOCKS:
        raise values.wrong("layer_type", block, " or ".join(BLOCKS))
    if block == "bottleneck":
        values.only("downsample_in_bottleneck", False)
    outputs, width = values.integers("hidden_sizes"), values.integer("embedding_size", 64)
    expected = tuple(width * BLOCKS[block].expansion * 2**i for i in range(STAGES))
    depths = values.integers("depths")
    if outputs != expected[: len(depths)]:
        raise values.wrong("hidden_sizes", outputs, f"{expected[: len(depths)]} here")
    sizes = {
        "classes": heads.classes,
        "in_channels": values.integer("num_channels", 3, most=MOST_CHANNELS),
        "block": block,
        "depths": depths,
        "width": width,
    }
    return ResNetConfig.parse(sizes, values.where)


READERS: dict[str, Callable[[Values, Heads], BackboneConfig]] = {
    "vit": read_vit,
    "deit": read_deit,
    "dinov2": read_dinov2,
    "dinov2_with_registers": read_dinov2,
    "dinov3_vit": read_dinov3,
    "vit_mae": read_vit,
    "swin": read_swin,
    "resnet": read_resnet,
}


def class_names(given: Mapping[str, Any], count: int) -> tuple[tuple[str, ...], str]:
    """Read the names from `id2label`, in the order of the numbers; and what there is to say.

    Names that stand there twice, as ImageNet's "crane", get their numbers behind them. There are no
    names if they are not one a class.
    """
    labels = given.get("id2label")
    if not isinstance(labels, dict) or set(labels) != {str(i) for i in range(count)}:
        return (), ""
    names = [str(labels[str(i)]) for i in range(count)]
    twice = {name for name, times in Counter(names).items() if times > 1}
    clear = tuple(f"{name} ({i})" if name in twice else name for i, name in enumerate(names))
    if len(set(clear)) < count:
        return (), ""
    some = shown(min(twice)) if twice else ""
    note = f"{len(twice)} names, such as {some}, stand for several classes; they are numbered"
    return clear, note if twice else ""
