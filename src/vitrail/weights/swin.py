"""Swin's own checkpoints.

Source: Liu et al. 2021, arXiv:2103.14030; the code is microsoft/Swin-Transformer. There the patches
are merged at the end of a stage, in timm and here at the start of the next one.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vitrail.errors import WeightsError
from vitrail.models.swin_config import SwinConfig
from vitrail.weights.foreign import Foreign, Format
from vitrail.weights.grids import square_grid
from vitrail.weights.infer import count_blocks, name_of, shape_of, state_names
from vitrail.weights.names import read_by, same
from vitrail.weights.originals import CROP, imagenet, is_described
from vitrail.weights.source import Source

UNUSED = {r".*\.(relative_position_index|attn_mask)": "computed from the sizes"}
TABLE = "layers.{}.blocks.0.attn.relative_position_bias_table"
MASK = "layers.0.blocks.1.attn_mask"  # one row a window of the first map


def matches(source: Source) -> bool:
    """Whether patches are merged in the first stage already, which timm's Swin does not."""
    return not is_described(source) and source.has(
        TABLE.format(0), "layers.0.downsample.reduction.weight"
    )


def read(source: Source) -> Foreign:
    """Read a Swin Transformer of the first version.

    Raises:
        WeightsError, ConfigError: a tensor is missing, unknown or of an impossible shape; or the
            model has something that it does not have here.
    """
    if source.has("absolute_pos_embed"):
        raise WeightsError(f"{source.where}: has absolute_pos_embed (APE), which Swin lacks here")
    config, note = infer_swin(source.tensors, source.where, source.trained_size)
    rules = [same(name, their_name(name)) for name in state_names(config)]
    tensors, dropped = read_by(rules, source.tensors, UNUSED, source.where)
    # TEST.CROP is off in the settings of the models for 384 pixels
    squashed = config.image_size[0] >= 384
    preprocess, assumed = imagenet(
        config, "Swin", *((1.0, "squash") if squashed else (CROP, "crop"))
    )
    notes = (*note, assumed)
    return Foreign(config, tensors, name_of(config), (), preprocess, dropped, notes)


def their_name(ours: str) -> str:
    """Give the name that a tensor of ours has in the file."""
    theirs = re.sub(
        r"layers\.(\d+)\.downsample\.", lambda m: f"layers.{int(m[1]) - 1}.downsample.", ours
    )
    return theirs.replace("head.fc.", "head.")


def infer_swin(
    tensors: Mapping[str, Tensor], where: str, trained_size: tuple[int, int] | None
) -> tuple[SwinConfig, tuple[str, ...]]:
    """Read the sizes off the tensors of a file; give what was assumed, too.

    Raises:
        WeightsError, ConfigError: the sizes are not a Swin's of one square window.
    """
    width, channels, patch, across = shape_of(tensors, "patch_embed.proj.weight", 4, where)
    if patch != across:
        raise WeightsError(f"{where}: has patches of {patch}x{across} pixels; here they are square")
    stages = range(count_blocks(tensors, r"layers\.(\d+)\..*"))
    tables = [shape_of(tensors, TABLE.format(stage), 2, where) for stage in stages]
    hidden, _ = shape_of(tensors, "layers.0.blocks.0.mlp.fc1.weight", 2, where)
    window = _window([rows for rows, _ in tables], where)
    sizes: dict[str, Any] = {
        "in_channels": channels,
        "classes": 0,
        "patch_size": patch,
        "width": width,
        "depths": [count_blocks(tensors, rf"layers\.{s}\.blocks\.(\d+)\..*") for s in stages],
        "heads": [heads for _, heads in tables],
        "window_size": (window, window),
        "mlp_ratio": hidden / width,
    }
    if "head.weight" in tensors:
        sizes["classes"], _ = shape_of(tensors, "head.weight", 2, where)
    notes = []
    if trained_size is None:
        side = _side(tensors, window, patch, len(stages))
        trained_size = (side, side)
        notes.append(
            f"the file does not say its image size; {side}x{side} (square) is assumed: give "
            "trained_size where it is another"
        )
    return SwinConfig.parse(sizes | {"image_size": trained_size}, where), tuple(notes)


def _window(rows: list[int], where: str) -> int:
    """Tell the window from the rows of the bias tables of all stages, (2 w - 1)² each."""
    if len(set(rows)) != 1:
        raise WeightsError(
            f"{where}: has windows of several sizes (bias tables of {rows} rows), as made for "
            "images smaller than a window in the last stage; here all stages have one"
        )
    side = math.isqrt(rows[0])
    if side * side != rows[0] or side % 2 == 0:
        raise WeightsError(f"{where}: a bias table of {rows[0]} rows is of no square window")
    return (side + 1) // 2


def _side(tensors: Mapping[str, Tensor], window: int, patch: int, stages: int) -> int:
    """Tell the side of a square image: by the masked windows, or one window in the last stage."""
    mask = tensors.get(MASK)
    grid = square_grid(mask.shape[0]) if mask is not None and mask.ndim == 3 else None
    windows: int = grid[0] if grid else 2 ** (stages - 1)
    return windows * window * patch


SWIN = Format("Swin's own .pth", matches, read)
