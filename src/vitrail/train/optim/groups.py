"""Which parameters decay, and how fast each learns beside the others."""

from typing import Any

from torch import nn

from vitrail.train.learning import OptimConfig
from vitrail.train.optim.depth import count_depths, find_depths

# Beside biases, norms and layer scale, which have one dimension: tokens, positions, the query of
# attention pooling, and Swin's bias tables.
NO_DECAY = ("token", "pos_embed", "latent", "relative_position_bias_table")


def make_groups(model: nn.Module, config: OptimConfig) -> list[dict[str, Any]]:
    """Sort the parameters that are trained into the groups that an optimiser takes.

    Each has its "params" and their "names", a "weight_decay", and an "lr_scale" by which the
    learning rate is multiplied: `layer_decay` to the number of layers above, that is 1 for heads
    and last norm, d for the last of n blocks and d^(n+1) for patch embedding, tokens and positions.
    The deepest come last; among those of one depth what decays comes first.

    So do Bao et al.'s code and timm, but that timm gives the last norm the factor of the last block
    where it is called `norm`, and 1 where it is called `fc_norm`.
    Source: Clark et al. 2020, arXiv:2003.10555; Bao et al. 2022, arXiv:2106.08254.
    """
    top, depths = count_depths(model), find_depths(model)
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = config.layer_decay ** (top - depths[name])
        kept = not decays(name, parameter)
        if (scale, kept) not in groups:
            weight_decay = 0.0 if kept else config.weight_decay
            fresh = {"params": [], "names": [], "weight_decay": weight_decay, "lr_scale": scale}
            groups[scale, kept] = fresh
        groups[scale, kept]["params"].append(parameter)
        groups[scale, kept]["names"].append(name)
    return [groups[key] for key in sorted(groups)]


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay pulls at a parameter: at matrices and kernels, LoRA's too."""
    return parameter.dim() > 1 and not name.endswith(NO_DECAY)
