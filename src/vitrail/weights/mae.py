"""MAE's own checkpoints: a pretraining with its decoder, an encoder alone, a fine-tuned model.

Source: He et al. 2022, arXiv:2111.06377; the code is facebookresearch/mae. Its fixed sine positions
are read as a table, which holds the same numbers.
"""

from vitrail.models.vit_config import ViTConfig
from vitrail.weights.foreign import Foreign, Format
from vitrail.weights.originals import CROP, Recipe, admits, read_vit
from vitrail.weights.source import Source


def _crop(config: ViTConfig) -> float:
    return CROP if config.image_size[0] <= 224 else 1.0


RECIPE = Recipe(
    whose="MAE",
    settings={"position_rule": "bicubic"},
    unused={r"decoder_.*|mask_token": "decoder of the pretraining"},
    crop=_crop,
)
# Of models with a class token and a norm behind the pool that are not of MAE's code.
NOT_MAE = ("reg_token", "attn_pool.latent", "blocks.0.ls1.gamma", "blocks.0.attn.q_norm.weight")


def matches(source: Source) -> bool:
    """Whether there is MAE's decoder, or a model fine-tuned as theirs: class token and mean pool.

    An encoder alone, or one fine-tuned on its class token, has timm's names and is not recognised;
    it is read all the same where the format is given.
    """
    if not admits(source):
        return False
    if source.has("decoder_embed.weight", "decoder_pred.weight"):
        return True
    return source.has("fc_norm.weight") and not any(source.has(name) for name in NOT_MAE)


def read(source: Source) -> Foreign:
    """Read the encoder, with its head if it was fine-tuned.

    Raises:
        WeightsError, ConfigError: as `read_vit`.
    """
    return read_vit(source, RECIPE)


MAE = Format("MAE's own .pth: pretrained or fine-tuned", matches, read, admits=admits)
