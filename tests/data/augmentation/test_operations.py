"""Each operation as Pillow does it, one an image, whatever stands beside it in the batch."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.data.pillow import AMOUNTS, layer, oracle, samples
from vitrail.data.augmentation.filters import grey
from vitrail.data.augmentation.operations import OPERATIONS, Layer, apply

SIZES = [(37, 53), (1, 1), (2, 5), (3, 3), (64, 41)]
WITHIN_ONE = {"Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY", "Hue"}
BY_CHANNEL = set(OPERATIONS) - {"Color", "Grey", "Hue", "Contrast"}
PER_IMAGE = {
    name: (AMOUNTS[name][-2] if len(AMOUNTS.get(name, ())) > 1 else 3.0) for name in OPERATIONS
}


def batch(channels: int, size: tuple[int, int] = (37, 53), n: int | None = None) -> Tensor:
    images = np.stack(samples(channels, size))
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()[:n]


def mixed_layer(n: int, shift: int = 0) -> Layer:
    """Every operation in turn, each with an amount of its own."""
    names = [list(OPERATIONS)[(i + shift) % len(OPERATIONS)] for i in range(n)]
    amounts = [PER_IMAGE[name] * (1 - 0.01 * i) for i, name in enumerate(names)]
    places = np.random.default_rng(shift).random((n, 2))
    return Layer(np.array(names), np.array(amounts), places, 128)


def rows_of(one: Layer, rows: list[int]) -> Layer:
    return Layer(one.names[rows], one.amounts[rows], one.places[rows], one.fill)


# --- as Pillow ---


def test_pillow_has_every_operation_but_the_cut_out() -> None:
    assert set(AMOUNTS) | {"Cutout"} == set(OPERATIONS)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", AMOUNTS)
def test_an_operation_is_that_of_pillow(name: str, size: tuple[int, int], mode: str) -> None:
    channels, limit = len(mode), int(name in WITHIN_ONE)
    for image in samples(channels, size):
        amounts = AMOUNTS[name]
        tensor = torch.from_numpy(image).permute(2, 0, 1)
        got = apply(tensor.expand(len(amounts), -1, -1, -1).contiguous(), [layer(name, *amounts)])
        assert got.dtype == torch.uint8
        for amount, ours in zip(amounts, got, strict=True):
            pillow = oracle(
                name, Image.fromarray(image.squeeze(2) if mode == "L" else image), amount
            )
            theirs = np.asarray(pillow).reshape(image.shape)
            difference = np.abs(ours.permute(1, 2, 0).numpy().astype(int) - theirs)
            assert difference.max() <= limit, amount


@pytest.mark.parametrize("name", sorted(BY_CHANNEL))
def test_other_numbers_of_channels_are_treated_channel_by_channel(name: str) -> None:
    images = batch(5)
    one = layer(name, *[PER_IMAGE[name]] * len(images))
    got = apply(images, [one])
    for channel in range(5):
        assert torch.equal(got[:, channel : channel + 1], apply(images[:, channel, None], [one]))


def test_colour_of_other_numbers_of_channels() -> None:
    """Their mean stands for the brightness; they have no hue."""
    images = batch(4)
    every = [layer(name, *[0.0] * 5) for name in ("Color", "Grey", "Contrast", "Hue")]
    pale, uniform, flat, turned = (apply(images, [each]) for each in every)
    mean = grey(images).to(torch.uint8)
    rounded = (images.float().mean(1, keepdim=True) + 0.5).floor()
    assert torch.equal(mean, rounded.to(torch.uint8))
    assert torch.equal(pale, mean.expand_as(images)) and torch.equal(uniform, pale)
    assert torch.equal(flat, flat[:, :1, :1, :1].expand_as(images))
    assert torch.equal(turned, images)


def test_two_layers_follow_each_other() -> None:
    images = batch(3)
    layers = [mixed_layer(5), mixed_layer(5, 7)]
    assert torch.equal(apply(images, layers), apply(apply(images, layers[:1]), layers[1:]))


# --- the cut-out ---


@pytest.mark.parametrize(
    ("place", "half", "rows", "columns"),
    [
        ((0.5, 0.5), 3, (15, 21), (23, 29)),
        ((0.0, 0.0), 4, (0, 4), (0, 4)),
        ((0.999, 0.999), 5, (31, 37), (47, 53)),
        ((0.5, 0.5), 0, (0, 0), (0, 0)),
        ((0.5, 0.5), 99, (0, 37), (0, 53)),
    ],
)
def test_cut_out(
    place: tuple[float, float], half: int, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    images = batch(2, n=1)
    one = Layer(np.array(["Cutout"]), np.array([float(half)]), np.array([place]), 9)
    expected = images.clone()
    expected[..., rows[0] : rows[1], columns[0] : columns[1]] = 9
    assert torch.equal(apply(images, [one]), expected)


# --- levels that are not whole ---


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"Hue"}))
def test_whole_levels_in_floating_point_differ_by_rounding_only(name: str, channels: int) -> None:
    images = batch(channels)
    one = layer(name, *[PER_IMAGE[name]] * len(images))
    whole, floating = apply(images, [one]), apply(images.float(), [one])
    assert floating.dtype == torch.float32
    assert floating.min() >= 0 and floating.max() <= 255
    # Pillow rounds three or six times for a blur, and again before sharpness is multiplied.
    limit = {"Sharpness": 1.5, "Contrast": 1.5, "Color": 1.5, "GaussianBlur": 1.5}.get(name, 1.0)
    assert (floating - whole.float()).abs().max() <= limit + 1e-3


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"Posterize", "Solarize", "SolarizeAdd"}))
def test_levels_in_between_are_not_rounded(name: str) -> None:
    """A picture of 16 bits keeps its fine steps: a step of 1/64 level changes most pixels."""
    images = batch(3, n=1).float() * (200 / 255) + 20
    one = layer(name, PER_IMAGE[name])
    waves = torch.sin(torch.arange(images[0].numel()) * 0.05).view_as(images) / 64
    near, far = apply(images, [one]), apply(images + waves, [one])
    inside = (near > 1) & (near < 254) & (near != 128)
    assert inside.float().mean() > 0.2
    assert (near != far)[inside].float().mean() > 0.5
    assert (near - far).abs().mean() < 0.2


# --- one operation an image ---


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("floating", [False, True])
def test_an_image_comes_out_alike_in_any_batch(channels: int, floating: bool) -> None:
    n = 3 * len(OPERATIONS) + 1
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, channels, 29, 41), generator=generator, dtype=torch.uint8)
    if floating:
        images = (images + torch.rand(images.shape, generator=generator)).clamp(max=255)
    layers = [mixed_layer(n), mixed_layer(n, 5)]
    together = apply(images, layers)
    for rows in ([0], [7, 3], list(range(11, 30)), list(range(n))[::-1]):
        part = apply(images[rows], [rows_of(each, rows) for each in layers])
        assert torch.equal(part, together[rows])
    assert not torch.equal(together, images)


def test_large_images_are_worked_on_in_shares() -> None:
    images = batch(3, (450, 620))
    one = layer("Invert", *[0.0] * 5)
    assert torch.equal(apply(images, [one]), 255 - images)


def test_the_input_is_left_alone() -> None:
    for images in (batch(3), batch(3).float()):
        before = images.clone()
        for name in OPERATIONS:
            apply(images, [layer(name, *[PER_IMAGE[name]] * 5)])
            assert torch.equal(images, before), name


def test_nothing_to_do() -> None:
    images = batch(3)
    assert torch.equal(apply(images, []), images)
    assert apply(images[:0], [mixed_layer(0)]).shape == (0, 3, 37, 53)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_gpu_gives_the_same(name: str) -> None:
    images, one = batch(3), layer(name, *[PER_IMAGE[name]] * 5)
    for each in (images, images.float()):
        there = apply(each.cuda(), [one]).cpu()
        assert (there.float() - apply(each, [one]).float()).abs().max() <= 1
