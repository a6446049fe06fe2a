"""Fine-tuning from weights that know images already."""

from vitrail.data.augment import AugmentConfig
from vitrail.train.config import ModelConfig, RunConfig
from vitrail.train.learning import OptimConfig


def finetune() -> RunConfig:
    """Some hundred to some ten thousand images, from weights trained on many more.

    The model and its input are those of the weights; see `vitrail.train.fine_tuning.with_weights`.

    Command: vitrail train --weights SOURCE --data DIR --out runs/mine
    Source: He et al. 2022, arXiv:2111.06377, table 9: AdamW, layer decay 0.75, weight decay 0.05,
    drop path 0.1, label smoothing 0.1, learning rate 1e-3 x batch / 256. Shorter and with milder
    augmentation than there, as images are few and the weights may have been trained with labels.
    """
    return RunConfig(
        model=ModelConfig(drop_path=0.1),
        augment=AugmentConfig(crop_area=(0.5, 1.0), flip=True, jitter=(0.2, 0.2, 0.2, 0.0)),
        train=OptimConfig(
            epochs=20,
            batch_size=64,
            lr=2.5e-4,
            warmup_epochs=2,
            layer_decay=0.75,
            weight_decay=0.05,
            label_smoothing=0.1,
            ema=0.99,
        ),
        eval_every_epochs=2,
        save_every_epochs=2,
    )
