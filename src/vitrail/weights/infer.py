"""The sizes of a ViT from its tensors, for files that do not say them.

Names are ours (timm's). What no tensor can tell, the number of heads and the shape of the grid, is
looked up among the named models, or said to be assumed.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from vitrail.errors import WeightsError
from vitrail.models import MODELS, BackboneConfig, build_model
from vitrail.models.registry import resize_model
from vitrail.models.vit_config import ViTConfig
from vitrail.weights.grids import find_grid

# Of these tensors sizes are read; so many axes they have.
AXES = {
    "blocks.0.mlp.fc1.weight": 2,
    "blocks.0.mlp.fc2.weight": 2,
    "blocks.0.attn.q_norm.weight": 1,
    "pos_embed": 3,
    "reg_token": 3,
    "head.weight": 2,
}


def infer_vit(
    tensors: Mapping[str, Tensor],
    where: str,
    trained_size: tuple[int, int] | None = None,
    **known: Any,
) -> tuple[ViTConfig, tuple[str, ...]]:
    """Read the sizes off the tensors.

    Args:
        tensors: a ViT's, under our names.
        where: the file, for errors.
        trained_size: height and width in pixels that it was made for, where that is known.
        known: settings that the tensors cannot tell, such as `norm_eps`; they win.
    Returns:
        the sizes, and what was assumed, one line each.
    Raises:
        WeightsError: the tensors are not a ViT's, or leave the shape of the grid open.
    """
    width, channels, patch, across = shape_of(tensors, "patch_embed.proj.weight", 4, where)
    if patch != across:
        raise WeightsError(f"{where}: has patches of {patch}x{across} pixels; here they are square")
    _check_axes(tensors, where)
    sizes: dict[str, Any] = {
        "width": width,
        "in_channels": channels,
        "patch_size": patch,
        "depth": count_blocks(tensors, r"blocks\.(\d+)\..*"),
        "layer_scale": 1e-5 if "blocks.0.ls1.gamma" in tensors else None,
        "qk_norm": "blocks.0.attn.q_norm.weight" in tensors,
        "qkv_bias": _qkv_bias(tensors),
        "classes": tensors["head.weight"].shape[0] if "head.weight" in tensors else 0,
        **_mlp(tensors, width),
        **_tokens(tensors),
    } | known
    notes: list[str] = []
    if "heads" not in sizes:
        sizes["heads"] = _heads(tensors, sizes, notes)
    sizes |= _positions(tensors, sizes, where, trained_size, notes)
    return ViTConfig.parse(sizes | known, where), tuple(notes)


def _check_axes(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse tensors whose sizes cannot be read. Raises WeightsError."""
    for name, axes in AXES.items():
        if name in tensors or ".mlp." in name:
            shape_of(tensors, name, axes, where)


def shape_of(tensors: Mapping[str, Tensor], name: str, axes: int, where: str) -> tuple[int, ...]:
    """Give the shape of a tensor from which sizes are read.

    Raises:
        WeightsError: it is missing, empty, or has not so many axes.
    """
    if name not in tensors:
        raise WeightsError(f"{where}: lacks {name!r}")
    shape = tuple(tensors[name].shape)
    if len(shape) != axes or 0 in shape:
        raise WeightsError(
            f"{where}: {name} is {list(shape)}; it must have {axes} axes, none empty"
        )
    return shape


def count_blocks(tensors: Iterable[str], pattern: str) -> int:
    """Count the different numbers that `pattern` captures among the names."""
    return len({match[1] for name in tensors if (match := re.fullmatch(pattern, name))})


