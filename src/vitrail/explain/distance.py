"""How far a model looks, and what it has learned about places: the paper's Figure 7.

Source: Dosovitskiy et al. 2021, arXiv:2010.11929, section 4.5 and appendix D.7.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.errors import ModelError
from vitrail.explain.attention import iter_attention, require_vit


def attention_distance(
    model: nn.Module, images: Float[Tensor, "b c h w"], layers: Sequence[int] | None = None
) -> Float[Tensor, "layers heads"]:
    """Measure how far each head looks on average, in pixels (Figure 7, right).

    The distance between the centres of the looking patch and of each patch, weighted by the
    attention, averaged over the looking patches and the images. The class token has no place: it
    neither looks nor is looked at, and the weights on the patches are scaled to sum to one.

    Args:
        model: a ViT; its mode stays as it was.
        images: already normalised; the paper takes 128.
        layers: as in `attention_maps`; the rows of the answer in this order, each layer once.
    Raises:
        ModelError: the model has no attention, or a layer is out of range.
    """
    vit = require_vit(model)
    steps = grid_distances(vit.grid_of(*images.shape[-2:]), images.device)
    distances = (steps * vit.config.stride).flatten(2).flatten(0, 1)  # n n, pixels
    means = []
    for _, weights in iter_attention(vit, images, layers):
        patches = weights[:, :, vit.prefix_tokens :, vit.prefix_tokens :]  # b heads n n
        total = patches.sum(dim=-1).clamp_min(torch.finfo(patches.dtype).tiny)
        means.append(((patches * distances).sum(dim=-1) / total).mean(dim=(0, 2)))
        del weights, patches  # before the next is formed
    return torch.stack(means) if means else distances.new_zeros(0, vit.config.heads)


def grid_distances(
    grid: tuple[int, int], device: torch.device | None = None
) -> Float[Tensor, "rows columns rows columns"]:
    """Give the Euclidean distance between any two places of a grid, in steps of the grid."""
    rows = torch.arange(grid[0], device=device).float()
    columns = torch.arange(grid[1], device=device).float()
    down = rows[:, None, None, None] - rows[None, None, :, None]  # rows 1 rows 1
    right = columns[None, :, None, None] - columns[None, None, None, :]  # 1 columns 1 columns
    return (down.square() + right.square()).sqrt()


@torch.no_grad()
def position_similarity(model: nn.Module) -> Float[Tensor, "rows columns rows columns"]:
    """Compare the position embedding of each patch with all others by cosine (Figure 7, centre).

    Entry [i, j] is a picture in [-1, 1]: how much the place in row i, column j resembles each
    place. An embedding of zeros resembles nothing: 0.

    Raises:
        ModelError: the model is no ViT, or has no table of learned positions.
    """
    vit = require_vit(model)
    if vit.pos_embed is None:
        raise ModelError(
            f"{vit.name or 'this model'} has positions={vit.config.positions}, "
            "and no learned ones to compare"
        )
    places = F.normalize(vit.pos_embed[0, vit.config.position_prefix :].float(), dim=-1)
    return (places @ places.T).reshape(*vit.config.grid, *vit.config.grid)
