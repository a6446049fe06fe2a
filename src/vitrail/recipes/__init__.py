"""Named, whole configurations: where to start from."""

from collections.abc import Callable

from vitrail.errors import ConfigError, did_you_mean
from vitrail.recipes.finetune import finetune
from vitrail.recipes.small import digits, glyphs, photos
from vitrail.train.config import RunConfig

RECIPES: dict[str, Callable[[], RunConfig]] = {
    "glyphs": glyphs,
    "digits": digits,
    "photos": photos,
    "finetune": finetune,
}


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
