"""From our sizes to `config.json` of transformers, or a line that says what it lacks."""

from typing import Any

from vitrail.errors import WeightsError
from vitrail.models import BackboneConfig
from vitrail.models.resnet import BLOCKS, ResNetConfig
from vitrail.models.swin_config import SwinConfig
from vitrail.models.vit_config import ViTConfig
from vitrail.weights.hf_config import POSITION_RULES, SWIN_EPS, dinov2_hidden

# model_type: the classes with and without a head
ARCHITECTURES = {
    "vit": ("ViTForImageClassification", "ViTModel"),
    "deit": ("DeiTForImageClassification", "DeiTModel"),
    "dinov2": ("Dinov2ForImageClassification", "Dinov2Model"),
    "dinov2_with_registers": (
        "Dinov2WithRegistersForImageClassification",
        "Dinov2WithRegistersModel",
    ),
    "dinov3_vit": ("", "DINOv3ViTModel"),
    "vit_mae": ("", "ViTMAEModel"),
    "swin": ("SwinForImageClassification", "SwinModel"),
    "resnet": ("ResNetForImageClassification", "ResNetModel"),
}


def family_of(config: BackboneConfig) -> str:
    """Find the `model_type` that computes as a model of these sizes does.

    Raises:
        WeightsError: there is none; the line names what transformers lacks.
    """
    if isinstance(config, SwinConfig):
        _check_swin(config)
        return "swin"
    if isinstance(config, ResNetConfig):
        return "resnet"
    if type(config) is not ViTConfig:
        raise _lacks(f"kind={dict(config)['kind']}")
    _check_vit(config)
    if config.positions == "rotary":
        return _dinov3(config)
    if config.layer_scale is not None:
        return _dinov2(config)
    if config.classes and config.pool != "token":
        raise _lacks(f"pool={config.pool} and no layer_scale")
    if config.mlp != "gelu":
        raise _lacks(f"mlp={config.mlp} and no layer_scale")
    if config.qkv_bias == "no_key":
        raise _lacks("qkv_bias=no_key but rotary positions")
    return _plain(config)


def _check_vit(config: ViTConfig) -> None:
    """Refuse what no ViT of transformers has."""
    lacking = {
        "pool=map": config.pool == "map",
        "norm_after_pool=True": config.norm_after_pool,
        "class_token=False": not config.class_token,
        "qk_norm=True": config.qk_norm,
        "positions=none": config.positions == "none",
    }
    for what, given in lacking.items():
        if given:
            raise _lacks(what)


def _plain(config: ViTConfig) -> str:
    """A ViT, or a DeiT: one more token, with a head or without."""
    if config.distilled and not config.registers:
        return "deit"
    if config.registers == 1 and config.classes and not config.distilled:
        return "deit"  # one head; see `read_deit`
    if config.registers:
        raise _lacks(f"registers={config.registers} and no layer_scale")
    return "vit_mae" if config.positions == "sincos" and not config.classes else "vit"


def _dinov2(config: ViTConfig) -> str:
    if config.distilled:
        raise _lacks("distilled=True and layer_scale")
    if config.qkv_bias == "no_key":
        raise _lacks("qkv_bias=no_key but rotary positions")
    if config.registers and config.positions == "learned" and config.prefix_positions:
        raise _lacks("registers that have rows in the table (prefix_positions=True)")
    if config.image_size[0] != config.image_size[1]:
        raise _lacks(f"layer_scale and image_size={config.image_size}, no square")
    _dinov2_ratio(config)
    return "dinov2_with_registers" if config.registers else "dinov2"


