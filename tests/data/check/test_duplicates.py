"""Equal pixels and nearly equal pictures: all found, and no others."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.data.check.pictures import encode, picture, recoded
from vitrail.data.check import duplicates
from vitrail.data.check.duplicates import exact_groups, is_drawn, near_pairs
from vitrail.data.check.record import RECORD, examine
from vitrail.data.included import load_glyphs


def table_of(*files: bytes) -> np.ndarray:
    return np.array([examine(file, "x", 10**8) for file in files], RECORD)


def decoded(number: int) -> Image.Image:
    return Image.open(io.BytesIO(encode(picture(number)))).convert("RGB")


def test_equal_pixels_are_grouped_and_broken_rows_are_not() -> None:
    table = table_of(*(encode(picture(i)) for i in (3, 1, 3, 2, 1, 3)))
    broken = np.zeros(2, RECORD)  # equal digests, but nothing was decoded
    groups = exact_groups(np.concatenate([table, broken]))
    assert [group.tolist() for group in groups] == [[0, 2, 5], [1, 4]]
    assert exact_groups(table[:2]) == [] and exact_groups(table[:0]) == []


@pytest.mark.parametrize(
    ("scale", "quality"), [(0.9, 70), (1.1, 70), (0.9, 40), (1.0, 30), (2.0, 80)]
)
def test_every_recoded_picture_is_found_and_no_other(scale: float, quality: int) -> None:
    count = 150
    files = [encode(picture(i)) for i in range(count)]
    copies = [recoded(decoded(i), scale, quality) for i in range(count)]
    pairs = near_pairs(table_of(*files, *copies))
    assert pairs.tolist() == [[i, count + i] for i in range(count)]


def test_of_equal_pixels_only_the_first_is_compared() -> None:
    table = table_of(encode(picture(0)), encode(picture(0)), recoded(decoded(0)))
    assert near_pairs(table).tolist() == [[0, 2]]


@pytest.mark.parametrize("change", ["mirrored", "recoloured", "stretched", "cut"])
def test_what_is_another_picture_is_not_found(change: str) -> None:
    image = decoded(5)
    pixels = np.asarray(image)
    other = {
        "mirrored": Image.fromarray(pixels[:, ::-1].copy()),
        "recoloured": Image.fromarray(pixels[..., [1, 2, 0]].copy()),
        "stretched": image.resize((image.width * 2, image.height)),
        "cut": image.crop((0, 0, image.width * 2 // 3, image.height * 2 // 3)),
    }[change]
    assert near_pairs(table_of(encode(image), encode(other))).tolist() == []


def test_blank_pictures_are_no_near_copies() -> None:
    files = [encode(Image.new("RGB", (50, 40), (i, i, i))) for i in (99, 100, 101)]
    assert near_pairs(table_of(*files)).tolist() == []


def test_a_crowd_of_pictures_that_are_alike_is_still_searched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More look-alikes than are compared: the true copies are next to each other."""
    monkeypatch.setattr(duplicates, "CROWD", 8)
    base = np.asarray(decoded(1).resize((64, 48))).astype(np.float64)
    random = np.random.default_rng(0)
    files = []
    for _ in range(60):
        noise = Image.fromarray(random.integers(0, 255, (6, 8, 3)).astype(np.uint8))
        mixed = 0.8 * base + 0.2 * np.asarray(noise.resize((64, 48), Image.Resampling.BICUBIC))
        files.append(Image.fromarray(mixed.astype(np.uint8)))
    table = table_of(*map(encode, files), *(recoded(file) for file in files))
    pairs = near_pairs(table).tolist()
    assert sum([i, 60 + i] in pairs for i in range(60)) >= 58
    assert len(pairs) < 60 * 2 * 8


def test_letters_are_drawings_and_photographs_are_not() -> None:
    split = load_glyphs().splits["val"]
    letters = table_of(*(split.read(i) for i in range(0, len(split), 9)))
    assert is_drawn(letters).mean() > 0.99
    assert not is_drawn(table_of(*(encode(picture(i)) for i in range(100)))).any()


def test_shapes_on_a_plain_ground() -> None:
    """Few of them are alike by chance, and those count as drawings."""
    random = np.random.default_rng(0)
    files = []
    for _ in range(300):
        image = Image.new("RGB", (120, 100), "white")
        x, y, w, h = random.integers((0, 0, 20, 20), (60, 50, 60, 50)).tolist()
        colour = tuple(random.integers(0, 200, 3).tolist())
        ImageDraw.Draw(image).ellipse((x, y, x + w, y + h), fill=colour)
        files.append(encode(image))
    table = table_of(*files)
    pairs = near_pairs(table)
    assert len(pairs) <= 1 and is_drawn(table).mean() > 0.99
