"""What the recipes of several papers share: sizes of data sets, and how images come in."""

from vitrail.train.config import InputConfig

# Images to train on.
IMAGENET = 1_281_167  # ILSVRC 2012
IMAGENET_21K = 14_197_122
JFT_300M = 303_000_000
CIFAR = 50_000  # CIFAR-10 and CIFAR-100
PETS = 3_680  # Oxford-IIIT Pets
FLOWERS = 1_020  # Oxford Flowers-102
VTAB_1K = 1_000  # each of its 19 tasks

GOOGLE_INPUT = InputConfig(crop_fraction=224 / 256)  # levels from -1 to 1
IMAGENET_INPUT = InputConfig(
    crop_fraction=224 / 256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)
WHOLE_INPUT = IMAGENET_INPUT.replace(crop_fraction=1.0)


def passes(steps: int, batch_size: int, images: int) -> float:
    """Give so many steps as passes over so many images, since recipes count passes."""
    return steps * batch_size / images
