"""timm's names for sizes and preprocessing, in both directions."""

from collections.abc import Mapping
from typing import Any

from vitrail.data.preprocess import Preprocess
from vitrail.errors import WeightsError
from vitrail.models import MODELS, BackboneConfig
from vitrail.models.vit_config import ViTConfig
from vitrail.weights.infer import name_of

# timm's argument: our setting, by kind. Where the values differ too: `_from_timm` and `_to_timm`.
COMMON = {"in_chans": "in_channels", "num_classes": "classes", "drop_path_rate": "drop_path"}
TRANSFORMER = COMMON | {
    "img_size": "image_size",
    "patch_size": "patch_size",
    "embed_dim": "width",
    "num_heads": "heads",
    "mlp_ratio": "mlp_ratio",
}
VIT = TRANSFORMER | {
    "depth": "depth",
    "patch_drop_rate": "patch_dropout",
    "init_values": "layer_scale",
    "reg_tokens": "registers",
    "class_token": "class_token",
    "no_embed_class": "prefix_positions",
    "global_pool": "pool",
    "fc_norm": "norm_after_pool",
    "qk_norm": "qk_norm",
    "qkv_bias": "qkv_bias",
    "pos_embed": "positions",
}
RENAMED = {"reg_tokens": "num_reg_tokens", "fc_norm": "use_fc_norm"}  # by timm's class Eva
EVA = {RENAMED.get(key, key): name for key, name in VIT.items()} | {
    "rope_temperature": "rotary_base"
}
SWIN = TRANSFORMER | {"depths": "depths", "window_size": "window_size"}
RESNET = COMMON | {"layers": "depths"}
BIT = COMMON
ARGUMENTS = {"vit": VIT, "hybrid": VIT, "swin": SWIN, "resnet": RESNET, "bit": BIT}
# What changes no number of a trained model.
HARMLESS = {
    *("drop_rate", "proj_drop_rate", "attn_drop_rate", "pos_drop_rate", "drop_block_rate"),
    *("dynamic_img_size", "dynamic_img_pad", "strict_img_size", "always_partition"),
    *("weight_init", "fix_init", "head_init_scale", "scriptable", "exportable"),
}
POOLS = {"token": "token", "avg": "mean", "map": "map"}
SQUARE = ("img_size", "window_size")  # one number or two


def arguments_of(config: BackboneConfig) -> dict[str, str]:
    """Give the names of timm's arguments for the class that builds such a model, and ours."""
    return EVA if is_eva(config) else ARGUMENTS[dict(config)["kind"]]


def changes(given: Mapping[str, Any], base: BackboneConfig, where: str) -> dict[str, Any]:
    """Turn timm's `model_args` into changes of our sizes.

    Raises:
        WeightsError: an argument has no counterpart here.
    """
    known, eva = arguments_of(base), is_eva(base)
    standard = _to_timm("pool", base.pool) if isinstance(base, ViTConfig) else "avg"
    result: dict[str, Any] = {}
    for key, value in given.items():
        if key in HARMLESS or value is None or (key, value) == ("global_pool", standard):
            continue
        if key not in known:
            raise WeightsError(f"{where}: model_args.{key}={value!r} has no counterpart here")
        result[known[key]] = _from_timm(key, value, eva)
    if "pool" in result and not eva:
        result.setdefault("norm_after_pool", given["global_pool"] == "avg")
    if result.get("mlp_ratio") and _counts_twice(base):
        result["mlp_ratio"] /= 2
    return result


def _counts_twice(config: BackboneConfig) -> bool:
    """Whether timm's mlp_ratio counts gate and value of a gated MLP."""
    return isinstance(config, ViTConfig) and config.mlp == "swiglu" and not is_eva(config)


def _from_timm(key: str, value: Any, eva: bool) -> Any:
    if key in SQUARE and isinstance(value, int):
        return (value, value)
    if key == "no_embed_class":
        return not value
    if key == "global_pool":
        return POOLS.get(value, value)
    if key == "qkv_bias":
        return ("no_key" if eva else "full") if value else "none"
    if key == "pos_embed":
        return {"learn": "learned", "": "none"}.get(value, value)
    return value


