"""The learning rate at each step."""

import math

from vitrail.train.learning import OptimConfig


def lr_at(step: int, steps: int, warmup: int, cooldown: int, config: OptimConfig) -> float:
    """Learning rate of a step: linear warm-up, then half a cosine down to final_lr.

    Args:
        step: from 0, of `steps`.
        warmup, cooldown: so many steps at the beginning and at the end.
    Source: Loshchilov & Hutter 2017, arXiv:1608.03983; warm-up as in Dosovitskiy et al. 2021, B.1.
    """
    if step < warmup:
        return config.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    cosine = (1 + math.cos(math.pi * progress)) / 2
    return config.lr * (config.final_lr + (1 - config.final_lr) * cosine)
