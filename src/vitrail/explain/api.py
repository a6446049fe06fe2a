"""Explanations by name: images in, one heat map an image out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vitrail.errors import ModelError, did_you_mean
from vitrail.explain.attention import check_images, class_attention
from vitrail.explain.rollout import rollout

Target = int | Int[Tensor, " b"]
Upsampling = Literal["bilinear", "nearest"]


@dataclass(frozen=True)
class Explainer:
    """A way to say which patches mattered.

    `heat(model, images, target)` gives [b, rows, columns], higher where a patch mattered more, in
    any unit. It leaves model, mode and gradients as they were. `target` is None where
    `takes_target` is False.
    """

    heat: Callable[[nn.Module, Tensor, Target | None], Tensor]
    about: str  # one line for lists and reports
    takes_target: bool = False  # whether it explains a class rather than where the model looks


EXPLAINERS: dict[str, Explainer] = {
    "attention": Explainer(
        lambda model, images, _: class_attention(model, images).mean(dim=1),
        "where the class token looks in the last layer, mean over heads",
    ),
    "rollout": Explainer(
        lambda model, images, _: rollout(model, images),
        "what reaches the class token through all layers (Abnar & Zuidema 2020)",
    ),
}


def explain(
    model: nn.Module,
    images: Float[Tensor, "b c h w"],
    *,
    method: str = "rollout",
    target: Target | None = None,
    upsampling: Upsampling = "bilinear",
) -> Float[Tensor, "b h w"]:
    """Say where in each image the model has looked.

    Args:
        model: a ViT; its weights, gradients and mode (train or eval) stay as they were.
        images: already normalised, as the model takes them.
        method: a name of `EXPLAINERS`.
        target: the class to explain, one for all images or one each; only for methods that
            explain a class.
        upsampling: how patches become pixels: smoothly between their centres, or as squares.
    Returns:
        float32 on the device of the images; each map from 0 (its lowest) to 1 (its highest).
        A map that is the same everywhere says nothing and is 0 everywhere.
    Raises:
        ModelError: the method or upsampling is unknown, the method explains no class but got one,
            the model has no attention, the answer is not finite, or the images do not fit.
    """
    explainer = find_explainer(method, upsampling, targeted=target is not None)
    check_images(images)
    heat = explainer.heat(model, images, target).detach()
    if not heat.isfinite().all():
        raise ModelError(
            f"explain: method={method!r} gave values that are not finite; "
            "the images or the model's weights hold NaN or infinity"
        )
    return to_unit_range(to_pixels(heat.float(), images.shape[-2:], upsampling))


def find_explainer(method: str, upsampling: str, *, targeted: bool) -> Explainer:
    """Look a method up and refuse what it cannot do.

    Raises:
        ModelError: the method or upsampling is unknown, or a class is given that it would ignore.
    """
    explainer = EXPLAINERS.get(method)
    if explainer is None:
        near = did_you_mean(method, EXPLAINERS)
        raise ModelError(f"explain: method={method!r} is not one of {', '.join(EXPLAINERS)}{near}")
    known = get_args(Upsampling)
    if upsampling not in known:
        raise ModelError(f"explain: upsampling={upsampling!r} is not one of {', '.join(known)}")
    if targeted and not explainer.takes_target:
        raise ModelError(
            f"explain: method={method!r} shows where the model looks, for no class in particular; "
            "leave target out"
        )
    return explainer


def to_pixels(
    heat: Float[Tensor, "b rows columns"],
    size: torch.Size | tuple[int, int],
    upsampling: Upsampling,
) -> Float[Tensor, "b h w"]:
    """Bring maps over patches to `size` (height, width) in pixels."""
    # Not aligned at the corners, so that the centre of a patch stays where it is in the image.
    corners = False if upsampling == "bilinear" else None
    grown = F.interpolate(heat[:, None], size=tuple(size), mode=upsampling, align_corners=corners)
    return grown[:, 0]


def to_unit_range(heat: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """Scale each map so that its lowest value is 0 and its highest 1; a constant map becomes 0.

    A map counts as constant if it varies by less than 1e-5 of its largest value: that is the
    rounding of float32, which would otherwise be blown up into a picture.
    """
    low, high = heat.amin(dim=(1, 2), keepdim=True), heat.amax(dim=(1, 2), keepdim=True)
    span = high - low
    varies = span > 1e-5 * torch.maximum(low.abs(), high.abs())
    return torch.where(varies, (heat - low) / span.where(varies, 1.0), 0.0)
