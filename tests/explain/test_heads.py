import numpy as np
import torch

from tests.helpers import tiny_model
from vitrail.explain import class_attention
from vitrail.explain.heads import CELL_SIDE, attention_panel
from vitrail.explain.render import overlay


def test_one_small_picture_for_each_layer_and_head() -> None:
    model = tiny_model(depth=3)
    images = torch.randn(1, 3, 32, 48)
    picture = np.zeros((32, 48, 3), dtype=np.uint8)
    panel = attention_panel(model, images, picture, title="look")
    assert panel.dtype == np.uint8
    assert panel.shape[0] > 3 * CELL_SIDE and panel.shape[1] > 2 * CELL_SIDE * 48 // 32


def test_each_picture_is_the_image_under_its_own_attention() -> None:
    model = tiny_model(depth=1, heads=2)
    images = torch.randn(1, 3, 32, 48)
    picture = np.full((32, 48, 3), 90, dtype=np.uint8)
    panel = attention_panel(model, images, picture)
    for head in range(2):
        weights = class_attention(model, images, layer=0, head=head)[0].detach().numpy()
        weights = (weights - weights.min()) / (weights.max() - weights.min())
        heat = weights.repeat(8, axis=0).repeat(8, axis=1)  # patches of 8 pixels
        assert stands_in(panel, overlay(picture, heat, minimum_side=CELL_SIDE))


def stands_in(canvas: np.ndarray, part: np.ndarray) -> bool:
    """Whether a picture is somewhere on a canvas, up to a rounding of one level."""
    rows, columns = (a - b + 1 for a, b in zip(canvas.shape[:2], part.shape[:2], strict=True))
    for y in range(rows):
        for x in range(columns):
            there = canvas[y : y + part.shape[0], x : x + part.shape[1]]
            if np.abs(there[0].astype(int) - part[0]).max() <= 1:
                return bool(np.abs(there.astype(int) - part).max() <= 1)
    return False
