"""DeiT's and DeiT III's own checkpoints.

Source: Touvron et al. 2021, arXiv:2012.12877, and 2022, arXiv:2204.07118; the code is
facebookresearch/deit.
"""

from dataclasses import replace

from vitrail.models import MODELS
from vitrail.models.vit_config import ViTConfig
from vitrail.weights.foreign import Foreign, Format
from vitrail.weights.originals import CROP, Recipe, admits, read_vit
from vitrail.weights.source import Source


def _crop(config: ViTConfig) -> float:
    """DeiT III was tested on whole images; its code has DeiT's crop as default."""
    return CROP if config.layer_scale is None else 1.0


RECIPE = Recipe(
    whose="DeiT",
    settings={"position_rule": "bicubic"},
    names=((".ls1.gamma", ".gamma_1"), (".ls2.gamma", ".gamma_2")),
    crop=_crop,
)


def matches(source: Source) -> bool:
    """Whether there is a distillation token, or DeiT III's layer scale.

    DeiT without distillation has the names of any ViT of timm's and is not recognised; it is read
    all the same where the format is given.
    """
    if not admits(source) or source.has("reg_token"):  # timm's DINOv3 has such a layer scale
        return False
    return source.has("dist_token") or source.has("blocks.0.gamma_1", "blocks.0.attn.qkv.bias")


def read(source: Source) -> Foreign:
    """Read a model of DeiT, distilled or not, or of DeiT III.

    Raises:
        WeightsError, ConfigError: as `read_vit`.
    """
    recipe = RECIPE
    if source.has("blocks.0.gamma_1"):
        recipe = replace(recipe, settings={**recipe.settings, "layer_scale": 1e-6})
    found = read_vit(source, recipe)
    name = found.name.replace("vit_", "deit_", 1)  # the same sizes have both names
    return replace(found, name=name) if name in MODELS else found


DEIT = Format("DeiT's own .pth, distilled or not, and DeiT III's", matches, read, admits=admits)