def arguments(config: BackboneConfig, name: str) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    """Find timm's model of these sizes, and the arguments that make it of these sizes.

    Returns:
        timm's name, the arguments, and what they cannot say.
    Raises:
        WeightsError: timm has no such model.
    """
    base_name = _base(config, name)
    standard = dict(MODELS[base_name])
    ours = {mine: theirs for theirs, mine in arguments_of(config).items()}
    notes: list[str] = []
    result: dict[str, Any] = {}
    for key, value in dict(config).items():
        if value == standard[key] or (key, value) == ("positions", "sincos"):
            continue  # fixed positions are written as a table
        if key in ("norm_eps", "position_rule"):
            notes.append(f"has no place for {key}={value}; it computes with {standard[key]}")
        elif key in ours:
            result[ours[key]] = _to_timm(key, value)
        elif key != "image_size":  # which does not matter to a CNN
            raise WeightsError(f"timm has no model with {key}={value}")
    if isinstance(config, ViTConfig) and (is_eva(config) or "global_pool" in result):
        result["global_pool"] = _to_timm("pool", config.pool)  # Eva's own default is another
        result[ours["norm_after_pool"]] = config.norm_after_pool
    if "mlp_ratio" in result and _counts_twice(config):
        result["mlp_ratio"] *= 2
    return base_name, result, tuple(notes)


def _to_timm(key: str, value: Any) -> Any:
    if key == "prefix_positions":
        return not value
    if key == "pool":
        pools = {mine: theirs for theirs, mine in POOLS.items()}
        if value not in pools:
            raise WeightsError(f"timm has no model with pool={value}")
        return pools[value]
    if key == "qkv_bias":
        return value != "none"
    if key == "positions" and value == "none":
        return "none"
    return list(value) if isinstance(value, tuple) else value


def _base(config: BackboneConfig, name: str) -> str:
    """Choose the model of timm from which the arguments lead to these sizes."""
    if name in MODELS and type(MODELS[name]) is type(config) and _same_build(MODELS[name], config):
        return name
    named = name_of(config)
    if named:
        return named
    candidates = {each: known for each, known in MODELS.items() if type(known) is type(config)}
    for each, known in candidates.items():
        if _same_build(known, config):
            return each
    raise WeightsError("timm has no model of this build")


def _same_build(base: BackboneConfig, config: BackboneConfig) -> bool:
    """Whether what no argument of timm can change is equal in both."""
    fixed = {"mlp", "distilled", "block", "stem"}
    one, other = dict(base), dict(config)
    if any(one.get(key) != other.get(key) for key in fixed):
        return False
    return is_eva(base) == is_eva(config) and (
        not is_eva(base) or (one["qkv_bias"] == "none") == (other["qkv_bias"] == "none")
    )


def is_eva(config: BackboneConfig) -> bool:
    """Whether timm builds the model by its class Eva."""
    return isinstance(config, ViTConfig) and config.positions == "rotary"


def preprocess_of(
    given: Mapping[str, Any], config: BackboneConfig, where: str
) -> Preprocess | None:
    """Read the preprocessing from a `pretrained_cfg`; None for other than 1 or 3 channels.

    Raises:
        WeightsError, ConfigError: a value is unknown.
    """
    if config.in_channels not in (1, 3) or "mean" not in given:
        return None
    modes = {"center": "crop", "squash": "squash", "border": "pad"}
    mode = given.get("crop_mode") or "center"
    if mode not in modes:
        raise WeightsError(f"{where}: crop_mode={mode!r} is not one of {', '.join(modes)}")
    values = {
        "size": config.image_size,
        "channels": config.in_channels,
        "resize": modes[mode],
        "interpolation": given.get("interpolation") or "bilinear",
        "crop_fraction": 1.0 if mode == "border" else given.get("crop_pct") or 0.875,
        "mean": given["mean"],
        "std": given["std"],
    }
    return Preprocess.parse(values, f"{where}: pretrained_cfg")


def pretrained_cfg(
    model_name: str, config: BackboneConfig, preprocess: Preprocess | None, classes: tuple[str, ...]
) -> dict[str, Any]:
    """Write what timm wants to know of weights besides their sizes."""
    values: dict[str, Any] = {
        "architecture": model_name,
        "input_size": [config.in_channels, *config.image_size],
        "fixed_input_size": "img_size" in arguments_of(config),
        "num_classes": config.classes,
        "label_names": list(classes),
    }
    if preprocess is not None:
        modes = {"crop": "center", "squash": "squash", "pad": "border"}
        values |= {
            "interpolation": preprocess.interpolation,
            "crop_pct": preprocess.crop_fraction,
            "crop_mode": modes[preprocess.resize],
            "mean": list(preprocess.mean),
            "std": list(preprocess.std),
        }
    return values
