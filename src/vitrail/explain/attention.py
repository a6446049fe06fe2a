"""What looks at what: the attention of chosen layers, while the model computes as it always does.

The fused kernel of the forward pass never forms the matrix softmax(q kᵀ / √k). Here it is computed
again from the input that a layer had, for the layers that are asked for and no others.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.errors import ModelError
from vitrail.models.vit import ViT


def attention_maps(
    model: nn.Module, images: Float[Tensor, "b c h w"], layers: Sequence[int] | None = None
) -> dict[int, Float[Tensor, "b heads n n"]]:
    """Give the attention matrices of some layers, by the number of the layer counted from 0.

    Row i of a matrix says how much token i takes from each token; it sums to one. The prefix tokens
    come first (class, distillation, registers, as far as there are any), then the patches row by
    row.

    Args:
        model: a ViT; its mode (train or eval) stays as it was, the attention is that of eval mode.
        images: already normalised, as the model takes them.
        layers: which ones; negative numbers count from the last. All if None, which needs
            depth x b x heads x n² numbers: `iter_attention` holds one layer at a time.
    Raises:
        ModelError: the model has no attention, a layer is out of range, or the images do not fit.
    """
    return dict(iter_attention(model, images, layers))


def iter_attention(
    model: nn.Module, images: Float[Tensor, "b c h w"], layers: Sequence[int] | None = None
) -> Iterator[tuple[int, Float[Tensor, "b heads n n"]]]:
    """Give what `attention_maps` gives, one layer at a time in the order of `layers`.

    One forward pass runs at once; each matrix is formed when its turn comes.
    """
    vit = require_vit(model)
    check_images(images)
    depth = len(vit.blocks)
    wanted = range(depth) if layers is None else layers
    chosen = list(dict.fromkeys(resolve_index("layer", layer, depth) for layer in wanted))
    with evaluating(vit), torch.no_grad():
        inputs = vit.intermediates(images, names=[_input_of(layer) for layer in chosen])
        turn = vit.turn(vit.grid_of(*images.shape[-2:]))
    return _recompute(vit, inputs, chosen, turn)


def class_attentions(
    model: nn.Module, images: Float[Tensor, "b c h w"], layers: Sequence[int] | None = None
) -> Float[Tensor, "b layers heads rows columns"]:
    """Give what the class token takes from each patch, in some layers or all.

    A map is laid out as the patches lie. The weights on tokens without a place are left out, so it
    sums to less than one. Of a model without class token: what the patches take on average, which
    is what their mean is made of.

    Raises:
        ModelError: as `attention_maps`, or the model pools by attention.
    """
    vit = require_readout(model)
    maps = []
    for _, weights in iter_attention(vit, images, layers):
        maps.append(on_grid(vit, readout(vit, weights), images).clone())
        del weights  # before the next is formed
    if not maps:
        raise ModelError("layers is empty; name at least one layer, or leave it out for all")
    return torch.stack(maps, dim=1)


def class_attention(
    model: nn.Module,
    images: Float[Tensor, "b c h w"],
    layer: int = -1,
    head: int | None = None,
) -> Float[Tensor, "b *heads rows columns"]:
    """Give what the class token takes from each patch in one layer: of one head, or of each.

    Returns:
        [b, rows, columns] for a `head`, else [b, heads, rows, columns].
    Raises:
        ModelError: as `attention_maps`, or the head is out of range.
    """
    vit = require_vit(model)
    index = None if head is None else resolve_index("head", head, vit.config.heads)
    maps = class_attentions(vit, images, [layer])[:, 0]
    return maps if index is None else maps[:, index]


def require_vit(model: nn.Module) -> ViT:
    """Take the model as a ViT.

    Raises:
        ModelError: it is another kind of model.
    """
    if isinstance(model, ViT):
        return model
    name = getattr(model, "name", "") or type(model).__name__
    raise ModelError(
        f"{name} is a {type(model).__name__} without attention; this explanation needs a ViT"
    )


def has_readout(model: nn.Module) -> bool:
    """Whether `class_attention` and `rollout` are defined for the model."""
    return isinstance(model, ViT) and model.attn_pool is None


def require_readout(model: nn.Module) -> ViT:
    """Take the model as a ViT whose answer is a token's state, or the mean of the patches'.

    Raises:
        ModelError: it is another kind of model, or it pools by attention.
    """
    vit = require_vit(model)
    if not has_readout(vit):
        raise ModelError(
            f"{vit.name or 'this model'} pools by attention (pool=map), so no token and no mean of "
            "tokens is its answer; attention_maps shows its layers"
        )
    return vit


def readout(vit: ViT, flow: Float[Tensor, "*any n n"]) -> Float[Tensor, "*any n"]:
    """Take the row of what is classified from a matrix over tokens: the class token's or a mean."""
    if vit.config.class_token:
        return flow[..., 0, :]
    return flow[..., vit.prefix_tokens :, :].mean(dim=-2)


def check_images(images: Tensor) -> None:
    """Refuse what is not a batch; the model itself checks channels and size.

    Raises:
        ModelError: images do not have four dimensions.
    """
    if images.ndim != 4:
        raise ModelError(
            f"images of shape {list(images.shape)} are no batch [b, c, h, w]; "
            "a single image needs a first dimension of 1"
        )


def resolve_index(what: str, index: int, count: int) -> int:
    """Turn a number that may count from the end into one from 0.

    Raises:
        ModelError: there is no such `what`.
    """
    if not -count <= index < count:
        raise ModelError(
            f"{what}={index} is out of range: this model has {count} {what}s, "
            f"so {what} goes from {-count} to {count - 1}"
        )
    return index % count


def on_grid(
    vit: ViT, over_tokens: Float[Tensor, "*any n"], images: Float[Tensor, "b c h w"]
) -> Float[Tensor, "*any rows columns"]:
    """Drop the tokens without a place and lay the others out as the patches of the images lie."""
    grid = vit.grid_of(*images.shape[-2:])
    return over_tokens[..., vit.prefix_tokens :].reshape(*over_tokens.shape[:-1], *grid)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model into eval mode, and each of its parts back into its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _recompute(
    vit: ViT, inputs: dict[str, Tensor], layers: Sequence[int], turn: Tensor | None
) -> Iterator[tuple[int, Tensor]]:
    for layer in layers:
        yield layer, _weights(vit, layer, inputs.pop(_input_of(layer)), turn)


@torch.no_grad()
def _weights(vit: ViT, layer: int, attended: Tensor, turn: Tensor | None) -> Tensor:
    weights: Tensor = vit.blocks[layer].attn.weights(attended, turn)  # type: ignore[operator, union-attr]
    return weights.to(torch.promote_types(weights.dtype, torch.float32))


def _input_of(layer: int) -> str:
    return f"blocks.{layer}.attn.input"
