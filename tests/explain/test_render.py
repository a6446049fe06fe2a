import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.errors import StorageError
from vitrail.explain import render
from vitrail.explain.render import (
    colour_table,
    colourise,
    enlarge,
    overlay,
    png_bytes,
    save_png,
    to_picture,
)

PICTURE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
ZERO = np.zeros((6, 9), np.float32)


def test_an_image_becomes_a_picture() -> None:
    colour = torch.arange(3 * 6 * 9, dtype=torch.uint8).view(3, 6, 9)
    assert np.array_equal(to_picture(colour)[5, 7], colour[:, 5, 7].numpy())
    grey = to_picture(colour[:1])
    assert grey.shape == (6, 9, 3)
    assert np.array_equal(grey[..., 2], colour[0].numpy())
    many = torch.arange(5 * 6 * 9, dtype=torch.uint8).view(5, 6, 9)
    assert np.array_equal(to_picture(many), to_picture(many[:3]))
    assert np.array_equal(to_picture(many[:2]), to_picture(many[:1]))
    deep = colour.float() + 0.4
    deep[0, 0, 0] = -3.0
    assert np.array_equal(to_picture(deep)[1:], to_picture(colour)[1:])
    assert to_picture(deep)[0, 0, 0] == 0


def test_without_heat_the_picture_is_untouched() -> None:
    assert np.array_equal(overlay(PICTURE, ZERO, minimum_side=1), PICTURE)
    assert np.array_equal(overlay(PICTURE, ZERO + 1, strength=0.0, minimum_side=1), PICTURE)


def test_heat_covers_only_where_it_is() -> None:
    heat = ZERO.copy()
    heat[4, 7] = 1.0
    heat[1, 2] = 0.25
    mixed = overlay(PICTURE, heat, strength=1.0, minimum_side=1)
    assert mixed.dtype == np.uint8
    changed = (mixed != PICTURE).any(axis=2)
    assert set(zip(*map(list, changed.nonzero()), strict=True)) == {(4, 7), (1, 2)}
    assert np.array_equal(mixed[4, 7], colourise(heat)[4, 7])
    half = (PICTURE[1, 2].astype(float) + colourise(heat)[1, 2]) / 2  # √0.25 = 0.5
    np.testing.assert_allclose(mixed[1, 2], half, atol=0.5001)


def test_a_small_picture_is_enlarged_in_equal_squares() -> None:
    mixed = overlay(PICTURE, ZERO)
    assert mixed.shape == (6 * 38, 9 * 38, 3)  # 38 = ⌈224 / 6⌉
    assert np.array_equal(mixed[::38, ::38], PICTURE)
    assert np.array_equal(mixed, PICTURE.repeat(38, axis=0).repeat(38, axis=1))


def test_a_large_or_very_long_picture_keeps_its_size() -> None:
    large = np.zeros((224, 300, 3), np.uint8)
    assert enlarge(large).shape == large.shape
    assert enlarge(np.zeros((2, 5000, 3), np.uint8)).shape == (2, 5000, 3)
    assert enlarge(np.zeros((1000, 2, 3), np.uint8)).shape == (4000, 8, 3)


def test_colours_grow_lighter_with_the_value() -> None:
    ramp = np.linspace(-1, 1, 200, dtype=np.float32).reshape(2, 100)
    for name in ("inferno", "magma", "plasma", "viridis"):
        picture = colourise(ramp, name, (-1.0, 1.0))
        assert picture.shape == (2, 100, 3)
        light = picture.reshape(-1, 3) @ np.array([0.2126, 0.7152, 0.0722])
        assert np.diff(light).min() > -2  # 8-bit rounding
        assert light[-1] - light[0] > 100


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan, np.inf])
def test_heat_that_is_no_heat_is_refused(bad: float) -> None:
    heat = ZERO.copy()
    heat[0, 0] = bad
    with pytest.raises(ValueError, match=r"heat must be finite and in \[0.0, 1.0\]"):
        overlay(PICTURE, heat)


def test_other_impossible_requests_are_refused() -> None:
    with pytest.raises(ValueError, match=r"heat of \(9, 6\) does not fit a picture of \(6, 9\)"):
        overlay(PICTURE, ZERO.T)
    with pytest.raises(ValueError, match=r"strength=1.5 must be in \[0, 1\]"):
        overlay(PICTURE, ZERO, strength=1.5)
    with pytest.raises(ValueError, match="colours='jet' is not one of inferno, magma"):
        colour_table("jet")


def test_a_png_gives_the_same_pixels_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "heat.png"
    save_png(path, PICTURE)
    save_png(path, PICTURE[:, ::-1])  # replaces; not contiguous
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image), PICTURE[:, ::-1])
    assert [each.name for each in path.parent.iterdir()] == ["heat.png"]
    with Image.open(io.BytesIO(png_bytes(PICTURE))) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")


def test_a_png_that_cannot_be_written_is_an_error_of_storage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(StorageError, match="a part of this path is a file"):
        save_png(tmp_path / "file" / "sub" / "heat.png", PICTURE)


def test_matplotlib_is_imported_only_to_draw() -> None:
    code = (
        f"import sys, {render.__name__}, vitrail.explain.panels; print('matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
