"""Pretraining as in the paper: Dosovitskiy et al. 2021, arXiv:2010.11929, table 3."""

from vitrail.data.augment import AugmentConfig
from vitrail.recipes.common import (
    GOOGLE_INPUT,
    IMAGENET,
    IMAGENET_21K,
    JFT_300M,
    passes,
)
from vitrail.train.config import ModelConfig, RunConfig
from vitrail.train.learning import OptimConfig

BATCH = 4096
WARMUP_STEPS = 10_000
LINEAR_END = 1e-5  # learning rate at the end of a line, in the authors' code


def vit_b16_jft300m() -> RunConfig:
    """ViT-B/16 on 303 million images, as the paper's JFT-300M, which nobody else has.

    Command: vitrail train --recipe vit_b16_jft300m --data DIR --out RUN
    Score: 84.15 % of ImageNet after vit_finetune_imagenet (table 5)
    Time: not run here
    Source: Dosovitskiy et al. 2021, arXiv:2010.11929, table 3: Adam, beta2 0.999, 7 passes, batch
    4096, learning rate 8e-4, linear, warm-up 10,000 steps, weight decay 0.1, no dropout.
    Differs: the head is one layer, not an MLP.
    """
    return _on_jft("vit_base_patch16_224", epochs=7, lr=8e-4)


def vit_l16_jft300m() -> RunConfig:
    """ViT-L/16 on 303 million images, as the paper's JFT-300M.

    Command: vitrail train --recipe vit_l16_jft300m --data DIR --out RUN
    Score: 87.76 % of ImageNet, fine-tuned at 512 px with averaged weights (table 2)
    Time: not run here; 680 TPUv3-core-days there (table 2)
    Source: Dosovitskiy et al. 2021, arXiv:2010.11929, table 3: as vit_b16_jft300m, but 14 passes,
    learning rate 4e-4.
    Differs: the head is one layer, not an MLP.
    """
    return _on_jft("vit_large_patch16_224", epochs=14, lr=4e-4)


def vit_h14_jft300m() -> RunConfig:
    """ViT-H/14 on 303 million images, as the paper's JFT-300M.

    Command: vitrail train --recipe vit_h14_jft300m --data DIR --out RUN
    Score: 88.55 % of ImageNet, fine-tuned at 518 px with averaged weights (table 2)
    Time: not run here; 2,500 TPUv3-core-days there (table 2)
    Source: Dosovitskiy et al. 2021, arXiv:2010.11929, table 3: as vit_b16_jft300m, but 14 passes,
    learning rate 3e-4.
    Differs: the head is one layer, not an MLP.
    """
    return _on_jft("vit_huge_patch14_224", epochs=14, lr=3e-4)


def vit_b16_imagenet21k() -> RunConfig:
    """ViT-B/16 on the 14 million images of ImageNet-21k.

    Command: vitrail train --recipe vit_b16_imagenet21k --data DIR --out RUN
    Score: 83.97 % of ImageNet after vit_finetune_imagenet (table 5)
    Time: not run here
    Source: Dosovitskiy et al. 2021, arXiv:2010.11929, table 3: Adam, beta2 0.999, 90 passes, batch
    4096, learning rate 1e-3, linear, warm-up 10,000 steps, weight decay 0.03, dropout 0.1.
    Differs: no dropout, which Vitrail does not have; the head is one layer, not an MLP.
    """
    return _on_imagenet21k("vit_base_patch16_224")


def vit_l16_imagenet21k() -> RunConfig:
    """ViT-L/16 on the 14 million images of ImageNet-21k.

    Command: vitrail train --recipe vit_l16_imagenet21k --data DIR --out RUN
    Score: 85.30 % of ImageNet, fine-tuned at 512 px with averaged weights (table 2)
    Time: not run here; 230 TPUv3-core-days there (table 2)
    Source: Dosovitskiy et al. 2021, arXiv:2010.11929, table 3: as vit_b16_imagenet21k; 30 or 90
    passes.
    Differs: no dropout, which Vitrail does not have; the head is one layer, not an MLP.
    """
    return _on_imagenet21k("vit_large_patch16_224")


def vit_b16_imagenet() -> RunConfig:
    """ViT-B/16 on ImageNet alone; plain_vit_s16_300 is better and cheaper.

    Command: vitrail train --recipe vit_b16_imagenet --data DIR --out RUN
    Score: 77.91 % of ImageNet after vit_finetune_imagenet at 384 px (table 5)
    Time: not run here
    Source: Dosovitskiy et al. 2021, arXiv:2010.11929, table 3: Adam, beta2 0.999, 300 passes, batch
    4096, learning rate 3e-3, cosine, warm-up 10,000 steps, weight decay 0.3, dropout 0.1, gradients
    clipped at 1.
    Differs: no dropout, which Vitrail does not have; the head is one layer, not an MLP.
    """
    train = _optim(300, 3e-3, IMAGENET).replace(
        schedule="cosine", final_lr=0.0, weight_decay=0.3, clip_norm=1.0
    )
    return _pretraining("vit_base_patch16_224", train, eval_every=5.0, save_every=1.0)


def _on_jft(name: str, epochs: int, lr: float) -> RunConfig:
    train = _optim(epochs, lr, JFT_300M).replace(weight_decay=0.1)
    return _pretraining(name, train, eval_every=0.25, save_every=0.05)


def _on_imagenet21k(name: str) -> RunConfig:
    train = _optim(90, 1e-3, IMAGENET_21K).replace(weight_decay=0.03)
    return _pretraining(name, train, eval_every=2.0, save_every=0.5)


def _optim(epochs: int, lr: float, images: int) -> OptimConfig:
    """Give what all lines of the table have in common, and a linear schedule without clipping."""
    return OptimConfig(
        epochs=epochs,
        batch_size=BATCH,
        lr=lr,
        schedule="linear",
        final_lr=LINEAR_END / lr,
        warmup_epochs=passes(WARMUP_STEPS, BATCH, images),
        clip_norm=None,
        label_smoothing=0.0,
        ema=0.0,
    )


def _pretraining(
    name: str, train: OptimConfig, *, eval_every: float, save_every: float
) -> RunConfig:
    return RunConfig(
        model=ModelConfig(name=name),
        input=GOOGLE_INPUT,
        augment=AugmentConfig(crop_area=(0.05, 1.0)),
        train=train,
        log_every=50,
        eval_every_epochs=eval_every,
        save_every_epochs=save_every,
    )
