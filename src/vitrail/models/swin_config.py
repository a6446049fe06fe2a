"""The sizes of Swin Transformers, and those that have a name.

Source: Liu et al. 2021, arXiv:2103.14030, section 3.3; Microsoft's code for those of 384 pixels.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from vitrail.models.base import BackboneConfig, Depth, Positive
from vitrail.models.resample import Grid


class SwinConfig(BackboneConfig):
    """The sizes of a Swin Transformer. Its images may have any height and width."""

    kind: Literal["swin"] = "swin"
    patch_size: Positive = 4
    """Height and width of a patch in pixels."""
    width: Positive = 96
    """Features per token of the first stage; each later stage has twice those of the one before."""
    depths: Annotated[tuple[Depth, ...], Field(min_length=1)] = (2, 2, 6, 2)
    """Number of blocks of each stage; every second one has shifted windows."""
    heads: Annotated[tuple[Positive, ...], Field(min_length=1)] = (3, 6, 12, 24)
    """Attention heads per block, of each stage."""
    window_size: tuple[Positive, Positive] = (7, 7)
    """Height and width of a window in tokens, in every stage and for images of every size."""
    mlp_ratio: Annotated[float, Field(gt=0)] = 4.0
    """Hidden features of the MLP, as a multiple of the width of the stage."""
    norm_eps: Annotated[float, Field(gt=0)] = 1e-5
    """Added to the variance in every norm."""

    @model_validator(mode="after")
    def _check(self) -> "SwinConfig":
        if len(self.depths) != len(self.heads):
            raise ValueError(
                f"depths={self.depths} and heads={self.heads} must have one number a stage each"
            )
        for stage, (width, heads) in enumerate(zip(self.widths, self.heads, strict=True)):
            if width % heads:
                raise ValueError(
                    f"heads={self.heads}: {heads} heads of stage {stage} must divide its {width} "
                    f"features, which follow from width={self.width}"
                )
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Features per token of each stage."""
        return tuple(self.width * 2**stage for stage in range(len(self.depths)))

    @property
    def tokens(self) -> int:
        """Tokens of the first stage, for an image of `image_size`."""
        rows, columns = self.grids(*self.image_size)[0]
        return rows * columns

    def grids(self, height: int, width: int) -> tuple[Grid, ...]:
        """Rows and columns of the map of each stage, for an image of this size in pixels."""
        steps = [self.patch_size * 2**stage for stage in range(len(self.depths))]
        return tuple((-(-height // step), -(-width // step)) for step in steps)


_SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"width": 96, "depths": (2, 2, 6, 2), "heads": (3, 6, 12, 24)},
    "small": {"width": 96, "depths": (2, 2, 18, 2), "heads": (3, 6, 12, 24)},
    "base": {"width": 128, "depths": (2, 2, 18, 2), "heads": (4, 8, 16, 32)},
    "large": {"width": 192, "depths": (2, 2, 18, 2), "heads": (6, 12, 24, 48)},
}
# (window in tokens, image in pixels) of each size, as timm has them
_VARIANTS = {
    "tiny": [(7, 224)],
    "small": [(7, 224)],
    "base": [(7, 224), (12, 384)],
    "large": [(7, 224), (12, 384)],
}
SWIN_MODELS: dict[str, SwinConfig] = {
    f"swin_{size}_patch4_window{window}_{image}": SwinConfig(
        image_size=(image, image), window_size=(window, window), **_SIZES[size]
    )
    for size, variants in _VARIANTS.items()
    for window, image in variants
}
