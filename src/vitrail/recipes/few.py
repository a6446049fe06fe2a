"""Fine-tuning on few images."""

from vitrail.data.augment import AugmentConfig
from vitrail.train.config import ModelConfig, RunConfig
from vitrail.train.learning import LoraConfig, OptimConfig


def finetune_few() -> RunConfig:
    """Up to about a thousand images, from weights that know images: low-rank matrices and a head.

    Most of what full fine-tuning could change stays, so that little can be learned by heart; of
    ViT-B/16 0.5 % of the weights are trained. For ViTs and Swin; ResNets take finetune.

    Command: vitrail train --recipe finetune_few --weights SOURCE --data DIR --out RUN
    Score: depends on weights and images
    Time: not run here
    Source: Hu et al. 2022, arXiv:2106.09685, for the matrices; Zhang et al. 2022, arXiv:2206.04673,
    for tasks of 1,000 images: rank 8, 100 passes, batch 64, AdamW, weight decay 1e-4.
    Differs: milder crops and a mirror; queries, keys, values and projection, not queries and values
    alone.
    """
    return RunConfig(
        model=ModelConfig(),
        augment=AugmentConfig(crop_area=(0.7, 1.0), flip=True),
        lora=LoraConfig(rank=8, alpha=16.0),
        train=OptimConfig(
            epochs=100,
            batch_size=64,
            lr=1e-3,
            final_lr=0.0,
            warmup_epochs=10,
            weight_decay=1e-4,
            label_smoothing=0.1,
            ema=0.0,
        ),
        eval_every_epochs=10,
        save_every_epochs=10,
    )
