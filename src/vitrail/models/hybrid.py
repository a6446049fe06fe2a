"""The hybrid: a ViT whose patches are cut from the map of a residual network.

Source: Dosovitskiy et al. 2021, arXiv:2010.11929, section 3.1, "Hybrid Architecture". Parameters
are called as in timm.
"""

from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from vitrail.models.base import Positive
from vitrail.models.layers import PatchEmbed
from vitrail.models.resnet_stem import ResNetStem, StemConfig, StemRoot, build_stem
from vitrail.models.resnetv2 import initialise_standardised
from vitrail.models.vit import ViT
from vitrail.models.vit_config import ViTConfig
from vitrail.models.vit_names import SIZES


class HybridConfig(ViTConfig):
    """The sizes of a hybrid. The defaults are those of R50+B/16."""

    kind: Literal["hybrid"] = "hybrid"  # type: ignore[assignment]  # a kind of its own
    patch_size: Positive = 1
    """Height and width of a patch in places of the stem's map."""
    stem: StemConfig = StemConfig()
    """The residual network before the patches."""

    @property
    def stride(self) -> int:
        """Pixels from a token to its neighbour."""
        return self.stem.stride * self.patch_size

    @property
    def stride_name(self) -> str:
        """What the stride is called in messages."""
        return "the stem's stride x patch_size"


class HybridEmbed(PatchEmbed):
    """Cut the map of a stem into patches and map each linearly to a token."""

    def __init__(self, config: HybridConfig) -> None:
        """Build the stem and the projection behind it."""
        super().__init__(config.patch_size, config.stem.channels, config.width)
        self.backbone: ResNetStem | StemRoot = build_stem(config.stem, config.in_channels)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """Give one token a patch of the map, row by row."""
        return super().forward(self.backbone(images))


class Hybrid(ViT):
    """A residual stem, then a ViT. Takes images of any size that the stride divides."""

    config: HybridConfig
    patch_embed: HybridEmbed

    def __init__(self, config: HybridConfig) -> None:
        """Build and initialise a model of these sizes."""
        super().__init__(config)
        root = "patch_embed.backbone.stem" if config.stem.depths else "patch_embed.backbone"
        self.stem_weight = f"{root}.conv.weight"

    def build_patch_embed(self, config: ViTConfig) -> PatchEmbed:
        """Build the stem and what turns its map into tokens b n d, row by row."""
        assert isinstance(config, HybridConfig)
        return HybridEmbed(config)

    def initialise(self) -> None:
        """Draw every parameter: the stem as a BiT's, the rest as a ViT's."""
        super().initialise()
        initialise_standardised(self.patch_embed.backbone)


# Dosovitskiy et al. 2021, table 1 and section 4.1 (R50+B/16, 3 stages); Steiner et al. 2021,
# arXiv:2106.10270 (R+Ti, R26+S/32, R50+L/32).
_STEMS: dict[str, dict[str, Any]] = {
    "tiny_r_s16_p8": {**SIZES["tiny"], "stem": StemConfig(depths=()), "patch_size": 8},
    "small_r26_s32": {**SIZES["small"], "stem": StemConfig(depths=(2, 2, 2, 2))},
    "base_r26_s32": {**SIZES["base"], "stem": StemConfig(depths=(2, 2, 2, 2))},
    "base_r50_s16": {**SIZES["base"], "stem": StemConfig(depths=(3, 4, 9))},
    "large_r50_s32": {**SIZES["large"], "stem": StemConfig(depths=(3, 4, 6, 3))},
}
HYBRIDS: dict[str, HybridConfig] = {
    f"vit_{name}_{image}": HybridConfig(image_size=(image, image), **sizes)
    for name, sizes in _STEMS.items()
    for image in (224, 384)
    if (name, image) != ("base_r26_s32", 384)  # timm has no such model
}
# The papers' own names.
HYBRID_ALIASES: dict[str, str] = {
    "R26+S/32": "vit_small_r26_s32_224",
    "R50+B/16": "vit_base_r50_s16_224",
    "R50+L/32": "vit_large_r50_s32_224",
}
