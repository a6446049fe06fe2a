"""Depth 16: what files have beyond 8 bits reaches the model."""

import io
import struct

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image

from tests.data import tiffs
from tests.data.formats.test_colour import grey_tiff
from tests.data.images import HEIGHT, MODES, WIDTH, chunk, noise, pixels, png, save, stored
from tests.data.samples import photo, samples
from vitrail.data.decode import decode
from vitrail.data.preprocess import Preprocess

DEEP_MODES = ("I;16", "I ", "F ")


def wide(bands: int, seed: int = 0) -> NDArray[np.uint16]:
    shape = (HEIGHT, WIDTH, bands)
    return np.random.default_rng(seed).integers(0, 65536, shape).astype(np.uint16)


def exact(values: NDArray) -> NDArray:
    return values.astype(np.float64) / 257


def white(levels: NDArray, alpha: NDArray) -> NDArray:
    return levels * alpha / 255 + 255 - alpha


def luma(levels: NDArray) -> NDArray:
    return levels @ np.array([19595, 38470, 7471]) / 65536


def assert_deep(data: bytes, expected: NDArray) -> None:
    """Compare with float64 levels [height, width, 1 or 3], as RGB and as grey."""
    colour, grey = pixels(data, depth=16), pixels(data, channels=1, depth=16)
    assert colour.dtype == grey.dtype == np.float32
    np.testing.assert_allclose(colour, np.broadcast_to(expected, colour.shape), rtol=0, atol=1e-4)
    flat = expected if expected.shape[2] == 1 else luma(expected)[..., None]
    np.testing.assert_allclose(grey, flat, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", samples())
def test_images_of_eight_bits_are_the_same(name: str) -> None:
    for channels in (1, 3):
        shallow = pixels(samples()[name], channels=channels)
        deep = pixels(samples()[name], channels=channels, depth=16)
        assert deep.dtype == np.float32
        np.testing.assert_array_equal(deep, shallow)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_rounds_to_its_eight_bits(mode: str, orientation: int) -> None:
    data, expected = MODES[mode](orientation)
    deep = pixels(data, depth=16)
    np.testing.assert_array_equal(np.floor(deep + 0.5), expected)
    assert np.array_equal(deep, expected) != mode.startswith(DEEP_MODES)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_grey_of_sixteen_bits(orientation: int) -> None:
    values = wide(1)
    image = Image.fromarray(stored(values[..., 0], orientation))
    for kind in ("PNG", "TIFF"):
        assert_deep(save(image, kind, orientation), exact(values))


def rows(values: NDArray) -> list[bytes]:
    return [row.astype(">u2").tobytes() for row in values]


@pytest.mark.parametrize(("kind", "bands"), [(0, 1), (4, 2), (2, 3), (6, 4)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_png_of_sixteen_bits(kind: int, bands: int, orientation: int) -> None:
    values = wide(bands)
    turned = stored(values, orientation)
    exif = b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1" + struct.pack(">HHI", orientation, 0, 0)
    data = png(kind, 16, rows(turned), turned.shape[:2], chunk(b"eXIf", exif))
    levels = exact(values)
    if kind in (4, 6):
        levels = white(levels[..., :-1], levels[..., -1:])
    assert_deep(data, levels)


def test_transparent_colour_of_a_png_is_white() -> None:
    values = np.array([[[0x0A07, 0x1407, 0x1E07], [0x0A07, 0x1407, 0x1F07]]], np.uint16)
    data = png(2, 16, rows(values), (1, 2), chunk(b"tRNS", rows(values[:, :1])[0]))
    expected = exact(values)
    expected[0, 0] = 255
    assert_deep(data, expected)
    grey = np.array([[[1000], [1001]]], np.uint16)
    data = png(0, 16, rows(grey), (1, 2), chunk(b"tRNS", rows(grey[:, :1])[0]))
    assert_deep(data, np.array([[[255.0], [1001 / 257]]]))


@pytest.mark.parametrize("orientation", [1, 5, 8])
@pytest.mark.parametrize("planar", [False, True])
def test_tiff_colour_of_sixteen_bits(planar: bool, orientation: int) -> None:
    values = wide(4)
    tags = {262: (2,), 274: (orientation,)}
    turned = stored(values, orientation)
    levels = exact(values)
    assert_deep(tiffs.tiff(turned[..., :3], planar=planar, tags=tags), levels[..., :3])
    straight = white(levels[..., :3], levels[..., 3:])
    assert_deep(tiffs.tiff(turned, planar=planar, tags=tags | {338: (2,)}), straight)
    assert_deep(tiffs.tiff(turned, planar=planar, tags=tags | {338: (0,)}), levels[..., :3])
    premultiplied = (levels[..., :3] + 255 - levels[..., 3:]).clip(0, 255)
    assert_deep(tiffs.tiff(turned, planar=planar, tags=tags | {338: (1,)}), premultiplied)


def test_floating_colour_keeps_its_precision() -> None:
    values = np.random.default_rng(1).random((HEIGHT, WIDTH, 3), dtype=np.float32)
    expected = values.astype(np.float64) * 255
    assert_deep(tiffs.tiff(values, tags={262: (2,)}), expected)
    np.testing.assert_array_equal(
        pixels(tiffs.tiff(values, tags={262: (2,)})), np.floor(expected + 0.5)
    )


def test_twelve_bits_and_white_is_zero() -> None:
    levels = np.array([[[0.0], [255.0]]])
    assert_deep(grey_tiff(12, b"\x00\x0f\xff", 2), levels)
    assert_deep(grey_tiff(12, b"\x80\x00\x10", 2), np.array([[[2048], [16]]]) * 255 / 4095)
    inverted = tiffs.tiff(wide(1), tags={262: (0,)})
    assert_deep(inverted, 255 - exact(wide(1)))


def test_a_large_jpeg_still_shrinks() -> None:
    data = save(photo(400, 600), "JPEG")
    shallow, deep = (Preprocess(size=(64, 96), depth=depth) for depth in (8, 16))
    assert torch.equal(deep.decode(data, "x"), shallow.decode(data, "x").float())
    got = deep.load(data, "x")
    assert got.dtype == torch.float32 and got.shape == (3, 64, 96) and got.is_contiguous()
    assert (got - shallow.load(data, "x")).abs().max() <= 1.5  # rounded twice there


@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest"])
@pytest.mark.parametrize("source", [(90, 70), (11, 7), (2, 50), (1, 1)])
@pytest.mark.parametrize("size", [(24, 33), (7, 1), (1, 1)])
def test_unrounded_fit_is_near_the_rounded_one_and_in_range(
    resize: str, interpolation: str, source: tuple[int, int], size: tuple[int, int]
) -> None:
    contract = Preprocess(size=size, resize=resize, interpolation=interpolation, depth=16)
    image = torch.from_numpy(noise(3, *source, high=100) + 80)  # so that nothing is clipped
    got = contract.fit(image.float())
    assert got.dtype == torch.float32
    assert (got - contract.fit(image)).abs().max() <= 1.5
    black_and_white = contract.fit(torch.from_numpy(noise(3, *source, high=2) * 255).float())
    assert black_and_white.min() >= 0 and black_and_white.max() <= 255


def test_unrounded_fit_equals_pillows_of_floating_point() -> None:
    values = np.random.default_rng(2).random((90, 70), dtype=np.float32) * 255
    contract = Preprocess(size=(24, 33), resize="squash", channels=1, mean=(0,), std=(1,), depth=16)
    theirs = np.asarray(Image.fromarray(values).resize((33, 24), Image.Resampling.BICUBIC))
    got = contract.fit(torch.from_numpy(values)[None])[0]
    np.testing.assert_allclose(got, theirs.clip(0, 255), rtol=0, atol=1e-2)


@pytest.mark.parametrize("compression", ["zlib", None])
@pytest.mark.parametrize("order", ["<", ">"])
def test_floating_point_of_either_byte_order(order: str, compression: str | None) -> None:
    """Pillow 13 swaps the bytes of compressed big-endian values twice."""
    values = np.random.default_rng(0).random((7, 11)).astype(np.float32)
    file = io.BytesIO()
    tifffile.imwrite(
        file, values, byteorder=order, compression=compression, photometric="minisblack"
    )
    pixels = decode(file.getvalue(), channels=1, where="x", max_pixels=100, depth=16)
    assert np.allclose(pixels[0].numpy(), values * 255, atol=1e-4)
