"""How to train your ViT: Steiner et al. 2022, arXiv:2106.10270, section 3 and figure 4."""

from vitrail.data.augment import AugmentConfig
from vitrail.data.augmentation.policies import AUGREG
from vitrail.recipes.common import GOOGLE_INPUT, IMAGENET, IMAGENET_21K, passes
from vitrail.train.config import ModelConfig, RunConfig
from vitrail.train.learning import OptimConfig

BATCH = 4096
WARMUP_STEPS = 10_000


def augreg_s16_imagenet() -> RunConfig:
    """ViT-S/16 on ImageNet alone, with medium augmentation.

    Command: vitrail train --recipe augreg_s16_imagenet --data DIR --out RUN
    Score: 78.8 % of ImageNet after vit_finetune_imagenet at 224 px and 0.01 (timm's results)
    Time: not run here
    Source: Steiner et al. 2022, arXiv:2106.10270: of its checkpoints
    S_16-i1k-300ep-lr_0.001-aug_medium2-wd_0.1-do_0.0-sd_0.0; big_vision, configs/vit_i1k.py: Adam,
    batch 4096, warm-up 10,000 steps, cosine, clip 1.
    Differs: the head is one layer, not an MLP; all images are trained on, not 99 %.
    """
    return _augreg("vit_small_patch16_224", 300, IMAGENET, level="medium2", weight_decay=0.1)


def augreg_b16_imagenet() -> RunConfig:
    """ViT-B/16 on ImageNet alone, with strong augmentation and stochastic depth.

    Command: vitrail train --recipe augreg_b16_imagenet --data DIR --out RUN
    Score: 79.2 % of ImageNet after vit_finetune_imagenet at 224 px and 0.01 (timm's results)
    Time: not run here
    Source: Steiner et al. 2022, arXiv:2106.10270: of its checkpoints
    B_16-i1k-300ep-lr_0.001-aug_strong2-wd_0.1-do_0.1-sd_0.1; otherwise as augreg_s16_imagenet.
    Differs: no dropout (0.1 there), which Vitrail does not have; the head is one layer, not an MLP.
    """
    return _augreg(
        "vit_base_patch16_224", 300, IMAGENET, level="strong2", weight_decay=0.1, drop_path=0.1
    )


def augreg_b16_imagenet21k() -> RunConfig:
    """ViT-B/16 on ImageNet-21k, the start of many fine-tunings.

    Command: vitrail train --recipe augreg_b16_imagenet21k --data DIR --out RUN
    Score: 85.49 % of ImageNet after vit_finetune_imagenet
    Time: not run here
    Source: Steiner et al. 2022, arXiv:2106.10270: of its checkpoints
    B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0, whose score is from
    google-research/vision_transformer, README.md; big_vision, configs/vit_i21k.py.
    Differs: softmax, where big_vision sums sigmoid losses over the classes and starts their biases
    at -10; the head is one layer, not an MLP.
    """
    return _augreg("vit_base_patch16_224", 300, IMAGENET_21K, level="medium1", weight_decay=0.1)


def _augreg(
    name: str,
    epochs: int,
    images: int,
    *,
    level: str,
    weight_decay: float,
    drop_path: float | None = None,
) -> RunConfig:
    return RunConfig(
        model=ModelConfig(name=name, drop_path=drop_path),
        input=GOOGLE_INPUT,
        augment=AugmentConfig(crop_area=(0.05, 1.0)).replace(**AUGREG[level]),
        train=OptimConfig(
            epochs=epochs,
            batch_size=BATCH,
            lr=1e-3,
            final_lr=0.0,
            warmup_epochs=passes(WARMUP_STEPS, BATCH, images),
            weight_decay=weight_decay,
            label_smoothing=0.0,
            ema=0.0,
        ),
        log_every=50,
        eval_every_epochs=5,
        save_every_epochs=1,
    )
