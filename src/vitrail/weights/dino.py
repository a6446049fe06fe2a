"""DINO's and DINOv2's own checkpoints: the backbone alone, or what a training saves.

Source: Caron et al. 2021, arXiv:2104.14294, and Oquab et al. 2023, arXiv:2304.07193; registers:
Darcet et al. 2024, arXiv:2309.16588. The code is facebookresearch/dino and dinov2. Both call the
height of an image w and its width h, in all places alike, so that images which are not square get
the positions that they get here.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from vitrail.errors import WeightsError
from vitrail.weights.foreign import Foreign, Format
from vitrail.weights.infer import shape_of
from vitrail.weights.names import Rule
from vitrail.weights.originals import Recipe, admits, is_described, read_vit
from vitrail.weights.source import Source

UNUSED = {r"mask_token|masked_embed": "stands for hidden patches in the pretraining"}
RECIPE = Recipe(whose="DINO", settings={"position_rule": "offset"}, unused=UNUSED)
RECIPE_V2 = Recipe(
    whose="DINOv2",
    settings={"position_rule": "offset", "classes": 0},
    names=((".mlp.fc1.", ".mlp.w12."), (".mlp.fc2.", ".mlp.w3.")),
    unused=UNUSED,
)
CHUNK = r"blocks\.\d+\.(?=\d+\.)"  # a group of blocks, which count on from one group to the next


def is_dino(source: Source) -> bool:
    """Whether there is a teacher or a student whose backbone is a ViT.

    A backbone alone has timm's names and is not recognised; it is read all the same where the
    format is given.
    """
    return admits(source) and not {"teacher", "student"}.isdisjoint(source.wrapped_in)


def read_dino(source: Source) -> Foreign:
    """Read the backbone of DINO.

    Raises:
        WeightsError, ConfigError: as `read_vit`.
    """
    return read_vit(source, RECIPE)


def is_dinov2(source: Source) -> bool:
    """Whether there are registers, blocks in groups, or a mask token beside layer scale."""
    if is_described(source) or not source.has("cls_token", "pos_embed", "patch_embed.proj.weight"):
        return False
    chunked = any(re.match(CHUNK, name) for name in source.tensors)
    scaled = source.has("mask_token") and source.has("blocks.0.ls1.gamma")
    return chunked or scaled or source.has("register_tokens")


def read_dinov2(source: Source) -> Foreign:
    """Read the backbone of DINOv2, with or without registers.

    With registers the table of positions has a row for the class token, but none for the registers;
    here the row is added to the class token, which is what the model does first.

    Raises:
        WeightsError, ConfigError: as `read_vit`.
    """
    source = _unchunk(source)
    recipe = RECIPE_V2
    if not any(".mlp.w12." in name for name in source.tensors):
        recipe = replace(recipe, names=())
    if source.has("register_tokens"):
        table = shape_of(source.tensors, "pos_embed", 3, source.where)
        token = shape_of(source.tensors, "cls_token", 3, source.where)
        if (token[0], token[1]) != (1, 1) or token[2] != table[2]:
            raise WeightsError(
                f"{source.where}: cls_token {list(token)} and pos_embed {list(table)} must have "
                "one width"
            )
        recipe = replace(
            recipe,
            settings={**recipe.settings, "position_rule": "antialias", "prefix_positions": False},
            names=(*recipe.names, ("reg_token", "register_tokens")),
            rules=(
                Rule("cls_token", ("cls_token", "pos_embed"), _with_row, _no_way_back),
                Rule("pos_embed", ("pos_embed",), _without_row, _no_way_back),
            ),
        )
    return read_vit(source, recipe)


def _with_row(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] + parts[1][:, :1]


def _without_row(parts: Sequence[Tensor]) -> Tensor:
    return parts[0][:, 1:]


def _no_way_back(tensor: Tensor) -> Sequence[Tensor]:
    raise AssertionError("DINOv2's own format is only read")


def _unchunk(source: Source) -> Source:
    """Take the blocks out of their groups. Raises WeightsError if two have the same number."""
    tensors = {re.sub(f"^{CHUNK}", "blocks.", name): t for name, t in source.tensors.items()}
    if len(tensors) < len(source.tensors):
        raise WeightsError(f"{source.where}: has two blocks with the same number")
    return replace(source, tensors=tensors)


DINO = Format(
    "DINO's own .pth: the backbone, or teacher and student", is_dino, read_dino, admits=admits
)
DINOV2 = Format(
    "DINOv2's own .pth, with or without registers", is_dinov2, read_dinov2, admits=admits
)
