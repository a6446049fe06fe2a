"""Named, whole configurations: where to start from."""

from collections.abc import Callable

from vitrail.errors import ConfigError, did_you_mean
from vitrail.recipes.augreg import augreg_b16_imagenet, augreg_b16_imagenet21k, augreg_s16_imagenet
from vitrail.recipes.deit import deit_b16, deit_finetune_384, deit_s16, deit_ti16
from vitrail.recipes.deit3 import deit3_b16, deit3_finetune, deit3_l16, deit3_s16
from vitrail.recipes.few import finetune_few
from vitrail.recipes.finetune import finetune
from vitrail.recipes.plain_vit import plain_vit_s16_90, plain_vit_s16_150, plain_vit_s16_300
from vitrail.recipes.resnet import resnet50_90, resnet50_a1, resnet50_a2, resnet50_a3
from vitrail.recipes.small import digits, glyphs, photos
from vitrail.recipes.swin import swin_b, swin_b_imagenet22k, swin_finetune_384, swin_s, swin_t
from vitrail.recipes.vit_finetuning import (
    vit_finetune_cifar10,
    vit_finetune_cifar100,
    vit_finetune_flowers,
    vit_finetune_imagenet,
    vit_finetune_pets,
    vit_finetune_vtab,
)
from vitrail.recipes.vit_pretraining import (
    vit_b16_imagenet,
    vit_b16_imagenet21k,
    vit_b16_jft300m,
    vit_h14_jft300m,
    vit_l16_imagenet21k,
    vit_l16_jft300m,
)
from vitrail.train.config import RunConfig

# From no weights or from any, for images of one's own.
SMALL: dict[str, Callable[[], RunConfig]] = {
    "glyphs": glyphs,
    "digits": digits,
    "photos": photos,
    "finetune": finetune,
    "finetune_few": finetune_few,
}
# From nothing, on ImageNet or more.
PRETRAINING: dict[str, Callable[[], RunConfig]] = {
    "plain_vit_s16_90": plain_vit_s16_90,
    "plain_vit_s16_150": plain_vit_s16_150,
    "plain_vit_s16_300": plain_vit_s16_300,
    "augreg_s16_imagenet": augreg_s16_imagenet,
    "augreg_b16_imagenet": augreg_b16_imagenet,
    "augreg_b16_imagenet21k": augreg_b16_imagenet21k,
    "deit_ti16": deit_ti16,
    "deit_s16": deit_s16,
    "deit_b16": deit_b16,
    "deit3_s16": deit3_s16,
    "deit3_b16": deit3_b16,
    "deit3_l16": deit3_l16,
    "swin_t": swin_t,
    "swin_s": swin_s,
    "swin_b": swin_b,
    "swin_b_imagenet22k": swin_b_imagenet22k,
    "resnet50_90": resnet50_90,
    "resnet50_a1": resnet50_a1,
    "resnet50_a2": resnet50_a2,
    "resnet50_a3": resnet50_a3,
    "vit_b16_imagenet": vit_b16_imagenet,
    "vit_b16_imagenet21k": vit_b16_imagenet21k,
    "vit_l16_imagenet21k": vit_l16_imagenet21k,
    "vit_b16_jft300m": vit_b16_jft300m,
    "vit_l16_jft300m": vit_l16_jft300m,
    "vit_h14_jft300m": vit_h14_jft300m,
}
# From weights, as the papers do it.
FINE_TUNING: dict[str, Callable[[], RunConfig]] = {
    "vit_finetune_imagenet": vit_finetune_imagenet,
    "vit_finetune_cifar10": vit_finetune_cifar10,
    "vit_finetune_cifar100": vit_finetune_cifar100,
    "vit_finetune_pets": vit_finetune_pets,
    "vit_finetune_flowers": vit_finetune_flowers,
    "vit_finetune_vtab": vit_finetune_vtab,
    "deit_finetune_384": deit_finetune_384,
    "deit3_finetune": deit3_finetune,
    "swin_finetune_384": swin_finetune_384,
}
RECIPES: dict[str, Callable[[], RunConfig]] = {**SMALL, **PRETRAINING, **FINE_TUNING}


def find_recipe(name: str | None, source: str) -> RunConfig:
    """Give the recipe called `name`; without a name, the one made for this data.

    Built-in data have a recipe of their own name; everything else gets `photos`.

    Raises:
        ConfigError: there is no such recipe.
    """
    if name is None:
        name = source if source in RECIPES else "photos"
    if name not in RECIPES:
        raise ConfigError(
            f"recipe={name!r}: no such recipe{did_you_mean(name, RECIPES)}; "
            f"there is {', '.join(RECIPES)}"
        )
    return RECIPES[name]()
