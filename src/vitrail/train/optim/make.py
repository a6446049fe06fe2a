"""The optimiser, and what it decays."""

import torch
from torch import nn

from vitrail.train.learning import OptimConfig

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


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr
