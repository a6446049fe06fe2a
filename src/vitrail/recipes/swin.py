"""Swin Transformers: Liu et al. 2021, arXiv:2103.14030, appendix A2."""

from vitrail.recipes.common import IMAGENET_INPUT, WHOLE_INPUT
from vitrail.recipes.deit import AUGMENT as DEIT_AUGMENT
from vitrail.train.config import ModelConfig, RunConfig
from vitrail.train.learning import OptimConfig

OPTIM = OptimConfig(
    epochs=300,
    batch_size=1024,
    lr=1e-3,
    final_lr=0.01,
    warmup_epochs=20,
    weight_decay=0.05,
    clip_norm=5.0,
    label_smoothing=0.1,
    ema=0.0,
)


def swin_t() -> RunConfig:
    """Swin-T on ImageNet.

    Command: vitrail train --recipe swin_t --data DIR --out RUN
    Score: 81.3 % of ImageNet (table 1)
    Time: not run here
    Source: Liu et al. 2021, arXiv:2103.14030, A2.1: AdamW, 300 passes, batch 1024, rate 1e-3,
    cosine, warm-up 20 passes, weight decay 0.05, stochastic depth 0.2, RandAugment, mixup, CutMix,
    erasing, no repeated augmentation, no average; clip 5: microsoft/Swin-Transformer, config.py.
    Differs: an erased box has one level, not noise; mixup has a weight for each pair, not for each
    batch; warm-up begins at 0, not at 1e-6.
    """
    return _swin("swin_tiny_patch4_window7_224", drop_path=0.2)


def swin_s() -> RunConfig:
    """Swin-S on ImageNet.

    Command: vitrail train --recipe swin_s --data DIR --out RUN
    Score: 83.0 % of ImageNet (table 1)
    Time: not run here
    Source: Liu et al. 2021, arXiv:2103.14030, A2.1: as swin_t, but stochastic depth 0.3.
    Differs: as swin_t.
    """
    return _swin("swin_small_patch4_window7_224", drop_path=0.3)


def swin_b() -> RunConfig:
    """Swin-B on ImageNet.

    Command: vitrail train --recipe swin_b --data DIR --out RUN
    Score: 83.5 % of ImageNet (table 1)
    Time: not run here
    Source: Liu et al. 2021, arXiv:2103.14030, A2.1: as swin_t, but stochastic depth 0.5.
    Differs: as swin_t.
    """
    return _swin("swin_base_patch4_window7_224", drop_path=0.5)


def swin_b_imagenet22k() -> RunConfig:
    """Swin-B on ImageNet-22k.

    Command: vitrail train --recipe swin_b_imagenet22k --data DIR --out RUN
    Score: 86.4 % of ImageNet after swin_finetune_384 (table 1)
    Time: not run here
    Source: Liu et al. 2021, arXiv:2103.14030, A2.2: AdamW, 90 passes, batch 4096, rate 1e-3,
    linear, warm-up 5 passes, weight decay 0.01; stochastic depth 0.2: microsoft/Swin-Transformer.
    Differs: as swin_t.
    """
    base = _swin("swin_base_patch4_window7_224", drop_path=0.2)
    train = base.train.replace(
        epochs=90, batch_size=4096, schedule="linear", warmup_epochs=5, weight_decay=0.01
    )
    return base.replace(train=train, eval_every_epochs=2, save_every_epochs=0.5)


def swin_finetune_384() -> RunConfig:
    """From swin_b or swin_b_imagenet22k to ImageNet at 384 px; the windows of 7 become 12.

    Command: vitrail train --recipe swin_finetune_384 --weights SOURCE --model.window-size 12 12
    --data DIR --out RUN
    Score: 84.5 % of ImageNet from swin_b, 86.4 % from swin_b_imagenet22k (table 1)
    Time: not run here
    Source: Liu et al. 2021, arXiv:2103.14030, A2: AdamW, 30 passes, batch 1024, constant rate 1e-5,
    weight decay 1e-8, stochastic depth 0.1.
    Differs: as swin_t.
    """
    base = _swin("swin_base_patch4_window12_384", drop_path=0.1)
    return base.replace(
        model=base.model.replace(image_size=(384, 384)),
        input=WHOLE_INPUT,
        train=base.train.replace(
            epochs=30, lr=1e-5, schedule="constant", warmup_epochs=0, weight_decay=1e-8
        ),
        eval_every_epochs=2,
    )


def _swin(name: str, drop_path: float) -> RunConfig:
    return RunConfig(
        model=ModelConfig(name=name, drop_path=drop_path),
        input=IMAGENET_INPUT,
        augment=DEIT_AUGMENT,
        train=OPTIM,
        log_every=50,
        eval_every_epochs=5,
        save_every_epochs=1,
    )
