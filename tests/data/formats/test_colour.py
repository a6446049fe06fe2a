import struct

import numpy as np
import pytest
from PIL import Image

from tests.data.images import MODES, chunk, noise, on_white, pixels, png, save
from vitrail.errors import ImageError


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_and_orientation_is_upright_rgb(mode: str, orientation: int) -> None:
    data, expected = MODES[mode](orientation)
    np.testing.assert_array_equal(pixels(data), expected)


@pytest.mark.parametrize("mode", MODES)
def test_grey_model_gets_luma_of_the_same_pixels(mode: str) -> None:
    data, expected = MODES[mode](6)
    red, green, blue = (expected[..., i].astype(int) for i in range(3))
    luma = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    np.testing.assert_array_equal(pixels(data, channels=1)[..., 0], luma)


@pytest.mark.parametrize(
    ("kind", "depth", "row", "key", "expected"),
    [
        (0, 4, b"\x0f\x70", 15, [0, 255, 119]),  # grey 0, 15, 7; 15 is the transparent one
        (0, 8, b"\x00\x07\x63", 7, [0, 255, 99]),
        (0, 16, b"\x00\x00\x01\x02\x01\x03", 0x102, [0, 255, 1]),
    ],
)
def test_transparent_grey_of_a_png_is_white(
    kind: int, depth: int, row: bytes, key: int, expected: list[int]
) -> None:
    data = png(kind, depth, [row], (1, 3), chunk(b"tRNS", key.to_bytes(2, "big")))
    assert pixels(data)[0, :, 0].tolist() == expected


@pytest.mark.parametrize(
    ("depth", "row", "key"),
    [
        (8, b"\x0a\x14\x1e\x0a\x14\x1f", b"\0\x0a\0\x14\0\x1e"),
        (16, b"\x0a\7\x14\7\x1e\7\x0a\7\x14\7\x1f\7", b"\x0a\7\x14\7\x1e\7"),
    ],
)
def test_transparent_colour_of_a_png_is_white(depth: int, row: bytes, key: bytes) -> None:
    data = png(2, depth, [row], (1, 2), chunk(b"tRNS", key))
    assert pixels(data)[0].tolist() == [[255, 255, 255], [10, 20, 31]]


def test_sixteen_bit_colour_keeps_the_high_byte() -> None:
    assert pixels(png(2, 16, [b"\x12\xff\x34\x00\x56\x80"], (1, 1)))[0, 0].tolist() == [18, 52, 86]


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bit_grey_of_either_byte_order(order: str) -> None:
    values = np.array([[0, 128, 129, 257, 65535], [385, 386, 4095, 4096, 32768]], order + "u2")
    image = Image.frombytes("I;16B" if order == ">" else "I;16", (5, 2), values.tobytes())
    expected = np.floor(values.astype(float) / 257 + 0.5)
    np.testing.assert_array_equal(pixels(save(image, "TIFF"))[..., 0], expected)


def test_premultiplied_alpha_is_composited_on_white() -> None:
    straight, alpha = noise(6, 5, 3, seed=1), noise(6, 5, seed=2)
    alpha[0] = 255
    data = save(Image.fromarray(np.dstack([straight, alpha])), "TIFF")
    np.testing.assert_array_equal(pixels(data), on_white(straight, alpha[..., None]))
    at = data.index(b"\x52\x01\x03\x00\x01\x00\x00\x00\x02\x00")  # ExtraSamples: unassociated alpha
    premultiplied = data[: at + 8] + b"\x01" + data[at + 9 :]
    np.testing.assert_array_equal(pixels(premultiplied)[0], straight[0])


def test_white_is_zero_tiff_of_sixteen_bits() -> None:
    data = save(Image.fromarray(np.array([[0, 65535, 257]], np.uint16)), "TIFF")
    at = data.index(b"\x06\x01\x03\x00\x01\x00\x00\x00\x01\x00")  # photometric: black is zero
    assert pixels(data)[0, :, 0].tolist() == [0, 255, 1]
    inverted = data[: at + 8] + b"\x00" + data[at + 9 :]
    assert pixels(inverted)[0, :, 0].tolist() == [255, 0, 254]


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (
            np.array([[0, 65536]], np.int32),
            r"^x: integer pixels from 0 to 65536; .* 0 to 65535",
        ),
        (np.array([[-1, 5]], np.int32), r"^x: integer pixels from -1 to 5"),
        (np.array([[0, 1.5]], np.float32), r"floating-point pixels from 0 to 1\.5; .* 0 to 1"),
        (np.array([[0, np.nan]], np.float32), r"floating-point pixels from nan to nan"),
    ],
)
def test_values_without_a_meaning_are_refused(values: np.ndarray, match: str) -> None:
    data = save(Image.fromarray(values), "TIFF")
    with pytest.raises(ImageError, match=match):
        pixels(data)


def grey_tiff(bits: int, data: bytes, width: int, extra: int | None = None) -> bytes:
    """Write one row of grey by hand, with a second sample a pixel where `extra` says what it is."""
    samples = 1 if extra is None else 2
    depth = bits if samples == 1 else bits << 16 | bits  # one short, or two in one field
    entries = [(256, 3, 1, width), (257, 3, 1, 1), (258, 3, samples, depth), (259, 3, 1, 1)]
    entries += [(262, 3, 1, 1), (273, 4, 1, 0), (277, 3, 1, samples), (278, 3, 1, 1)]
    entries += [(279, 4, 1, len(data))] + ([] if extra is None else [(338, 3, 1, extra)])
    start = 8 + 2 + 12 * len(entries) + 4
    entries[5] = (273, 4, 1, start)
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + bytes(4) + data


def test_twelve_bit_grey_is_scaled_from_4095() -> None:
    assert pixels(grey_tiff(12, b"\x00\x0f\xff", 2))[0, :, 0].tolist() == [0, 255]
    assert pixels(grey_tiff(12, b"\x80\x00\x10", 2))[0, :, 0].tolist() == [128, 1]


def test_premultiplied_grey_is_composited_on_white() -> None:
    data = grey_tiff(8, b"\x00\x00\x64\xff\x32\x64\x64\x64", 4, extra=1)
    assert pixels(data)[0, :, 0].tolist() == [255, 100, 205, 255]  # 127 * 100/255 + 155; white


def test_lab_becomes_srgb() -> None:
    """Black, white and the red of sRGB, whose L*, a*, b* under D50 are 54, 81, 70."""
    lab = np.array([[[0, 0, 0], [255, 0, 0], [138, 81, 70]]], np.uint8)
    got = pixels(save(Image.frombytes("LAB", (3, 1), lab.tobytes()), "TIFF"))
    apart = np.abs(got[0].astype(int) - [[0, 0, 0], [255, 255, 255], [255, 0, 0]])
    assert apart.max() <= 6  # half a step of 8-bit L*a*b* is up to six levels where sRGB is dark
