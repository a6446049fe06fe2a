"""The learning rate at each step."""

import math

from vitrail.train.learning import OptimConfig


def lr_at(step: int, steps: int, warmup: int, cooldown: int, config: OptimConfig) -> float:
    """Learning rate of a step: a linear warm-up, then the curve of `config.schedule`.

    It never rises after the warm-up and never jumps. The curves, as parts f of `config.lr`, with s
    steps taken since the warm-up, of S in all:

    cosine: half a cosine from 1 down to final_lr. Loshchilov & Hutter 2017, arXiv:1608.03983.
    linear: a line from 1 down to final_lr.
    rsqrt: 1 / sqrt(1 + s / T), T the length of the warm-up, at least 1, and not below final_lr;
        then the cool-down, linear to final_lr. Zhai et al. 2022, arXiv:2106.04560, section 3.5.
    wsd: 1, then the same cool-down. Hu et al. 2024, arXiv:2404.06395, section 4, where it is
        exponential; linear as in Hägele et al. 2024, arXiv:2405.18392.
    constant: 1; final_lr does not count.

    Args:
        step: from 0, of `steps`; final_lr is what a step numbered `steps` would have.
        warmup: so many steps grow by lr / warmup each; the first already moves.
        cooldown: so many steps at the end, of rsqrt and wsd; at most those after the warm-up.
    Source: of the warm-up, Dosovitskiy et al. 2021, arXiv:2010.11929, appendix B.1.
    """
    if step < warmup:
        return config.lr * (step + 1) / warmup
    since, length = step - warmup, max(1, steps - warmup)
    progress = since / length
    if config.schedule == "constant":
        return config.lr
    top, left = 1.0, 1.0  # where the way down to final_lr begins, and how much of it is left
    if config.schedule == "cosine":
        left = (1 + math.cos(math.pi * progress)) / 2
    elif config.schedule == "linear":
        left = 1 - progress
    else:
        cooldown = min(cooldown, length)
        if config.schedule == "rsqrt":
            taken = min(since, length - cooldown)
            top = max(config.final_lr, 1 / math.sqrt(1 + taken / max(1, warmup)))
        if cooldown:
            left = min(1.0, (length - since) / cooldown)
    return config.lr * (config.final_lr + (top - config.final_lr) * left)
