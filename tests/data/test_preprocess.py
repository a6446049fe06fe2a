import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.data.images import noise, save
from tests.data.samples import photo
from vitrail.data.preprocess import Preprocess
from vitrail.errors import ImageError

PILLOW = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}


def tensor(image: Image.Image) -> torch.Tensor:
    array = np.array(image)
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy())


def difference(ours: torch.Tensor, theirs: Image.Image) -> int:
    return int((ours.int() - tensor(theirs).int()).abs().max())


def pillow(
    image: Image.Image, box: tuple[int, int, int, int], size: tuple[int, int], how: str
) -> Image.Image:
    """Cut, then resize along the rows, then along the columns (alone, Pillow may swap them)."""
    top, left, height, width = box
    cut = image.crop((left, top, left + width, top + height))
    return cut.resize((size[1], height), PILLOW[how]).resize(size[::-1], PILLOW[how])


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("source", [(90, 70), (70, 90), (11, 7), (64, 3), (2, 50), (1, 1), (5, 1)])
@pytest.mark.parametrize("size", [(24, 32), (33, 9), (1, 7), (7, 1), (2, 2), (1, 1)])
@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_fit_is_pillows_resize_of_the_same_box(
    interpolation: str, source: tuple[int, int], size: tuple[int, int], resize: str
) -> None:
    contract = Preprocess(
        size=size, resize=resize, interpolation=interpolation, crop_fraction=0.875
    )
    image = Image.fromarray(noise(*source, 3))
    theirs = tensor(pillow(image, contract.box(*source), size, interpolation)).int()
    ours = contract.fit(tensor(image))
    assert ours.shape == (3, *size) and ours.dtype == torch.uint8 and ours.is_contiguous()
    apart = (ours.int() - theirs).abs()
    assert apart.max() <= 2  # both round between the passes, to weights of different precision
    assert (apart > 1).float().mean() < 0.005


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("source", [(375, 500), (90, 61), (150, 400)])
def test_photo_is_within_one_grey_level_of_pillow(
    interpolation: str, source: tuple[int, int]
) -> None:
    image = photo(*source)
    contract = Preprocess(size=(128, 96), crop_fraction=0.875, interpolation=interpolation)
    theirs = pillow(image, contract.box(*source), (128, 96), interpolation)
    assert difference(contract.load(save(image, "PNG"), "x"), theirs) <= 1


@pytest.mark.parametrize("source", [(90, 70), (11, 7), (2, 50), (1, 1)])
@pytest.mark.parametrize("size", [(24, 32), (7, 1), (33, 9)])
def test_nearest_takes_the_pixel_below_each_centre(
    source: tuple[int, int], size: tuple[int, int]
) -> None:
    image = noise(*source, 3)
    contract = Preprocess(size=size, resize="squash", interpolation="nearest")
    got = contract.fit(tensor(Image.fromarray(image))).permute(1, 2, 0).numpy()
    for row, column in np.ndindex(*size):
        place = (
            (2 * row + 1) * source[0] / (2 * size[0]),
            (2 * column + 1) * source[1] / (2 * size[1]),
        )
        assert (got[row, column] == image[int(place[0] + 1e-9), int(place[1] + 1e-9)]).all()


