"""A Swin of torchvision's: its sizes from its tensors, and its tables of indices."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from vitrail.errors import WeightsError
from vitrail.models.resample import Grid
from vitrail.models.swin_config import SwinConfig
from vitrail.weights.infer import count_blocks, shape_of

SWIN_EPS = 1e-5


def infer_swin(
    tensors: Mapping[str, Tensor], where: str, trained_size: tuple[int, int] | None
) -> SwinConfig:
    """Read the sizes off the tensors; they tell all but the image size.

    Raises:
        WeightsError: a tensor is missing, or has not the axes that it must have.
        ConfigError: the sizes do not fit each other.
    """
    if "features.1.0.attn.logit_scale" in tensors:
        raise WeightsError(f"{where}: a Swin v2, which is none of Vitrail's models")
    width, channels, patch, across = shape_of(tensors, "features.0.0.weight", 4, where)
    if patch != across:
        raise WeightsError(f"{where}: has patches of {patch}x{across} pixels; here they are square")
    merged = sum(
        re.fullmatch(r"features\.\d+\.reduction\.weight", name) is not None for name in tensors
    )
    stages = range(1, 2 * merged + 2, 2)
    tables = [f"features.{i}.0.attn.relative_position_bias_table" for i in stages]
    values = {
        "image_size": trained_size or (224, 224),
        "in_channels": channels,
        "patch_size": patch,
        "width": width,
        "depths": tuple(count_blocks(tensors, rf"features\.{i}\.(\d+)\..*") for i in stages),
        "heads": tuple(shape_of(tensors, table, 2, where)[1] for table in tables),
        "window_size": _window(tensors, where),
        "mlp_ratio": shape_of(tensors, "features.1.0.mlp.0.weight", 2, where)[0] / width,
        "norm_eps": SWIN_EPS,
        "classes": shape_of(tensors, "head.weight", 2, where)[0] if "head.weight" in tensors else 0,
    }
    return SwinConfig.parse(values, where)


def _window(tensors: Mapping[str, Tensor], where: str) -> Grid:
    """Tell the window from the table of distances, of which h x w tokens have (2 h - 1) (2 w - 1).

    The index beside the table tells height from width; without it the window must be a square.
    """
    rows = shape_of(tensors, "features.1.0.attn.relative_position_bias_table", 2, where)[0]
    sides = [side for side in range(1, rows + 1, 2) if rows % side == 0]
    windows = [((side + 1) // 2, (rows // side + 1) // 2) for side in sides if rows % 2]
    index = tensors.get("features.1.0.attn.relative_position_index")
    for window in windows:
        if index is None and window[0] == window[1]:
            return window
        if index is not None and index.numel() == (window[0] * window[1]) ** 2:
            if torch.equal(index.flatten().long(), relative_index(window)):
                return window
    raise WeightsError(f"{where}: has {rows} relative positions, which are those of no window")


def swin_indices(config: SwinConfig) -> dict[str, Tensor]:
    """Give the tables of indices that torchvision keeps with a Swin's weights."""
    return {
        f"features.{2 * stage + 1}.{i}.attn.relative_position_index": relative_index(
            config.window_size
        )
        for stage, depth in enumerate(config.depths)
        for i in range(depth)
    }


def relative_index(window: Grid) -> Tensor:
    """Give the row of the bias table for each pair of tokens of a window, query by query."""
    y, x = torch.meshgrid(*(torch.arange(side) for side in window), indexing="ij")
    down, across = (each.flatten()[:, None] - each.flatten() for each in (y, x))  # n n
    rows = (down + window[0] - 1) * (2 * window[1] - 1) + across + window[1] - 1
    return rows.flatten()
