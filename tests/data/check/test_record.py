"""What is kept of one image."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.data.check.pictures import encode, picture
from tests.data.images import MODES, noise, png, save, stored
from tests.data.samples import photo
from vitrail.data.check.record import COLOUR, GOOD, RECORD, THUMB, examine, load_picture
from vitrail.errors import ImageError

MANY = 10_000_000


def test_a_record_is_small() -> None:
    assert RECORD.itemsize <= 400


@pytest.mark.parametrize("name", MODES)
@pytest.mark.parametrize("orientation", [1, 6])
def test_every_mode_is_named_as_it_is_in_the_file(name: str, orientation: int) -> None:
    mode, kind = name.split()[:2]
    data, expected = MODES[name](orientation)
    record = examine(data, "x", MANY)
    assert record["status"] == GOOD and record["format"].decode() == kind.upper()
    named = {"P+tRNS": "P", "YCCK": "CMYK"}.get(mode, mode)
    assert record["mode"].decode() == named
    assert record["orientation"] == orientation
    assert (record["height"], record["width"]) == expected.shape[:2]
    assert record["bytes"] == len(data)
    # of 16 bits the figures are those before rounding
    assert record["mean"] == pytest.approx(expected.mean((0, 1)), abs=0.05)
    assert record["std"] == pytest.approx(expected.std((0, 1)), abs=0.05)


def test_sixteen_bits_that_pillow_hides_are_named() -> None:
    rows = [noise(5 * 6, seed=i).tobytes() for i in range(3)]
    assert examine(png(2, 16, rows, (3, 5)), "x", MANY)["mode"] == b"RGB;16"


@pytest.mark.parametrize("shape", [(20, 31, 6), (6, 20, 31)])
def test_bands_are_counted(shape: tuple[int, ...]) -> None:
    file = io.BytesIO()
    np.save(file, noise(*shape))
    record = examine(file.getvalue(), "x", MANY)
    assert (record["format"], record["mode"]) == (b"NPY", b"6 bands")
    assert (record["height"], record["width"]) == (20, 31)
    assert load_picture(file.getvalue(), "x", MANY, 8).shape == (20, 31, 3)


def test_thumbnails_show_the_upright_picture() -> None:
    pixels = np.zeros((30, 50, 3), np.uint8)
    pixels[:15, :25] = (255, 0, 0)
    record = examine(save(Image.fromarray(stored(pixels, 6)), "PNG", 6), "x", MANY)
    assert record["thumb"].shape == (THUMB, THUMB) and record["colour"].shape == (COLOUR, COLOUR, 3)
    assert record["thumb"][:7, :7].min() > 70 and record["thumb"][9:].max() < 5
    assert record["colour"][0, 0].tolist() == [255, 0, 0]


def test_equal_pixels_in_other_files_have_one_digest() -> None:
    image = Image.fromarray(noise(9, 7, 3))
    one, other = examine(save(image, "PNG"), "x", MANY), examine(save(image, "BMP"), "y", MANY)
    assert (one["pixels"] == other["pixels"]).all() and (one["sha256"] != other["sha256"]).any()
    turned = examine(save(Image.fromarray(noise(9, 7, 3).reshape(7, 9, 3)), "PNG"), "x", MANY)
    assert (one["pixels"] != turned["pixels"]).any()


@pytest.mark.parametrize(
    ("change", "blank", "grey"),
    [(0, True, True), (1, True, False), (200, False, False)],
)
def test_blank_and_grey(change: int, blank: bool, grey: bool) -> None:
    pixels = np.full((40, 60, 3), 100, np.uint8)
    pixels[3:9, 4:20, 0] += np.uint8(change)
    if change == 1:
        pixels[:, :, 0] += 5  # one colour that is not grey
    record = examine(save(Image.fromarray(pixels), "PNG"), "x", MANY)
    assert (bool(record["blank"]), bool(record["grey"])) == (blank, grey)


def test_one_coloured_pixel_is_seen() -> None:
    pixels = np.full((200, 300, 3), 100, np.uint8)
    pixels[17, 33, 2] = 110
    assert not examine(save(Image.fromarray(pixels), "PNG"), "x", MANY)["grey"]


def test_grey_stored_as_jpeg_is_grey() -> None:
    assert examine(encode(photo().convert("L").convert("RGB")), "x", MANY)["grey"]
    assert not examine(encode(picture(1)), "x", MANY)["grey"]


def test_one_pixel() -> None:
    record = examine(save(Image.new("RGB", (1, 1), "red"), "PNG"), "x", MANY)
    assert (record["height"], record["width"], bool(record["blank"])) == (1, 1, True)


@pytest.mark.parametrize("data", [b"", b"no image", encode(picture(0))[:-300]])
def test_what_cannot_be_used_is_refused_with_its_name(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"^a\.jpg: "):
        examine(data, "a.jpg", MANY)
    with pytest.raises(ImageError, match=r"^a\.jpg: "):
        load_picture(data, "a.jpg", MANY, 100)


def test_too_many_pixels_are_refused() -> None:
    with pytest.raises(ImageError, match="more than max_pixels=100"):
        examine(encode(picture(0)), "a.jpg", 100)
