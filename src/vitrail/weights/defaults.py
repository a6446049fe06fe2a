"""How images become inputs, where a file does not say it, by the habits of its makers."""

from vitrail.data.preprocess import Preprocess
from vitrail.models import BackboneConfig

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

# Dosovitskiy et al. 2021 and Steiner et al. 2022 (AugReg), and timm's files of them: 0.5, crop 0.9;
# all others of timm: ImageNet's mean and deviation, crop 0.9, ResNets 0.875, DINOv2 and v3 1.0.


def by_name(name: str, config: BackboneConfig) -> tuple[Preprocess | None, str]:
    """Give the preprocessing that timm's first weights of a model have, and a line that says so."""
    half = name.startswith(("vit_", "resnetv2_")) and "dino" not in name
    crop = 1.0 if "dino" in name or name.startswith("resnetv2_") else 0.9
    if name.startswith("resnet") and not name.startswith("resnetv2_"):
        crop = 0.875
    preprocess = default(config, *(HALF if half else IMAGENET), crop_fraction=crop)
    kind = "0.5" if half else "ImageNet's"
    return preprocess, (
        f"the file does not say its preprocessing; mean and deviation {kind}, bicubic, "
        f"crop {crop:g} are assumed: set model.preprocess where it is another"
    )


def default(
    config: BackboneConfig,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    *,
    crop_fraction: float = 1.0,
    interpolation: str = "bicubic",
    resize: str = "crop",
) -> Preprocess | None:
    """Give a contract for the model's image size; of other than 3 channels there is none."""
    channels = config.in_channels
    if channels not in (1, 3):
        return None
    if channels == 1:
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    values = {
        "size": config.image_size,
        "channels": channels,
        "resize": resize,
        "interpolation": interpolation,
        "crop_fraction": crop_fraction,
        "mean": mean,
        "std": std,
    }
    return Preprocess.parse(values, "preprocess")
