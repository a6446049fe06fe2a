"""Crops of one image: boxes by their laws, pixels as Pillow resizes them."""

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from vitrail.data.augmentation.multicrop import DRAWS, MultiCropConfig, crop_boxes, multi_crop
from vitrail.data.preprocess import Preprocess

CONFIG = MultiCropConfig(large=2, small=5, small_size=(24, 40))
PREPROCESS = Preprocess(size=(56, 48))


def uniform(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, DRAWS))


def photo(height: int, width: int) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    bands = [127 + 60 * np.sin(x / (9 + c) + c) + 60 * np.cos(y / (13 + c)) for c in range(3)]
    return Image.fromarray(np.stack(bands, -1).astype(np.uint8))


def tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(210, 333), (97, 41)])
def test_crops_are_those_of_pillow(interpolation: str, size: tuple[int, int]) -> None:
    image, u = photo(*size), uniform(CONFIG.crops)
    preprocess = PREPROCESS.replace(interpolation=interpolation)
    crops = multi_crop(tensor(image), u, preprocess, CONFIG)
    assert [tuple(each.shape) for each in crops] == [(2, 3, 56, 48), (5, 3, 24, 40)]
    boxes = crop_boxes(u, size, (56, 48), CONFIG)
    how = Image.Resampling[interpolation.upper()]
    for found, each in zip(boxes, crops, strict=True):
        for (top, left, height, width), crop in zip(found, each, strict=True):
            part = image.crop((left, top, left + width, top + height))
            theirs = np.asarray(part.resize((crop.shape[2], crop.shape[1]), how))
            assert crop.dtype == torch.uint8
            assert np.abs(crop.permute(1, 2, 0).numpy().astype(int) - theirs).max() <= 1


def test_areas_and_shapes() -> None:
    many = CONFIG.replace(large=400, small=400)
    size = (900, 900)
    large, small = crop_boxes(uniform(800), size, (48, 48), many)
    for boxes, (low, high), shape in ((large, (0.4, 1.0), 1.0), (small, (0.05, 0.4), 40 / 24)):
        top, left, height, width = np.array(boxes).T
        areas = height * width / (size[0] * size[1])
        assert areas.max() <= high + 0.01
        free = (height < size[0]) & (width < size[1])
        assert areas[free].min() >= low - 0.01
        ratios = (width / height / shape)[free]
        assert ratios.min() > 0.99 * 3 / 4 and ratios.max() < 1.01 * 4 / 3
        assert (top + height).max() <= size[0] and (left + width).max() <= size[1]
        assert np.ptp(areas) > 0.9 * (high - low)


def test_a_crop_depends_on_its_own_numbers_alone() -> None:
    image, u = tensor(photo(80, 120)), uniform(CONFIG.crops)
    large, small = multi_crop(image, u, PREPROCESS, CONFIG)
    fewer = CONFIG.replace(small=2)
    again = multi_crop(image, u[: fewer.crops], PREPROCESS, fewer)
    assert torch.equal(again[0], large) and torch.equal(again[1], small[:2])


@pytest.mark.parametrize("channels", [1, 5])
def test_levels_in_floating_point_and_other_channels(channels: int) -> None:
    image = torch.rand(channels, 60, 90) * 255
    values = (0.5,) * channels
    preprocess = Preprocess(size=(20, 30), channels=channels, mean=values, std=values)
    large, small = multi_crop(image, uniform(CONFIG.crops), preprocess, CONFIG)
    assert large.dtype == torch.float32 and large.shape == (2, channels, 20, 30)
    assert small.shape == (5, channels, 24, 40)


def test_none_of_a_kind() -> None:
    config = CONFIG.replace(large=1, small=0)
    image = tensor(photo(50, 70))
    large, small = multi_crop(image, uniform(1), PREPROCESS, config)
    assert large.shape == (1, 3, 56, 48) and small.shape == (0, 3, 24, 40)
    assert small.dtype == torch.uint8


@pytest.mark.parametrize("areas", [(0.5, 0.2), (0.0, 0.5)])
def test_areas_must_go_up(areas: tuple[float, float]) -> None:
    with pytest.raises(ValidationError, match=r"small_area=.* must go up, from above 0"):
        MultiCropConfig(small_area=areas)
