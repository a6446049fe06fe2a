"""DeiT III: Touvron et al. 2022, arXiv:2204.07118, table 1; commands of facebookresearch/deit.

With repeats 3 a batch must be a multiple of 3: 2,016 for 2,048.
"""

from vitrail.data.augment import AugmentConfig
from vitrail.data.loading.sampling import SamplingConfig
from vitrail.recipes.common import WHOLE_INPUT
from vitrail.recipes.deit import AUGMENT as DEIT_AUGMENT
from vitrail.train.config import DataConfig, ModelConfig, RunConfig
from vitrail.train.learning import LossConfig, OptimConfig

BATCH = 2_016
LEAST_RATE = 1e-5


def deit3_s16() -> RunConfig:
    """ViT-S/16 on ImageNet by DeiT III.

    Command: vitrail train --recipe deit3_s16 --data DIR --out RUN
    Score: 81.4 % of ImageNet
    Time: not run here
    Source: Touvron et al. 2022, arXiv:2204.07118; facebookresearch/deit, README_revenge.md: LAMB,
    800 passes, batch 2048, rate 4e-3, cosine, warm-up 5 passes, weight decay 0.05, binary
    cross-entropy, clip 1, 3-Augment, mixup 0.8, CutMix 1, repeated augmentation, layer scale 1e-4,
    stochastic depth 0.05.
    Differs: batch 2,016; mixed targets keep their parts, where the authors' code makes each a 1;
    stochastic depth grows with depth from 0, where it is the same in all blocks there; warm-up
    begins at 0, not at 1e-6; mixup has a weight for each pair, not for each batch.
    """
    return _deit3("deit3_small_patch16_224", size=224, lr=4e-3, drop_path=0.05)


def deit3_b16() -> RunConfig:
    """ViT-B/16 on ImageNet by DeiT III at 192 px, before deit3_finetune.

    Command: vitrail train --recipe deit3_b16 --data DIR --out RUN
    Score: 83.8 % of ImageNet after deit3_finetune
    Time: not run here
    Source: Touvron et al. 2022, arXiv:2204.07118; facebookresearch/deit, README_revenge.md: as
    deit3_s16, but rate 3e-3, stochastic depth 0.2, 192 px.
    Differs: as deit3_s16.
    """
    return _deit3("deit3_base_patch16_224", size=192, lr=3e-3, drop_path=0.2)


def deit3_l16() -> RunConfig:
    """ViT-L/16 on ImageNet by DeiT III at 192 px, before deit3_finetune.

    Command: vitrail train --recipe deit3_l16 --data DIR --out RUN
    Score: 84.9 % of ImageNet after deit3_finetune with --model.drop-path 0.45
    Time: not run here
    Source: Touvron et al. 2022, arXiv:2204.07118; facebookresearch/deit, README_revenge.md: as
    deit3_b16, but stochastic depth 0.45.
    Differs: as deit3_s16.
    """
    return _deit3("deit3_large_patch16_224", size=192, lr=3e-3, drop_path=0.45)


def deit3_finetune() -> RunConfig:
    """From deit3_b16 or deit3_l16 to 224 px.

    Command: vitrail train --recipe deit3_finetune --weights SOURCE --data DIR --out RUN
    Score: 83.8 % of ImageNet from deit3_b16, 84.9 % from deit3_l16
    Time: not run here
    Source: Touvron et al. 2022, arXiv:2204.07118; facebookresearch/deit, README_revenge.md: AdamW,
    20 passes, batch 512, rate 1e-5, which is also its least, weight decay 0.1, label smoothing 0.1,
    RandAugment 9/0.5, mixup 0.8, CutMix 1.
    Differs: as deit3_s16, but for batch and targets.
    """
    return RunConfig(
        model=ModelConfig(name="deit3_base_patch16_224", image_size=(224, 224), drop_path=0.2),
        input=WHOLE_INPUT,
        augment=DEIT_AUGMENT.replace(erase=0.0),
        train=OptimConfig(
            epochs=20,
            batch_size=512,
            lr=1e-5,
            schedule="constant",
            warmup_epochs=5,
            weight_decay=0.1,
            clip_norm=None,
            label_smoothing=0.1,
            ema=0.0,
        ),
        log_every=50,
        eval_every_epochs=2,
        save_every_epochs=1,
    )


def _deit3(name: str, *, size: int, lr: float, drop_path: float) -> RunConfig:
    return RunConfig(
        data=DataConfig(sampling=SamplingConfig(repeats=3)),
        model=ModelConfig(
            name=name, image_size=(size, size), drop_path=drop_path, layer_scale=1e-4
        ),
        input=WHOLE_INPUT,
        augment=AugmentConfig(crop_area=(0.08, 1.0), policy="3-augment", mixup=0.8, cutmix=1.0),
        loss=LossConfig(kind="sigmoid"),
        train=OptimConfig(
            epochs=800,
            batch_size=BATCH,
            optimizer="lamb",
            lr=lr,
            final_lr=LEAST_RATE / lr,
            warmup_epochs=5,
            weight_decay=0.05,
            clip_norm=1.0,
            label_smoothing=0.0,
            ema=0.0,
        ),
        log_every=50,
        eval_every_epochs=5,
        save_every_epochs=1,
    )
