"""Brightness, its mean, and the formulas of point operations between whole levels."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageStat

from tests.data.pillow import layer, samples
from vitrail.data.augmentation.operations import apply
from vitrail.data.augmentation.points import POINTS, grey, mean_level, points


def tensors(channels: int) -> torch.Tensor:
    images = np.stack(samples(channels, (37, 53)))
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def test_grey_is_that_of_pillow() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (200, 301, 3)).astype(np.uint8)
    ours = grey(torch.from_numpy(image).permute(2, 0, 1)[None])
    assert ours.shape == (1, 1, 200, 301)
    assert (ours[0, 0].numpy() == np.asarray(Image.fromarray(image).convert("L"))).all()


def test_grey_of_levels_in_between() -> None:
    images = tensors(3).float() + 0.3
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    expected = (images * weights).sum(1, keepdim=True)
    torch.testing.assert_close(grey(images), expected, atol=0.01, rtol=0)
    assert torch.equal(grey(images[:, :1]), images[:, :1])
    torch.testing.assert_close(grey(images[:, :2]), images[:, :2].mean(1, keepdim=True))


def test_grey_leaves_its_input_alone() -> None:
    for images in (tensors(3), tensors(3).float(), tensors(1).float()):
        before = images.clone()
        grey(images)
        mean_level(images)
        assert torch.equal(images, before)


def test_mean_level_is_that_of_pillow() -> None:
    for image, mean in zip(samples(3, (37, 53)), mean_level(tensors(3)).flatten(), strict=True):
        assert mean == pytest.approx(ImageStat.Stat(Image.fromarray(image).convert("L")).mean[0])


def test_mean_level_does_not_depend_on_the_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    images = 255 * torch.rand(9, 3, 91, 57, generator=generator)
    together = mean_level(images)
    torch.testing.assert_close(together.flatten().float(), grey(images).flatten(1).mean(1))
    for i in range(9):
        assert torch.equal(mean_level(images[i : i + 1])[0], together[i])


@pytest.mark.parametrize("name", POINTS)
def test_the_table_of_8_bits_holds_what_whole_levels_become(name: str) -> None:
    """All 256 levels in one image: what the table says is what the formula says, cut."""
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    names, amounts = np.array([name]), np.array([3.0])
    table = points(images, names, amounts).float()
    formula = points(images.float(), names, amounts)
    assert torch.equal(table, formula.floor()) or (table - formula).abs().max() <= 1
    assert table.unique().numel() > 1


def test_formulas_between_whole_levels() -> None:
    images = torch.tensor([[10.25, 100.5, 127.9, 128.5, 200.75, 250.0]]).view(1, 1, 2, 3)
    expected = {
        ("Invert", 0.0): 255 - images,
        ("Posterize", 2.0): (images // 64) * 64,
        ("Posterize", 0.0): torch.zeros_like(images),
        ("Posterize", 8.0): images.floor(),
        ("Solarize", 128.0): torch.where(images < 128, images, 255 - images),
        ("SolarizeAdd", 50.5): torch.where(images < 128, images + 50.5, images),
        ("Brightness", 1.5): (images * 1.5).clamp(max=255),
        ("Contrast", 0.5): images.mean() + 0.5 * (images - images.mean()),
        ("AutoContrast", 0.0): (images - 10.25) * (255 / (250.0 - 10.25)),
    }
    for (name, amount), result in expected.items():
        got = apply(images, [layer(name, amount)])
        torch.testing.assert_close(got, result, atol=0.01, rtol=0, msg=name)


def test_equalize_reads_its_table_linearly_between_whole_levels() -> None:
    ramp = torch.linspace(0, 255, 64 * 64).sqrt().mul(15.9).view(1, 1, 64, 64)  # mostly light
    even = apply(ramp, [layer("Equalize", 0.0)])
    order = even.flatten()
    assert (order.diff() >= 0).all()
    assert order.unique().numel() > 3000  # not 256 steps
    counts = torch.histc(even, 8, 0, 255)[:-1]  # Pillow's steps are cut, so that the top is full
    assert counts.max() < 1.1 * counts.min()


def test_an_image_of_one_level_stays() -> None:
    for images in (torch.full((2, 3, 5, 7), 40, dtype=torch.uint8), torch.full((2, 1, 5, 7), 40.5)):
        for name in ("AutoContrast", "Equalize"):
            assert torch.equal(apply(images, [layer(name, 0.0, 0.0)]), images)
