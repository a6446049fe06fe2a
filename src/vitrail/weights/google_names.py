"""Google's names of tensors, and their layouts: channels last, heads as an axis of their own.

d is the width, h the heads, k = d / h.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from vitrail.models import BackboneConfig
from vitrail.models.hybrid import HybridConfig
from vitrail.models.resnetv2 import BiTConfig
from vitrail.models.vit_config import ViTConfig
from vitrail.weights.names import Rule, joined, same, turned

PREFIXES = ("", "opt/target/", "params/", "params/img/")  # the last: of an image and a text tower
BIT_ROOT = "resnet/root_block/standardized_conv2d/kernel"
POSITIONS = (
    "Transformer/posembed_input/pos_embedding",  # vision_transformer
    "Transformer/pos_embedding",  # big_vision before 2022
    "pos_embedding",  # big_vision
)
ATTENTION = "MultiHeadDotProductAttention"
MOST_BLOCKS = 1000  # in one tensor; a number beyond is no model's


@dataclass(frozen=True)
class Layout:
    """Which of Google's codes wrote a file: those of its names that differ."""

    prefix: str = ""
    positions: str = POSITIONS[0]
    linen: bool = False  # flax's newer way to number the parts of a block

    @property
    def parts(self) -> tuple[str, str, str]:
        """Give the numbers of attention, MLP and second norm in a block."""
        return ("0", "0", "1") if self.linen else ("1", "3", "2")


def layout_of(names: Collection[str]) -> Layout:
    """Tell the layout by the names of the tensors."""
    prefix = next((each for each in PREFIXES if f"{each}embedding/kernel" in names), "")
    positions = next((each for each in POSITIONS if prefix + each in names), POSITIONS[0])
    linen = f"{prefix}Transformer/encoderblock_0/{ATTENTION}_0/query/kernel" in names
    return Layout(prefix, positions, linen)


def layout_for(config: BackboneConfig) -> Layout:
    """Choose the layout to write: vision_transformer's, else big_vision's."""
    if isinstance(config, ViTConfig) and (
        config.pool == "map" or (config.class_token and not config.prefix_positions)
    ):
        return Layout("params/", POSITIONS[2], linen=True)
    return Layout()


def plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo two habits: all blocks in one tensor (big_vision's scan), and group norms of 4 axes."""
    result = {}
    for name, tensor in tensors.items():
        before, scanned, after = name.partition("/encoderblock/")
        if scanned and tensor.ndim and tensor.shape[0] <= MOST_BLOCKS:
            for i, part in enumerate(tensor):
                result[f"{before}/encoderblock_{i}/{after}"] = part
        elif tensor.shape[:-1] == (1, 1, 1) and re.search(r"gn(\d|_root|_proj)/\w+$", name):
            result[name] = tensor.flatten()
        else:
            result[name] = tensor
    return result


def rules(config: BackboneConfig, layout: Layout) -> list[Rule]:
    """Say which tensor of Google's holds which of ours; the layout can hold the model."""
    if isinstance(config, BiTConfig):
        return _bit(config)
    assert isinstance(config, ViTConfig)
    result = [*_norm("norm", "Transformer/encoder_norm"), same("pos_embed", layout.positions)]
    result += [
        _kernel("patch_embed.proj", "embedding"),
        same("patch_embed.proj.bias", "embedding/bias"),
    ]
    if config.class_token:
        result.append(same("cls_token", "cls"))
    if config.classes:
        result += _dense("head", "head")
    if isinstance(config, HybridConfig):
        result += _stem(config)
    for i in range(config.depth):
        result += _block(f"blocks.{i}", f"Transformer/encoderblock_{i}", config.heads, layout)
    if config.pool == "map":
        result += _map_head(config.heads)
    return [
        replace(rule, theirs=tuple(layout.prefix + name for name in rule.theirs)) for rule in result
    ]


def _block(ours: str, theirs: str, heads: int, layout: Layout) -> list[Rule]:
    attention, mlp, norm = layout.parts
    at = f"{theirs}/{ATTENTION}_{attention}"
    return [
        *_norm(f"{ours}.norm1", f"{theirs}/LayerNorm_0"),
        *_to_heads(
            f"{ours}.attn.qkv", [f"{at}/{name}" for name in ("query", "key", "value")], heads
        ),
        *_from_heads(f"{ours}.attn.proj", f"{at}/out", heads),
        *_norm(f"{ours}.norm2", f"{theirs}/LayerNorm_{norm}"),
        *_dense(f"{ours}.mlp.fc1", f"{theirs}/MlpBlock_{mlp}/Dense_0"),
        *_dense(f"{ours}.mlp.fc2", f"{theirs}/MlpBlock_{mlp}/Dense_1"),
    ]


def _map_head(heads: int) -> list[Rule]:
    at = f"MAPHead_0/{ATTENTION}_0"
    return [
        same("attn_pool.latent", "MAPHead_0/probe"),
        *_to_heads("attn_pool.q", [f"{at}/query"], heads),
        *_to_heads("attn_pool.kv", [f"{at}/key", f"{at}/value"], heads),
        *_from_heads("attn_pool.proj", f"{at}/out", heads),
        *_norm("attn_pool.norm", "MAPHead_0/LayerNorm_0"),
        *_dense("attn_pool.mlp.fc1", "MAPHead_0/MlpBlock_0/Dense_0"),
        *_dense("attn_pool.mlp.fc2", "MAPHead_0/MlpBlock_0/Dense_1"),
    ]


def _stem(config: HybridConfig) -> list[Rule]:
    ours = "patch_embed.backbone"
    root = f"{ours}.stem" if config.stem.depths else ours
    result = [_kernel(f"{root}.conv", "conv_root"), *_norm(f"{root}.norm", "gn_root")]
    for stage, depth in enumerate(config.stem.depths):
        for i in range(depth):
            mine, b = f"{ours}.stages.{stage}.blocks.{i}", f"block{stage + 1}/unit{i + 1}"
            for part in ("1", "2", "3"):
                result.append(_kernel(f"{mine}.conv{part}", f"{b}/conv{part}"))
                result += _norm(f"{mine}.norm{part}", f"{b}/gn{part}")
            if i == 0:
                result.append(_kernel(f"{mine}.downsample.conv", f"{b}/conv_proj"))
                result += _norm(f"{mine}.downsample.norm", f"{b}/gn_proj")
    return result


def _bit(config: BiTConfig) -> list[Rule]:
    conv, norm, affine = "standardized_conv2d", "group_norm", ("gamma", "beta")
    result = [_kernel("stem.conv", f"resnet/root_block/{conv}")]
    result += _norm("norm", f"resnet/{norm}", affine)
    if config.classes:
        result += [_kernel("head.fc", "resnet/head/conv2d")]
        result += [same("head.fc.bias", "resnet/head/conv2d/bias")]
    for stage, depth in enumerate(config.depths):
        for i in range(depth):
            mine, b = f"stages.{stage}.blocks.{i}", f"resnet/block{stage + 1}/unit{i + 1:02d}"
            for part, letter in (("1", "a"), ("2", "b"), ("3", "c")):
                result.append(_kernel(f"{mine}.conv{part}", f"{b}/{letter}/{conv}"))
                result += _norm(f"{mine}.norm{part}", f"{b}/{letter}/{norm}", affine)
            if i == 0:
                result.append(_kernel(f"{mine}.downsample.conv", f"{b}/a/proj/{conv}"))
    return result


def _norm(ours: str, theirs: str, parts: tuple[str, str] = ("scale", "bias")) -> list[Rule]:
    mine = (f"{ours}.weight", f"{ours}.bias")
    return [same(name, f"{theirs}/{part}") for name, part in zip(mine, parts, strict=True)]


def _dense(ours: str, theirs: str) -> list[Rule]:
    """Inputs x outputs there, outputs x inputs here."""
    return [
        turned(f"{ours}.weight", f"{theirs}/kernel", _transposed, _transposed),
        same(f"{ours}.bias", f"{theirs}/bias"),
    ]


def _kernel(ours: str, theirs: str) -> Rule:
    """Rows x columns x inputs x outputs there, outputs x inputs x rows x columns here."""
    return turned(
        f"{ours}.weight",
        f"{theirs}/kernel",
        lambda tensor: tensor.permute(3, 2, 0, 1).contiguous(),
        lambda tensor: tensor.permute(2, 3, 1, 0),
    )


def _to_heads(ours: str, theirs: Sequence[str], heads: int) -> list[Rule]:
    """d x h x k there, (h k) x d here, one below the other."""
    return [
        joined(
            f"{ours}.weight",
            [f"{name}/kernel" for name in theirs],
            lambda tensor: tensor.flatten(1).T,
            lambda tensor: _split(tensor.T, 1, heads),
        ),
        joined(
            f"{ours}.bias",
            [f"{name}/bias" for name in theirs],
            lambda tensor: tensor.flatten(),
            lambda tensor: _split(tensor, 0, heads),
        ),
    ]


def _from_heads(ours: str, theirs: str, heads: int) -> list[Rule]:
    """h x k x d there, d x (h k) here."""
    return [
        turned(
            f"{ours}.weight",
            f"{theirs}/kernel",
            lambda tensor: tensor.flatten(0, 1).T.contiguous(),
            lambda tensor: _split(tensor.T, 0, heads),
        ),
        same(f"{ours}.bias", f"{theirs}/bias"),
    ]


def _transposed(tensor: Tensor) -> Tensor:
    return tensor.T.contiguous()


def _split(tensor: Tensor, axis: int, heads: int) -> Tensor:
    return tensor.unflatten(axis, (heads, -1))  # type: ignore[no-any-return,no-untyped-call]
