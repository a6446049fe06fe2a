"""What the readers of the authors' own ViT checkpoints share: one recipe says how they differ.

All of them began as timm's ViT and keep most of its names, which are ours.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from vitrail.data.preprocess import Preprocess
from vitrail.models import BackboneConfig
from vitrail.models.vit_config import ViTConfig
from vitrail.weights.defaults import IMAGENET, default
from vitrail.weights.foreign import Foreign
from vitrail.weights.infer import infer_vit, name_of, state_names
from vitrail.weights.names import Rule, read_by, same
from vitrail.weights.source import Source

CROP = 224 / 256  # all of them resize the short side to 256 for inputs of 224


@dataclass(frozen=True)
class Recipe:
    """How the ViT checkpoints of one code base differ from our names and defaults."""

    whose: str  # for notes
    settings: Mapping[str, Any]  # that no tensor tells; they win
    names: tuple[tuple[str, str], ...] = ()  # parts of names: ours, theirs
    rules: tuple[Rule, ...] = ()  # of tensors that are more than another name
    unused: Mapping[str, str] = field(default_factory=dict)  # pattern: why
    crop: Callable[[ViTConfig], float] = lambda config: CROP  # of the evaluation


def read_vit(source: Source, recipe: Recipe) -> Foreign:
    """Read a ViT by a recipe; its images are normalised as ImageNet's.

    Raises:
        WeightsError: a tensor is missing, unknown or of an impossible shape, or the shape of the
            grid of patches is left open.
    """
    found, notes = infer_vit(
        under_our_names(source.tensors, recipe),
        source.where,
        source.trained_size,
        **recipe.settings,
    )
    special = {rule.ours: rule for rule in recipe.rules}
    rules = [
        special.get(name) or same(name, their_name(name, recipe)) for name in state_names(found)
    ]
    tensors, dropped = read_by(rules, source.tensors, recipe.unused, source.where)
    crop = recipe.crop(found)
    preprocess, note = imagenet(found, recipe.whose, crop)
    return Foreign(found, tensors, name_of(found), (), preprocess, dropped, (*notes, note))


def is_described(source: Source) -> bool:
    """Whether a description of the model lies with the weights: then they are no original ones."""
    return bool(source.own or source.config)


def admits(source: Source) -> bool:
    """Whether the tensors are those of a ViT under timm's names, as in many an original file."""
    return not is_described(source) and source.has(
        "cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"
    )


def their_name(ours: str, recipe: Recipe) -> str:
    """Give the name that a tensor of ours has in the file."""
    for mine, theirs in recipe.names:
        ours = ours.replace(mine, theirs)
    return ours


def under_our_names(tensors: Mapping[str, Tensor], recipe: Recipe) -> dict[str, Tensor]:
    """Give the tensors under our names, as far as they have one, so that sizes can be read off."""
    result = {}
    for name, tensor in tensors.items():
        for mine, theirs in recipe.names:
            name = name.replace(theirs, mine)
        result[name] = tensor
    for rule in recipe.rules:
        if all(name in tensors for name in rule.theirs):
            result[rule.ours] = rule.read([tensors[name] for name in rule.theirs])
    return result


def imagenet(
    config: BackboneConfig, whose: str, crop: float, resize: str = "crop"
) -> tuple[Preprocess | None, str]:
    """Give the preprocessing of the authors' evaluation, and a line that says so."""
    preprocess = default(config, *IMAGENET, crop_fraction=crop, resize=resize)
    how = "whole image squashed" if resize == "squash" else f"crop {crop:g}"
    return preprocess, (
        f"the file does not say its preprocessing; that of {whose} is assumed (ImageNet's mean and "
        f"deviation, bicubic, {how}): set model.preprocess where it is another"
    )
