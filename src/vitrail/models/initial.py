"""The first weights of a ViT."""

import math

import torch
from torch import nn

from vitrail.models.attention import Attention
from vitrail.models.layers import AttentionPool, LayerScale, Mlp, SwiGlu


@torch.no_grad()
def initialise_vit(model: nn.Module, patches: nn.Conv2d) -> None:
    """Draw every parameter as the paper's authors do.

    Xavier-uniform matrices (each of q, k, v, gate and value as a square of its own), MLP biases of
    deviation 1e-6, positions of deviation 0.02, LeCun-normal `patches`; biases, class token and
    head are zero. What came later follows its own source: distillation token of deviation 0.02
    (DeiT), registers of 1e-6 (DINOv2), the pooling query of 1 / √width.
    """
    nn.init.normal_(patches.weight, std=math.sqrt(1 / patches.weight[0].numel()))
    nn.init.zeros_(patches.bias)  # type: ignore[arg-type]
    for name, parameter in model.named_parameters(recurse=False):
        if name == "cls_token":
            nn.init.zeros_(parameter)
        else:
            nn.init.normal_(parameter, std=1e-6 if name == "reg_token" else 0.02)
    for module in model.modules():
        _initialise_part(module)
    for name, parameter in model.named_parameters():
        if name.startswith("head"):
            nn.init.zeros_(parameter)


def _initialise_part(module: nn.Module) -> None:
    """Draw the parameters of one norm, attention, pooling or MLP."""
    if isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, LayerScale):
        nn.init.constant_(module.gamma, module.initial)
    elif isinstance(module, Attention):
        _xavier(module.qkv, parts=3)
        _xavier(module.proj)
        for bias in (module.q_bias, module.v_bias):
            if bias is not None:
                nn.init.zeros_(bias)
    elif isinstance(module, AttentionPool):
        nn.init.normal_(module.latent, std=module.latent.shape[-1] ** -0.5)
        _xavier(module.q)
        _xavier(module.kv, parts=2)
        _xavier(module.proj)
    elif isinstance(module, Mlp | SwiGlu):
        _xavier(module.fc1, parts=2 if isinstance(module, SwiGlu) else 1, bias_std=1e-6)
        _xavier(module.fc2, bias_std=1e-6)


def _xavier(linear: nn.Linear, parts: int = 1, bias_std: float = 0.0) -> None:
    """Draw a matrix, in so many parts one below the other, each as one of its own."""
    for part in linear.weight.chunk(parts):
        nn.init.xavier_uniform_(part)
    if bias_std:
        nn.init.normal_(linear.bias, std=bias_std)
    elif linear.bias is not None:
        nn.init.zeros_(linear.bias)