def _dinov2_ratio(config: ViTConfig) -> int:
    """Find the whole number from which DINOv2 in transformers computes the features of its MLP."""
    gated = config.mlp == "swiglu"
    for ratio in range(1, 2 * config.hidden // config.width + 3):
        if dinov2_hidden(config.width, float(ratio), gated) == config.hidden:
            return ratio
    raise _lacks(f"layer_scale and mlp_ratio={config.mlp_ratio:g} (it takes whole numbers)")


def _dinov3(config: ViTConfig) -> str:
    if config.layer_scale is None:
        raise _lacks("positions=rotary and no layer_scale")
    if config.distilled:
        raise _lacks("positions=rotary and distilled=True")
    if config.classes:
        raise _lacks("positions=rotary and classes")
    return "dinov3_vit"


def _check_swin(config: SwinConfig) -> None:
    rows, columns = config.window_size
    if rows != columns:
        raise _lacks(f"window_size={config.window_size}, no square")
    if config.norm_eps != SWIN_EPS:
        raise _lacks(f"norm_eps={config.norm_eps:g} in a Swin")
    for stage, (grid, depth) in enumerate(
        zip(config.grids(*config.image_size), config.depths, strict=True)
    ):
        if min(grid) < rows or (min(grid) == rows < max(grid) and depth > 1):
            raise _lacks(
                f"windows of {rows}x{rows} on the {grid[0]}x{grid[1]} map of stage {stage}"
            )


def _lacks(what: str) -> WeightsError:
    return WeightsError(f"transformers has no model with {what}; save it as vitrail")


def write_config(config: BackboneConfig, classes: tuple[str, ...]) -> dict[str, Any]:
    """Give the JSON values of `config.json`.

    Raises:
        WeightsError: transformers has no such model.
    """
    family = family_of(config)
    head, bare = ARCHITECTURES[family]
    if isinstance(config, SwinConfig):
        sizes = _swin(config)
    elif isinstance(config, ResNetConfig):
        sizes = _resnet(config)
    else:
        assert isinstance(config, ViTConfig)
        sizes = _vit(config, family)
        head += "WithTeacher" if config.distilled else ""
    labels: dict[str, Any] = {}
    if config.classes:
        labels = {
            "id2label": {str(i): name for i, name in enumerate(classes)},
            "label2id": {name: i for i, name in enumerate(classes)},
        }
    about = {"architectures": [head if config.classes else bare], "model_type": family}
    return about | {"num_channels": config.in_channels} | sizes | labels


def _vit(config: ViTConfig, family: str) -> dict[str, Any]:
    height, width = config.image_size
    sizes: dict[str, Any] = {
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "image_size": height if height == width else [height, width],
        "patch_size": config.patch_size,
        "layer_norm_eps": config.norm_eps,
        "hidden_act": "gelu",
    }
    gated = config.mlp == "swiglu"
    if family.startswith("dinov2"):
        sizes |= {"mlp_ratio": _dinov2_ratio(config), "use_swiglu_ffn": gated}
    else:
        sizes["intermediate_size"] = config.hidden
    if family == "dinov3_vit":
        sizes |= {
            "hidden_act": "silu" if gated else "gelu",
            "use_gated_mlp": gated,
            "query_bias": config.qkv_bias != "none",
            "key_bias": config.qkv_bias == "full",
            "value_bias": config.qkv_bias != "none",
            "rope_theta": config.rotary_base,
        }
    else:
        sizes["qkv_bias"] = config.qkv_bias == "full"
    if family.startswith("dino"):
        sizes |= {"layerscale_value": config.layer_scale, "drop_path_rate": config.drop_path}
    if family in ("dinov2_with_registers", "dinov3_vit"):
        sizes["num_register_tokens"] = config.registers
    if family == "vit_mae":
        sizes["mask_ratio"] = 0.0  # else ViTMAEModel hides patches even when it is not trained
    return sizes


def _swin(config: SwinConfig) -> dict[str, Any]:
    height, width = config.image_size
    return {
        "embed_dim": config.width,
        "depths": list(config.depths),
        "num_heads": list(config.heads),
        "window_size": config.window_size[0],
        "image_size": height if height == width else [height, width],
        "patch_size": config.patch_size,
        "mlp_ratio": config.mlp_ratio,
        "drop_path_rate": config.drop_path,
        "layer_norm_eps": config.norm_eps,
    }


def _resnet(config: ResNetConfig) -> dict[str, Any]:
    outputs = config.width * BLOCKS[config.block].expansion
    return {
        "embedding_size": config.width,
        "hidden_sizes": [outputs * 2**i for i in range(len(config.depths))],
        "depths": list(config.depths),
        "layer_type": config.block,
        "downsample_in_bottleneck": False,
    }


def config_notes(config: BackboneConfig) -> tuple[str, ...]:
    """Say what `config.json` cannot."""
    family = family_of(config)
    notes = []
    if family == "vit" and not config.classes:
        notes.append(
            "transformers' ViTModel makes a random pooler: take last_hidden_state[:, 0] of it"
        )
    if family == "vit_mae":
        notes.append("mask_ratio=0 is written, so that ViTMAEModel hides no patches")
    if isinstance(config, ViTConfig) and family in POSITION_RULES:
        rule = POSITION_RULES[family]
        if config.positions == "sincos":
            notes.append("the fixed positions are written as a table; at other sizes it is resized")
        elif config.position_rule != rule:
            notes.append(
                f"has no place for position_rule={config.position_rule}; at other image sizes "
                f"transformers computes with {rule}"
            )
    if config.classes == 1:
        notes.append("with a single class transformers' pipeline gives a sigmoid, not a softmax")
    return tuple(notes)
