"""The optimiser, what it decays, and the learning rate at each step."""

import math

import torch
from torch import nn

from vitrail.train.config import OptimConfig

# Beside biases and norms, which have one dimension: tokens, positions, and Swin's bias tables.
NO_DECAY = ("token", "pos_embed", "latent", "relative_position_bias_table")


def make_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """Build AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) that decays only matrices."""
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.dim() > 1 and not name.endswith(NO_DECAY)
        (decayed if is_matrix else kept).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, config.beta2), fused=True)


def lr_at(step: int, steps: int, warmup: int, config: OptimConfig) -> float:
    """Learning rate of a step: linear warm-up, then half a cosine down to final_lr.

    Source: Loshchilov & Hutter 2017, arXiv:1608.03983; warm-up as in Dosovitskiy et al. 2021, B.1.
    """
    if step < warmup:
        return config.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    cosine = (1 + math.cos(math.pi * progress)) / 2
    return config.lr * (config.final_lr + (1 - config.final_lr) * cosine)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr
