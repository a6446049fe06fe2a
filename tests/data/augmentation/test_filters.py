"""Colour, sharpness, blur and hue where Pillow says nothing: levels in between, odd shapes."""

import colorsys

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from tests.data.pillow import layer, oracle
from vitrail.data.augmentation.filters import finish, gaussian_blur, hue
from vitrail.data.augmentation.operations import apply


def noise(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("turn", [-0.5, -0.21, 0.0, 0.07, 0.5])
def test_hue_between_whole_levels_is_that_of_colorsys(turn: float) -> None:
    generator = torch.Generator().manual_seed(0)
    images = 255 * torch.rand(1, 3, 9, 11, generator=generator)
    images[0, :, 0] = images[0, :1, 0]  # a row without colour
    images[0, :, 1] = 0  # and a black one
    got = hue(images, np.array([turn]))
    for row in range(9):
        for column in range(11):
            r, g, b = (images[0, :, row, column] / 255).tolist()
            h, s, v = colorsys.rgb_to_hsv(r, g, b)
            expected = 255 * torch.tensor(colorsys.hsv_to_rgb((h + turn) % 1, s, v))
            torch.testing.assert_close(got[0, :, row, column], expected, atol=0.01, rtol=0)


def test_hue_of_every_kind_of_colour_is_that_of_pillow() -> None:
    """Every sixth of the circle, pure, pale and dark colours, and grey."""
    levels = np.array([0, 1, 2, 51, 85, 127, 128, 170, 204, 254, 255], dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(11, 121, 3)
    image = torch.from_numpy(colours).permute(2, 0, 1)[None]
    for turn in np.linspace(-0.5, 0.5, 23):
        ours = hue(image, np.array([turn]))[0].permute(1, 2, 0).numpy().astype(int)
        theirs = np.asarray(oracle("Hue", Image.fromarray(colours), float(turn)))
        assert np.abs(ours - theirs).max() <= 1


def test_every_image_has_its_own_blur() -> None:
    images, deviations = noise(3, 1, 40, 61), (0.3, 2.0, 6.5)
    for image, deviation, ours in zip(
        images, deviations, gaussian_blur(images, np.array(deviations)), strict=True
    ):
        theirs = Image.fromarray(image[0].numpy()).filter(ImageFilter.GaussianBlur(deviation))
        assert (ours[0].numpy() == np.asarray(theirs)).all()


@pytest.mark.parametrize("deviation", [0.5, 1.0, 2.0, 5.0])
def test_the_blur_of_a_point_has_its_standard_deviation(deviation: float) -> None:
    image = torch.zeros(1, 1, 81, 81)
    image[..., 40, 40] = 255
    spot = gaussian_blur(image, np.array([deviation]))[0, 0] / 255
    assert spot.sum().item() == pytest.approx(1, abs=1e-4)
    places = torch.arange(81) - 40.0
    for profile in (spot.sum(0), spot.sum(1)):
        measured = (profile * places**2).sum().sqrt().item()
        assert measured == pytest.approx(deviation, rel=0.01)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 2), (2, 2)])
def test_an_image_too_small_for_a_neighbourhood_is_not_sharpened(size: tuple[int, int]) -> None:
    images = noise(2, 3, *size)
    assert torch.equal(apply(images, [layer("Sharpness", 0.0, 1.9)]), images)


def test_smoothing_between_whole_levels() -> None:
    images = noise(1, 1, 5, 6).float() + 0.25
    got = apply(images, [layer("Sharpness", 0.0)])
    box = torch.nn.functional.conv2d(images, torch.ones(1, 1, 3, 3))
    expected = (box + 4 * images[..., 1:-1, 1:-1]) / 13
    torch.testing.assert_close(got[..., 1:-1, 1:-1], expected)
    for edge in (got[..., 0, :] - images[..., 0, :], got[..., -1] - images[..., -1]):
        assert (edge == 0).all()


def test_a_factor_of_one_changes_nothing() -> None:
    for images in (noise(2, 3, 7, 9), noise(2, 3, 7, 9).float() + 0.4):
        for name in ("Color", "Sharpness"):
            torch.testing.assert_close(
                apply(images, [layer(name, 1.0, 1.0)]), images.clamp(max=255)
            )


def test_finish_clips_and_cuts() -> None:
    values = torch.tensor([-3.0, 0.9, 254.999, 300.0]).view(1, 1, 2, 2)
    like = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    assert finish(values.clone(), like).flatten().tolist() == [0, 0, 254, 255]
    kept = finish(values.clone(), values).flatten()
    torch.testing.assert_close(kept, torch.tensor([0.0, 0.9, 254.999, 255.0]))
