"""torchvision's names of tensors. All lie there as they do here."""

import re

from vitrail.models import BackboneConfig
from vitrail.models.swin_config import SwinConfig
from vitrail.models.vit_config import ViTConfig
from vitrail.weights.infer import state_names
from vitrail.weights.names import Rule, linear, same

OLD_MLP = {"linear_1": "0", "linear_2": "3"}  # of torchvision before 0.14


def renamed(name: str) -> str:
    """Give the name that torchvision has had since 0.14."""
    pattern = r"(encoder\.layers\.encoder_layer_\d+\.mlp\.)(linear_[12])(\.\w+)"
    match = re.fullmatch(pattern, name)
    return name if match is None else f"{match[1]}{OLD_MLP[match[2]]}{match[3]}"


def rules(config: BackboneConfig) -> list[Rule]:
    """Say which tensor of torchvision's holds which of ours; it has such a model."""
    if isinstance(config, ViTConfig):
        return vit_rules(config.depth, head=config.classes > 0)
    if isinstance(config, SwinConfig):
        return _swin_rules(config.depths, head=config.classes > 0)
    return [same(name) for name in state_names(config)]


def vit_rules(depth: int, *, head: bool) -> list[Rule]:
    """Say it of a ViT of so many blocks, with or without a head."""
    result = [same("cls_token", "class_token"), same("pos_embed", "encoder.pos_embedding")]
    result += linear("patch_embed.proj", "conv_proj") + linear("norm", "encoder.ln")
    for i in range(depth):
        mine, theirs = f"blocks.{i}", f"encoder.layers.encoder_layer_{i}"
        result += [
            *linear(f"{mine}.norm1", f"{theirs}.ln_1"),
            same(f"{mine}.attn.qkv.weight", f"{theirs}.self_attention.in_proj_weight"),
            same(f"{mine}.attn.qkv.bias", f"{theirs}.self_attention.in_proj_bias"),
            *linear(f"{mine}.attn.proj", f"{theirs}.self_attention.out_proj"),
            *linear(f"{mine}.norm2", f"{theirs}.ln_2"),
            *linear(f"{mine}.mlp.fc1", f"{theirs}.mlp.0"),
            *linear(f"{mine}.mlp.fc2", f"{theirs}.mlp.3"),
        ]
    return result + (linear("head", "heads.head") if head else [])


def _swin_rules(depths: tuple[int, ...], *, head: bool) -> list[Rule]:
    """Patches are merged behind a stage there, before the next one here."""
    result = linear("patch_embed.proj", "features.0.0") + linear("patch_embed.norm", "features.0.2")
    result += linear("norm", "norm") + (linear("head.fc", "head") if head else [])
    for stage, depth in enumerate(depths):
        if stage:
            mine, theirs = f"layers.{stage}.downsample", f"features.{2 * stage}"
            result += linear(f"{mine}.norm", f"{theirs}.norm")
            result.append(same(f"{mine}.reduction.weight", f"{theirs}.reduction.weight"))
        for i in range(depth):
            mine, theirs = f"layers.{stage}.blocks.{i}", f"features.{2 * stage + 1}.{i}"
            table = "attn.relative_position_bias_table"
            result.append(same(f"{mine}.{table}", f"{theirs}.{table}"))
            for part in ("norm1", "attn.qkv", "attn.proj", "norm2"):
                result += linear(f"{mine}.{part}", f"{theirs}.{part}")
            result += linear(f"{mine}.mlp.fc1", f"{theirs}.mlp.0")
            result += linear(f"{mine}.mlp.fc2", f"{theirs}.mlp.3")
    return result