@pytest.mark.parametrize(
    ("resize", "fraction", "source", "box"),
    [
        ("crop", 1.0, (100, 300), (0, 75, 100, 150)),  # the input is 2:3
        ("crop", 1.0, (300, 100), (116, 0, 67, 100)),
        ("crop", 0.5, (100, 300), (25, 112, 50, 75)),
        ("squash", 1.0, (100, 300), (0, 0, 100, 300)),
        ("squash", 0.5, (101, 300), (25, 75, 51, 150)),
        ("crop", 1.0, (1, 1), (0, 0, 1, 1)),
        ("crop", 0.875, (1, 5000), (0, 2499, 1, 1)),
        ("crop", 0.875, (5000, 1), (2499, 0, 1, 1)),
        ("crop", 0.001, (10, 10), (4, 4, 1, 1)),
    ],
)
def test_box(
    resize: str, fraction: float, source: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    assert Preprocess(size=(20, 30), resize=resize, crop_fraction=fraction).box(*source) == box


@pytest.mark.parametrize(
    ("source", "inner"),
    [
        ((100, 300), (6, 0, 7, 20)),  # top, left, height, width inside 20 x 20
        ((300, 100), (0, 6, 20, 7)),
        ((50, 50), (0, 0, 20, 20)),
        ((1, 5000), (9, 0, 1, 20)),
        ((5000, 1), (0, 9, 20, 1)),
    ],
)
def test_pad_keeps_the_shape_and_fills_the_borders(
    source: tuple[int, int], inner: tuple[int, int, int, int]
) -> None:
    top, left, height, width = inner
    image = Image.fromarray(noise(*source, 3, high=100))
    got = Preprocess(size=(20, 20), resize="pad", pad_fill=200).fit(tensor(image))
    inside = torch.zeros(20, 20, dtype=torch.bool)
    inside[top : top + height, left : left + width] = True
    assert (got[:, ~inside] == 200).all()
    theirs = image.resize((width, height), Image.Resampling.BICUBIC)
    kept = got[:, top : top + height, left : left + width]
    assert difference(kept, theirs) <= 1


@given(
    source=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    resize=st.sampled_from(["crop", "squash", "pad"]),
    channels=st.sampled_from([1, 3]),
    interpolation=st.sampled_from(["bicubic", "bilinear", "nearest"]),
)
@settings(max_examples=300, deadline=None)
def test_result_does_not_depend_on_the_memory_layout(
    source: tuple[int, int],
    size: tuple[int, int],
    resize: str,
    channels: int,
    interpolation: str,
) -> None:
    statistics = {"mean": (0.5,) * channels, "std": (0.5,) * channels}
    contract = Preprocess(
        size=size, resize=resize, channels=channels, interpolation=interpolation, **statistics
    )
    rows = torch.from_numpy(noise(*source, channels))
    last = rows.permute(2, 0, 1)
    wider = torch.zeros(channels, source[0] * 2, source[1] + 3, dtype=torch.uint8)
    wider[:, ::2, 3:] = last
    results = [contract.fit(x) for x in (last, last.contiguous(), wider[:, ::2, 3:])]
    assert results[0].shape == (channels, *size)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
    flat = contract.fit(torch.full_like(last, 77))
    border = contract.pad_fill if resize == "pad" else 77
    assert set(flat.unique().tolist()) <= {77, border}


@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
@pytest.mark.parametrize("source", [(1, 1), (1, 5000), (5000, 1), (3, 2)])
def test_extreme_shapes_have_a_result(resize: str, source: tuple[int, int]) -> None:
    image = Image.fromarray(noise(*source, 3))
    got = Preprocess(size=(16, 24), resize=resize).load(save(image, "PNG"), "x")
    assert got.shape == (3, 16, 24)


@pytest.mark.parametrize("shape", [(60, 44), (61, 1), (1, 45), (1, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_of_a_jpeg_are_pillows_and_fit_whatever_their_layout(
    shape: tuple[int, int], channels: int
) -> None:
    mode = "L" if channels == 1 else "RGB"
    data = save(photo(*shape).convert(mode), "JPEG")
    contract = Preprocess(
        size=(20, 13), channels=channels, mean=(0.5,) * channels, std=(0.5,) * channels
    )
    image = contract.decode(data, "x", detail=9.0)
    assert torch.equal(image, tensor(Image.open(io.BytesIO(data))))
    for box in ((0, 0, *shape), (shape[0] // 2, shape[1] // 3, 1, 1), (shape[0] - 1, 0, 1, 1)):
        assert torch.equal(contract.fit_box(image, box), contract.fit_box(image.clone(), box))


@pytest.mark.parametrize("first", range(4))
def test_channels_of_a_wider_image_are_fitted_as_if_alone(first: int) -> None:
    """Four bytes a pixel, as a decoded JPEG has them, but the tensor may begin or end anywhere."""
    rows = torch.from_numpy(noise(9, 7, 6))[..., first:]
    part = rows.permute(2, 0, 1)[:3]
    four = torch.from_numpy(np.ascontiguousarray(rows.numpy()[..., :4].repeat(1, axis=1)))
    contract = Preprocess(size=(5, 8))
    for view in (part, four.permute(2, 0, 1)[:3], four.permute(2, 0, 1)[-3:]):
        assert torch.equal(contract.fit(view), contract.fit(view.contiguous()))
    array = noise(9, 7, 4)
    for cut in (array[..., :3], array[..., 1:]):  # memory that ends with the last channel
        view = torch.from_numpy(cut).permute(2, 0, 1)
        assert torch.equal(contract.fit(view), contract.fit(view.contiguous()))


def test_normalise_does_not_change_its_input() -> None:
    contract = Preprocess(size=(4, 6), depth=16)
    images = torch.rand(2, 3, 4, 6) * 255
    kept = images.clone()
    assert not torch.equal(contract.normalise(images), images)
    assert torch.equal(images, kept)


def test_fit_box_resizes_the_box_alone() -> None:
    image = torch.from_numpy(noise(3, 30, 40))
    contract = Preprocess(size=(8, 12))
    changed = image.clone()
    changed[:, :5], changed[:, 15:], changed[:, :, :7], changed[:, :, 27:] = 0, 0, 0, 0
    got = contract.fit_box(image, (5, 7, 10, 20))
    assert got.shape == (3, 8, 12)
    assert torch.equal(got, contract.fit_box(changed, (5, 7, 10, 20)))
    assert torch.equal(contract.fit_box(image, contract.box(30, 40)), contract.fit(image))


def test_load_is_decode_then_fit_in_the_models_colour() -> None:
    image = photo(30, 40)
    data = save(image, "PNG")
    contract = Preprocess(size=(8, 12), channels=1, mean=(0.4,), std=(0.2,))
    assert torch.equal(contract.decode(data, "x"), tensor(image.convert("L")))
    assert torch.equal(contract.load(data, "x"), contract.fit(contract.decode(data, "x")))


@pytest.mark.parametrize(
    ("changes", "detail", "shape"),
    [
        ({}, 1.0, (100, 150)),  # 400 x 600; one quarter is above 64 / 0.8 = 80 and 96 / 0.8 = 120
        ({}, 2.0, (200, 300)),
        ({"crop_fraction": 0.5}, 1.0, (200, 300)),
        ({"shrink_on_load": False}, 1.0, (400, 600)),
    ],
)
def test_large_jpeg_is_decoded_as_large_as_fit_needs(
    changes: dict[str, object], detail: float, shape: tuple[int, int]
) -> None:
    contract = Preprocess(**{"size": (64, 96), "crop_fraction": 0.8} | changes)
    data = save(photo(400, 600), "JPEG")
    assert contract.decode(data, "x", detail=detail).shape == (3, *shape)


def test_max_pixels_is_checked_before_shrinking() -> None:
    data = save(photo(400, 600), "JPEG")
    with pytest.raises(ImageError, match=r"^a\.jpg: 400x600 = 240000 pixels, more than"):
        Preprocess(size=(8, 8), max_pixels=239_999).load(data, "a.jpg")


def test_normalise_and_back() -> None:
    contract = Preprocess(size=(16, 24), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    images = torch.from_numpy(noise(2, 5, 3, 16, 24))
    got = contract.normalise(images)
    mean = torch.tensor(contract.mean, dtype=torch.float64)[:, None, None]
    std = torch.tensor(contract.std, dtype=torch.float64)[:, None, None]
    expected = (images.double() / 255 - mean) / std
    assert got.dtype == torch.float32 and got.shape == images.shape
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=1e-6)
    assert torch.equal(contract.denormalise(got), images)
    assert contract.denormalise(torch.full((3, 1, 1), 99.0)).tolist() == [[[255]]] * 3
