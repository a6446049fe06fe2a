"""Rotation, shear and translation: directions, exact cases, what lies outside."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.pillow import BILINEAR, layer
from vitrail.data.augmentation.moves import transform
from vitrail.data.augmentation.operations import apply


def noise(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("side", [8, 9])
@pytest.mark.parametrize(("degrees", "turns"), [(90.0, 1), (180.0, 2), (-90.0, -1), (0.0, 0)])
def test_quarter_turns_of_a_square_are_exact(side: int, degrees: float, turns: int) -> None:
    images = noise(1, 2, side, side)
    expected = torch.rot90(images, turns, (2, 3))
    assert torch.equal(apply(images, [layer("Rotate", degrees)]), expected)


def test_whole_pixels_are_moved_exactly() -> None:
    images = noise(1, 3, 9, 14)
    left = apply(images, [layer("TranslateX", 4.0, fill=7)])
    assert torch.equal(left[..., :10], images[..., 4:]) and (left[..., 10:] == 7).all()
    down = apply(images, [layer("TranslateY", -2.0, fill=255)])
    assert torch.equal(down[:, :, 2:], images[:, :, :7]) and (down[:, :, :2] == 255).all()
    assert (apply(images, [layer("TranslateX", 14.0, fill=0)]) == 0).all()


def test_a_shear_of_one_moves_each_row_by_its_number() -> None:
    images = noise(1, 1, 5, 8)
    got = apply(images, [layer("ShearX", 2.0, fill=9)])
    for row in range(5):  # the middle of row y is y + 0.5 below the top, so it moves 2 y + 1
        shift = 2 * row + 1
        assert torch.equal(got[0, 0, row, : max(0, 8 - shift)], images[0, 0, row, shift:])
        assert (got[0, 0, row, max(0, 8 - shift) :] == 9).all()
    mirrored = apply(images.mT.contiguous(), [layer("ShearY", 2.0, fill=9)])
    assert torch.equal(mirrored.mT, got)


def test_any_matrix_as_pillow_takes_it() -> None:
    rng = np.random.default_rng(1)
    images = noise(20, 1, 33, 48)
    matrices = np.tile([1.0, 0.0, 0.0, 0.0, 1.0, 0.0], (20, 1)) + rng.normal(size=(20, 6)) / 4
    matrices[:, [2, 5]] *= 20
    y, x = np.mgrid[:33, :48] + 0.5
    for image, matrix, ours in zip(images, matrices, transform(images, matrices, 128), strict=True):
        source = Image.fromarray(image[0].numpy())
        theirs = np.asarray(
            source.transform(
                source.size, Image.Transform.AFFINE, tuple(matrix), BILINEAR, fillcolor=128
            )
        )
        from_x = matrix[0] * x + matrix[1] * y + matrix[2]
        from_y = matrix[3] * x + matrix[4] * y + matrix[5]
        edge = np.min(
            [np.abs(from_x), np.abs(from_x - 48), np.abs(from_y), np.abs(from_y - 33)], axis=0
        )
        clear = edge > 1e-3  # on the very edge a pixel may be inside or outside
        assert clear.mean() > 0.99
        assert np.abs(ours[0].numpy().astype(int) - theirs)[clear].max() <= 1


def test_levels_are_rounded_not_cut() -> None:
    images = torch.tensor([10, 11, 12, 13], dtype=torch.uint8).view(1, 1, 1, 4)
    got = apply(images, [layer("TranslateX", 0.75)])
    assert got.flatten().tolist()[:3] == [11, 12, 13]


def test_autocast_does_not_round_places() -> None:
    images = noise(2, 1, 96, 224)
    plain = apply(images, [layer("Rotate", 20.0, -3.0)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(apply(images, [layer("Rotate", 20.0, -3.0)]), plain)