@cache
def state_shapes(config: BackboneConfig) -> dict[str, tuple[int, ...]]:
    """Give the names and shapes of the tensors of a model of these sizes."""
    with torch.device("meta"):
        model = build_model(config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def state_names(config: BackboneConfig) -> list[str]:
    """Give the names of the tensors of a model of these sizes, in its order."""
    return list(state_shapes(config))


def find_named(
    kind: str, tensors: Mapping[str, Tensor], where: str, trained_size: tuple[int, int] | None
) -> tuple[str, BackboneConfig]:
    """Find the named model of a kind whose tensors these are, whatever its classes and channels.

    Args:
        tensors: under our names.
        trained_size: height and width in pixels; those in the name if None.
    Raises:
        WeightsError: it is none of the named ones.
    """
    given = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    named = {name: config for name, config in MODELS.items() if dict(config)["kind"] == kind}
    for name, config in named.items():
        with torch.device("meta"):
            model = build_model(config)
        head, stem = given.get(model.head_names[0]), given.get(model.stem_weight)
        changes: dict[str, Any] = {"classes": head[0] if head else 0}
        changes |= {"in_channels": stem[1]} if stem else {}
        changes |= {"image_size": trained_size} if trained_size else {}
        found = resize_model(config, where, changes)
        shapes = state_shapes(found)
        if all(given.get(each) == shape for each, shape in shapes.items() if _tells(each)):
            return name, found
    raise WeightsError(
        f"{where}: tensors of a {kind}, but of none of the named ones ({', '.join(named)})"
    )


def _tells(name: str) -> bool:
    """Whether a tensor must be there: older files have no counters of batch norms."""
    return not name.endswith("num_batches_tracked")


def name_of(config: BackboneConfig) -> str:
    """Find the model that has these sizes, whatever its classes; the image size too if it can be.

    Gives `""` if there is none.
    """
    free = {"classes", "drop_path", "patch_dropout", "in_channels", "position_rule"}
    for ignored in (free, free | {"image_size"}):
        for name, known in MODELS.items():
            if type(known) is type(config) and _differ(config, known) <= ignored:
                return name
    return ""


def _differ(one: BackboneConfig, other: BackboneConfig) -> set[str]:
    mine, theirs = dict(one), dict(other)
    return {key for key in mine if mine[key] != theirs[key]}


def _qkv_bias(tensors: Mapping[str, Tensor]) -> str:
    if "blocks.0.attn.q_bias" in tensors:
        return "no_key"
    return "full" if "blocks.0.attn.qkv.bias" in tensors else "none"


def _mlp(tensors: Mapping[str, Tensor], width: int) -> dict[str, Any]:
    first, second = tensors["blocks.0.mlp.fc1.weight"], tensors["blocks.0.mlp.fc2.weight"]
    gated = first.shape[0] == 2 * second.shape[1]
    return {"mlp": "swiglu" if gated else "gelu", "mlp_ratio": second.shape[1] / width}


def _tokens(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Tell which prefix tokens there are, and how they are pooled."""
    width = tensors["patch_embed.proj.weight"].shape[0]
    has_class = "cls_token" in tensors
    pool = "token" if has_class else "mean"
    if "fc_norm.weight" in tensors:
        pool = "mean"
    if "attn_pool.latent" in tensors:
        pool = "map"
    elif "head.weight" in tensors and tensors["head.weight"].shape[1] == 2 * width:
        pool = "token+mean"
    return {
        "class_token": has_class,
        "distilled": "dist_token" in tensors,
        "registers": tensors["reg_token"].shape[1] if "reg_token" in tensors else 0,
        "pool": pool,
        "norm_after_pool": "fc_norm.weight" in tensors,
    }


def _heads(tensors: Mapping[str, Tensor], sizes: dict[str, Any], notes: list[str]) -> int:
    """Find the number of heads: by the norm of a head, among the named models, or 64 a head."""
    width = sizes["width"]
    if sizes["qk_norm"]:
        return int(width // len(tensors["blocks.0.attn.q_norm.weight"]))
    same = ("width", "depth", "mlp", "class_token", "registers", "pool", "norm_after_pool")
    known = {
        each.heads
        for each in MODELS.values()
        if isinstance(each, ViTConfig)
        and all(getattr(each, key) == sizes[key] for key in same)
        and abs(each.mlp_ratio - sizes["mlp_ratio"]) < 1e-3
    }
    if len(known) == 1:
        return known.pop()
    heads = max(1, int(width) // 64)
    notes.append(f"the file does not say the number of heads; heads={heads} (64 wide) is assumed")
    return heads


def _positions(
    tensors: Mapping[str, Tensor],
    sizes: dict[str, Any],
    where: str,
    trained_size: tuple[int, int] | None,
    notes: list[str],
) -> dict[str, Any]:
    """Tell the image size, and which tokens have positions."""
    patch = sizes["patch_size"]
    prefix = int(sizes["class_token"]) + int(sizes["distilled"]) + sizes["registers"]
    if "pos_embed" not in tensors:
        size = trained_size or (14 * patch, 14 * patch)
        return {"positions": "none", "image_size": size}
    rows = tensors["pos_embed"].shape[1]
    # The prefix tokens have rows in the table, or not: in DINOv2 with registers and in DeiT III.
    candidates = [prefix]
    if sizes["registers"] or sizes["layer_scale"]:
        candidates = [0, prefix] if sizes["registers"] else [prefix, 0]
    grid, counted = find_grid(rows, candidates, patch, where, trained_size, notes)
    image_size = (grid[0] * patch, grid[1] * patch)
    return {"image_size": image_size, "prefix_positions": counted > 0 or prefix == 0}
