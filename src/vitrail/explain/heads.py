"""Where the class token looks, head by head, over the image."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.explain.api import to_pixels, to_unit_range
from vitrail.explain.attention import class_attentions
from vitrail.explain.panels import table
from vitrail.explain.render import Picture, overlay

CELL_SIDE = 96  # pixels of the shorter side of a small picture, at least


def attention_panel(
    model: nn.Module, images: Float[Tensor, "1 c h w"], picture: Picture, *, title: str = ""
) -> Picture:
    """Lay each head's attention over the image: one row a layer, one column a head.

    Args:
        images: the model's input, a batch of one.
        picture: the same image as it is shown, uint8 [h, w, 3].
        title: above all.
    Raises:
        ModelError: the model is no ViT, or the images do not fit it.
    """
    with torch.no_grad():
        maps = class_attentions(model, images)[0]  # layers heads rows columns
        height, width = images.shape[-2:]
        heat = to_unit_range(to_pixels(maps.flatten(0, 1), (height, width), "nearest"))
    layers, heads = maps.shape[:2]
    cells = [overlay(picture, each, minimum_side=CELL_SIDE) for each in heat.cpu().numpy()]
    return table(
        [cells[i * heads : (i + 1) * heads] for i in range(layers)],
        [f"layer {i + 1}" for i in range(layers)],
        [f"head {i + 1}" for i in range(heads)],
        title,
        "brighter: takes more",
    )
