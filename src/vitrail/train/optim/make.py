"""The optimiser of a training."""

import torch
from torch import nn

from vitrail.train.learning import OptimConfig
from vitrail.train.optim.groups import make_groups
from vitrail.train.optim.lamb import Lamb
from vitrail.train.optim.muon import Muon, mark_hidden
from vitrail.train.optim.sgd import Sgd


def make_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """Build the optimiser of the parameters that are to learn, in the groups of `make_groups`.

    adamw: Loshchilov & Hutter 2019, arXiv:1711.05101.
    sgd: with momentum beta1, not Nesterov's, and decay added to the gradient; so the ViT paper
        fine-tunes: Dosovitskiy et al. 2021, arXiv:2010.11929, appendix B.1.1.
    lamb, muon: see `Lamb` and `Muon`.

    All keep to the attribute `found_inf`: where it is 1.0, `step` changes neither weights nor
    state, and nothing is waited for. What they know of a parameter are tensors, in
    `optimizer.state[parameter]`: put back there, training goes on to the bit. Parameters may be
    spread over ranks by `fully_shard`.
    """
    groups, betas = make_groups(model, config), (config.beta1, config.beta2)
    optimizer: torch.optim.Optimizer
    if config.optimizer == "sgd":
        optimizer = Sgd(groups, config.lr, config.beta1)
    elif config.optimizer == "lamb":
        optimizer = Lamb(groups, config.lr, betas)
    elif config.optimizer == "muon":
        optimizer = Muon(mark_hidden(model, groups), config.lr, betas, config.momentum)
    else:
        optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=betas, fused=True)
    set_lr(optimizer, config.lr)
    return optimizer


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group its part of the learning rate: its "lr_scale"."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
