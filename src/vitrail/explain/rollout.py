"""Attention rollout: what the class token has taken from each patch, through all layers.

Source: Abnar & Zuidema 2020, arXiv:2005.00928, section 3.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.errors import ModelError, did_you_mean
from vitrail.explain.attention import iter_attention, on_grid, readout, require_readout

Fusion = Literal["mean", "max", "min"]


def rollout(
    model: nn.Module,
    images: Float[Tensor, "b c h w"],
    *,
    fusion: Fusion = "mean",
    discard_ratio: float = 0.0,
) -> Float[Tensor, "b rows columns"]:
    """Follow the attention from the class token down through all layers to the patches.

    Of a model without class token: from the mean of the patches.

    The product of the `layer_flow` of all layers, the last leftmost; its first row over the
    patches. Only that row is carried, from the last layer down: n² multiplications a layer instead
    of n³, and one layer's attention in memory at a time.

    Args:
        model: a ViT; its mode (train or eval) stays as it was.
        images: already normalised, as the model takes them.
        fusion: how the heads become one matrix; the paper takes the mean.
        discard_ratio: the share of the patches, in [0, 1), that each row forgets: see `layer_flow`.
            The paper forgets none.
    Returns:
        Shares in [0, 1]; with those of the tokens without a place they sum to one.
    Raises:
        ModelError: the model has no attention or pools by it, or a setting is out of range.
    """
    vit = require_readout(model)
    check_settings(fusion, discard_ratio)
    row: Tensor | None = None
    for _, weights in iter_attention(vit, images, range(len(vit.blocks) - 1, -1, -1)):
        flow = layer_flow(weights, vit.prefix_tokens, fusion=fusion, discard_ratio=discard_ratio)
        del weights  # before the next is formed
        # row @ flow, but not as a matrix product: autocast would round it to bf16
        row = readout(vit, flow) if row is None else (row[:, :, None] * flow).sum(dim=1)
    assert row is not None  # depth >= 1
    return on_grid(vit, row, images)


def layer_flow(
    weights: Float[Tensor, "b heads n n"],
    prefix: int,
    *,
    fusion: Fusion = "mean",
    discard_ratio: float = 0.0,
) -> Float[Tensor, "b n n"]:
    """Turn the attention of one layer into the flow through it; half is the residual branch's.

    1. The heads become one matrix: their mean, largest or smallest weight.
    2. Each row forgets its k lowest weights on patches, k = floor(discard_ratio x patches). The
       `prefix` columns (the class token) are never forgotten. Weights equal to the lowest kept one
       are kept, so that no patch is preferred for its place. Other code ranks all rows together,
       by which a whole row, even the class token's, can be lost.
    3. 0.5 A + 0.5 I, then each row is divided by its sum.
    """
    fused = _fuse(weights, fusion)
    forget = int(discard_ratio * (fused.shape[-1] - prefix))
    if forget:
        patches = fused[..., prefix:]
        lowest_kept = patches.kthvalue(forget + 1, dim=-1, keepdim=True).values
        patches = patches.where(patches >= lowest_kept, 0.0)
        fused = torch.cat([fused[..., :prefix], patches], dim=-1)
    flow = 0.5 * fused + 0.5 * torch.eye(fused.shape[-1], dtype=fused.dtype, device=fused.device)
    return flow / flow.sum(dim=-1, keepdim=True)


def check_settings(fusion: str, discard_ratio: float) -> None:
    """Refuse settings that `rollout` does not know.

    Raises:
        ModelError: a setting is unknown or out of range.
    """
    known = get_args(Fusion)
    if fusion not in known:
        near = did_you_mean(fusion, known)
        raise ModelError(f"rollout: fusion={fusion!r} is not one of {', '.join(known)}{near}")
    if not 0 <= discard_ratio < 1:
        raise ModelError(
            f"rollout: discard_ratio={discard_ratio} must be at least 0 and less than 1"
        )


def _fuse(weights: Tensor, fusion: Fusion) -> Tensor:
    """Make one matrix of the heads': b h n n to b n n."""
    if fusion == "mean":
        return weights.mean(dim=1)
    return weights.amax(dim=1) if fusion == "max" else weights.amin(dim=1)
