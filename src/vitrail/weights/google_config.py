"""The sizes of Google's models, from the names and shapes of their tensors.

They tell all but the shape of the grid of patches; of a BiT, the image size.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vitrail.errors import WeightsError
from vitrail.models import BackboneConfig
from vitrail.models.hybrid import HybridConfig
from vitrail.models.resnet_stem import StemConfig
from vitrail.models.resnetv2 import BiTConfig
from vitrail.models.vit_config import ViTConfig
from vitrail.weights.defaults import HALF, default
from vitrail.weights.description import Description
from vitrail.weights.google_names import ATTENTION, BIT_ROOT, POSITIONS, Layout
from vitrail.weights.grids import SIZE_NOTE, find_grid
from vitrail.weights.infer import count_blocks, name_of, shape_of
from vitrail.weights.source import Source

GROUPS = 32  # in every group norm of Google's code
NORM_EPS = 1e-6  # of the layer norms there
HIDDEN = "behind pre_logits, a layer with tanh that models here lack"
# vit_jax/input_pipeline.py and BiT's, for evaluation: tf.image.resize of the whole image.
PREPROCESS_NOTE = (
    "the file does not say its preprocessing; mean and deviation 0.5, the whole image resized, "
    "bilinear (as in Google's code, which does not antialias) are assumed: set model.preprocess "
    "where it is another"
)
GELU_NOTE = (
    "Google's code approximates GELU by tanh; here and in timm it is exact, so that logits differ "
    "a little from Google's"
)


def infer(
    source: Source, tensors: Mapping[str, Tensor], layout: Layout
) -> tuple[Description, tuple[str, ...]]:
    """Read the architecture off the tensors, which are those of `source` made plain.

    Returns:
        the model without its weights, and what was assumed, one line each.
    Raises:
        WeightsError: a tensor is missing, or has not the axes that it must have.
        ConfigError: the sizes do not fit each other.
    """
    notes: list[str] = []
    config: BackboneConfig
    if BIT_ROOT in tensors:
        config = _bit(source, tensors, notes)
    else:
        config = _vit(source, tensors, layout, notes)
        notes.append(GELU_NOTE)
    preprocess = default(config, *HALF, interpolation="bilinear", resize="squash")
    return Description(name_of(config), config, (), preprocess), (*notes, PREPROCESS_NOTE)


def _bit(source: Source, tensors: Mapping[str, Tensor], notes: list[str]) -> BiTConfig:
    root = shape_of(tensors, BIT_ROOT, 4, source.where)
    head = "resnet/head/conv2d/kernel"
    if source.trained_size is None:
        notes.append(SIZE_NOTE)
    values = {
        "image_size": source.trained_size or (224, 224),
        "in_channels": root[2],
        "width": root[3],
        "depths": _depths(tensors, "resnet/"),
        "groups": GROUPS,
        "classes": shape_of(tensors, head, 4, source.where)[3] if head in tensors else 0,
    }
    return BiTConfig.parse(values, source.where)


def _vit(
    source: Source, tensors: Mapping[str, Tensor], layout: Layout, notes: list[str]
) -> ViTConfig:
    where, prefix = source.where, layout.prefix
    patch, across, channels, width = shape_of(tensors, f"{prefix}embedding/kernel", 4, where)
    if patch != across:
        raise WeightsError(f"{where}: has patches of {patch}x{across} pixels; here they are square")
    pool = "token" if f"{prefix}cls" in tensors else "mean"
    if f"{prefix}MAPHead_0/probe" in tensors:
        pool = "map"  # never with a class token
    sizes: dict[str, Any] = {
        "in_channels": channels,
        "patch_size": patch,
        "width": width,
        **_blocks(tensors, layout, width, where),
        "class_token": pool == "token",
        "pool": pool,
        "classes": _classes(tensors, prefix, where, notes),
        "position_rule": "linear",
        "norm_eps": NORM_EPS,
    }
    stride, root = patch, f"{prefix}conv_root/kernel"
    hybrid = root in tensors
    if hybrid:
        stem = _stem(tensors, prefix, where)
        sizes |= {"stem": stem, "in_channels": shape_of(tensors, root, 4, where)[2]}
        stride = patch * stem.stride
    sizes |= _positions(source, tensors, layout, stride, notes)
    return (HybridConfig if hybrid else ViTConfig).parse(sizes, where)


def _blocks(
    tensors: Mapping[str, Tensor], layout: Layout, width: int, where: str
) -> dict[str, Any]:
    """Tell the depth, and what the first block tells of all."""
    encoder = f"{layout.prefix}Transformer"
    attention, mlp, _ = layout.parts
    query = f"{encoder}/encoderblock_0/{ATTENTION}_{attention}/query/kernel"
    first = f"{encoder}/encoderblock_0/MlpBlock_{mlp}/Dense_0/kernel"
    return {
        "depth": count_blocks(tensors, rf"{re.escape(encoder)}/encoderblock_(\d+)/.*"),
        "heads": shape_of(tensors, query, 3, where)[1],
        "mlp_ratio": shape_of(tensors, first, 2, where)[1] / width,
    }


def _classes(tensors: Mapping[str, Tensor], prefix: str, where: str, notes: list[str]) -> int:
    """Count the classes; a head behind pre_logits is no head of ours."""
    if f"{prefix}pre_logits/kernel" in tensors:
        notes.append(f"its head stands {HIDDEN}; both are left out, the model has no classes")
        return 0
    name = f"{prefix}head/kernel"
    return shape_of(tensors, name, 2, where)[1] if name in tensors else 0


def _positions(
    source: Source,
    tensors: Mapping[str, Tensor],
    layout: Layout,
    stride: int,
    notes: list[str],
) -> dict[str, Any]:
    """Tell the image size, and whether the class token has a position."""
    table, where = layout.prefix + layout.positions, source.where
    if table not in tensors:
        raise WeightsError(f"{where}: has no table of positions; big_vision's sincos2d is not read")
    token = f"{layout.prefix}cls" in tensors
    # big_vision's class token has no position, or, before 2022, one
    prefixes = [int(token)] if layout.positions == POSITIONS[0] else [0, int(token)]
    rows = shape_of(tensors, table, 3, where)[1]
    grid, counted = find_grid(rows, prefixes, stride, where, source.trained_size, notes)
    return {
        "image_size": (grid[0] * stride, grid[1] * stride),
        "prefix_positions": counted > 0 or not token,
    }


def _stem(tensors: Mapping[str, Tensor], prefix: str, where: str) -> StemConfig:
    root = shape_of(tensors, f"{prefix}conv_root/kernel", 4, where)
    values = {"depths": _depths(tensors, prefix), "width": root[3], "groups": GROUPS}
    return StemConfig.parse(values, where)


def _depths(tensors: Mapping[str, Tensor], prefix: str) -> tuple[int, ...]:
    """Count the units of each residual stage."""
    start = re.escape(prefix)
    stages = count_blocks(tensors, rf"{start}block(\d+)/.*")
    return tuple(
        count_blocks(tensors, rf"{start}block{stage}/unit(\d+)/.*")
        for stage in range(1, stages + 1)
    )
