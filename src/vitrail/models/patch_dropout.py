"""Leaving patches out while training, which makes a step cheaper."""

from jaxtyping import Float
from torch import Tensor

from vitrail.models.draws import draw_rows
from vitrail.models.posembed import Turn


def drop_patches(
    tokens: Float[Tensor, "b n d"], turn: Turn | None, rate: float
) -> tuple[Float[Tensor, "b m d"], Turn | None]:
    """Keep a random part of the patches of each image, in their order; m = n (1 - rate), rounded.

    `turn` holds the places of all patches; that of the kept ones comes back.
    Source: Liu et al. 2023 (PatchDropout), arXiv:2208.07220; Li et al. 2023 (FLIP).
    """
    count = max(1, round(tokens.shape[1] * (1 - rate)))
    noise = draw_rows(*tokens.shape[:2], device=tokens.device)
    kept = noise.topk(count).indices.sort(dim=1).values  # b m
    if turn is not None:
        places = turn.expand(-1, len(kept), -1, -1, -1)
        index = kept[None, :, None, :, None].expand(2, -1, 1, -1, turn.shape[-1])
        turn = places.gather(3, index)
    return tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[-1])), turn
