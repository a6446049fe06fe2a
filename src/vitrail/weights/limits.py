"""What a format has no place for is refused by name."""

from collections.abc import Mapping, Sequence
from typing import Any

from vitrail.errors import WeightsError
from vitrail.models import BackboneConfig

# A ViT as in the paper: what older layouts hold.
PAPER: dict[str, tuple[Any, ...]] = {
    "mlp": ("gelu",),
    "pool": ("token",),
    "norm_after_pool": (False,),
    "distilled": (False,),
    "registers": (0,),
    "positions": ("learned",),
    "layer_scale": (None,),
    "qk_norm": (False,),
    "qkv_bias": ("full",),
}


def require(config: BackboneConfig, allowed: Mapping[str, Sequence[Any]], whose: str) -> None:
    """Compare settings with those that a layout can hold.

    Args:
        allowed: the values of each setting that has not all of them.
        whose: the layout, for errors.
    Raises:
        WeightsError: a setting has another value.
    """
    values = dict(config)
    for key, possible in allowed.items():
        if values[key] not in possible:
            raise WeightsError(
                f"{whose} has no place for {key}={values[key]}, only for "
                f"{' or '.join(f'{key}={value}' for value in possible)}; save as vitrail"
            )
