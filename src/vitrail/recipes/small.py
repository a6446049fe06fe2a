"""Small data on an ordinary computer, from scratch."""

from vitrail.data.augment import AugmentConfig
from vitrail.train.config import DataConfig, InputConfig, ModelConfig, RunConfig
from vitrail.train.learning import OptimConfig


def glyphs() -> RunConfig:
    """The letters A-Z of typefaces never seen, with a 2.7 M parameter ViT.

    Command: vitrail train --data glyphs --out RUN
    Score: 96.9 % of the test images; seeds 0 to 2, standard deviation 0.7 points
    Time: 132 s on 2 cores of an Intel Xeon with AMX
    Source: measured here, benchmarks/LOG.md
    """
    return RunConfig(
        data=DataConfig(source="glyphs"),
        model=ModelConfig(
            name="vit_tiny_patch16_224", image_size=(32, 32), patch_size=8, depth=6, drop_path=0.05
        ),
        input=InputConfig(channels=1),
        augment=AugmentConfig(
            flip=False, rotate=10, translate=0.08, scale=0.2, shear=12, warp=0.04
        ),
        train=OptimConfig(epochs=24, batch_size=128, lr=2e-3, warmup_epochs=2, ema=0.995),
        eval_every_epochs=4,
        save_every_epochs=4,
    )


def digits() -> RunConfig:
    """scikit-learn's scanned digits, 8 x 8 pixels, in patches of 2.

    Command: vitrail train --data digits --out RUN
    Score: 97.3 % of the test images; seeds 0 to 2, standard deviation 1.1 points
    Time: 26 s on 1 core of an AMD EPYC
    Source: measured here
    """
    return RunConfig(
        data=DataConfig(source="digits"),
        model=ModelConfig(
            name="vit_tiny_patch16_224",
            image_size=(8, 8),
            patch_size=2,
            width=64,
            depth=4,
            heads=4,
        ),
        input=InputConfig(channels=1),
        augment=AugmentConfig(flip=False, rotate=8, translate=0.08, scale=0.1, shear=5),
        train=OptimConfig(epochs=40, batch_size=64, lr=2e-3, warmup_epochs=2, ema=0.99),
        eval_every_epochs=10,
        save_every_epochs=10,
    )


def photos() -> RunConfig:
    """A folder of some hundred or thousand colour photographs, from scratch.

    Command: vitrail train --data DIR --out RUN
    Score: depends on the images
    Time: ask vitrail plan
    Source: ours; sizes for an ordinary computer, augmentation for few images
    """
    return RunConfig(
        model=ModelConfig(
            name="vit_tiny_patch16_224", image_size=(96, 96), patch_size=12, depth=8, drop_path=0.05
        ),
        augment=AugmentConfig(
            crop_area=(0.35, 1.0), flip=True, rotate=10, shear=5, erase=0.2, mixup=0.2
        ),
        train=OptimConfig(epochs=100, batch_size=64, lr=1e-3, warmup_epochs=5, ema=0.995),
    )
