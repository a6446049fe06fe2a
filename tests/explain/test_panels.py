import sys

import matplotlib
import numpy as np
import pytest

from vitrail.explain.panels import LACKING, Words, caption_of, panel, plain, strip, write_words
from vitrail.explain.render import colourise, overlay

PICTURE = np.random.default_rng(0).integers(0, 200, (30, 50, 3), dtype=np.uint8)
HEAT = np.linspace(0, 1, 30 * 50, dtype=np.float32).reshape(30, 50)
HOSTILE = [
    "$\\frac{1}{0}$",
    "$unbalanced",
    "$\\nosuchcommand$ _^{",
    "あいう 🦊 \u0627\u0644",
    "\u202egnp.exe",
    "\ud800 lone \x00 null \x1b[31m",
    "two\nlines\tand a tab",
    "<b>&amp;</b> %s {0}",
    "",
]


def find(canvas: np.ndarray, image: np.ndarray) -> list[tuple[int, int]]:
    """List the places (top, left) at which the image stands in the canvas, pixel for pixel."""
    h, w = image.shape[:2]
    corners = (canvas[: canvas.shape[0] - h + 1, : canvas.shape[1] - w + 1] == image[0, 0]).all(-1)
    tops, lefts = corners.nonzero()
    places = zip(tops.tolist(), lefts.tolist(), strict=True)
    return [(y, x) for y, x in places if np.array_equal(canvas[y : y + h, x : x + w], image)]


def test_a_strip_shows_the_picture_and_each_overlay_to_the_pixel() -> None:
    heats = {"rollout": HEAT, "last layer": 1 - HEAT}
    canvas = strip(PICTURE, heats, caption="A: 90.0 %", minimum_side=60)
    assert canvas.dtype == np.uint8
    shown = [PICTURE.repeat(2, 0).repeat(2, 1)]
    shown += [overlay(PICTURE, heat, minimum_side=60) for heat in heats.values()]
    places = [find(canvas, image) for image in shown]
    assert [len(each) for each in places] == [1, 1, 1]
    (first, second, third) = (each[0] for each in places)
    assert first[0] == second[0] == third[0]  # on one line
    assert first[1] + 100 < second[1] and second[1] + 100 < third[1]  # from left to right
    above, below = canvas[: first[0]], canvas[first[0] + 60 :]
    assert above.min() < 100 and below.min() < 100  # words
    without = strip(PICTURE, heats, minimum_side=60)
    assert without.shape[0] < canvas.shape[0]
    assert without[first[0] + 60 :].min() == 255


def test_a_long_caption_widens_the_strip_and_is_not_cut() -> None:
    canvas = strip(PICTURE, {"rollout": HEAT}, caption="W" * 80, minimum_side=1)
    assert canvas.shape[1] > 80 * 8
    assert canvas[:, :4].min() == canvas[:, -4:].min() == 255


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_class_name_is_drawn_as_it_stands(name: str) -> None:
    caption = caption_of(name, 0.5)
    assert caption.isprintable()
    assert caption.endswith(": 50.0 %")
    canvas = strip(PICTURE, {name: HEAT}, caption=caption, minimum_side=1)
    assert find(canvas, PICTURE)


def test_users_settings_of_matplotlib_do_not_reach_the_pictures() -> None:
    expected = strip(PICTURE, {"rollout": HEAT}, caption="$x$")
    with matplotlib.rc_context({"text.usetex": True, "figure.dpi": 30, "font.family": "fantasy"}):
        assert np.array_equal(strip(PICTURE, {"rollout": HEAT}, caption="$x$"), expected)
    assert "matplotlib.pyplot" not in sys.modules


def test_plain_keeps_what_can_be_shown() -> None:
    assert plain("naïve $5 – Ω\n\tЖ") == "naïve $5 – Ω Ж"
    assert plain("a\u202eb\x00あ") == f"a{LACKING}b{LACKING}{LACKING}"
    assert caption_of("x" * 61, 1.0) == "x" * 59 + "…: 100.0 %"
    assert caption_of("x" * 60, 0.12345) == "x" * 60 + ": 12.3 %"


def test_dollars_are_drawn_as_dollars() -> None:
    canvas = np.full((40, 200, 3), 255, np.uint8)
    dollars = write_words(canvas, [Words("$x$", 10.0, 20.0, "left")])
    letters = write_words(canvas, [Words("x", 10.0, 20.0, "left")])
    assert dollars.shape == canvas.shape
    right = [np.flatnonzero((each < 128).any(axis=(0, 2))).max() for each in (dollars, letters)]
    assert right[0] > right[1] + 10


@pytest.mark.parametrize("height", [40, 41, 333])
@pytest.mark.parametrize("width", [30, 57, 1001])
def test_words_leave_the_canvas_its_size_and_pixels(height: int, width: int) -> None:
    canvas = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert np.array_equal(write_words(canvas, []), canvas)


def test_a_panel_shows_each_map_from_its_lowest_to_its_highest() -> None:
    maps = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    maps[1, 2] = 7.0  # constant
    rows, columns = ["layer 0", "layer 1"], ["head 0", "head 1", "head 2"]
    canvas = panel(maps, rows, columns, title="Attention", note="dark: low", cell_side=40)
    places = {}
    for i in range(2):
        for j in range(3):
            low, high = maps[i, j].min(), maps[i, j].max()
            unit = (maps[i, j] - low) / (high - low) if high > low else np.zeros((4, 5), np.float32)
            image = colourise(unit, "viridis").repeat(10, 0).repeat(10, 1)
            (places[i, j],) = find(canvas, image)
    assert places[0, 0][0] == places[0, 2][0] < places[1, 0][0]
    assert places[0, 0][1] == places[1, 0][1] < places[0, 1][1] < places[0, 2][1]
    assert canvas[:, : places[0, 0][1]].min() < 100  # titles of the rows


def test_a_panel_on_one_scale() -> None:
    maps = np.full((1, 2, 4, 6), -1.0, np.float32)
    maps[0, 1] = 0.0
    canvas = panel(maps, ["a"], ["b", "c"], value_range=(-1.0, 1.0), cell_side=1)
    for value, j in ((0.0, 0), (0.5, 1)):
        expected = colourise(np.full((4, 6), value, np.float32), "viridis")
        assert find(canvas, expected), j
    with pytest.raises(ValueError, match=r"must be finite and in \[0.0, 1.0\]"):
        panel(maps, ["a"], ["b", "c"], value_range=(0.0, 1.0))


def test_what_does_not_fit_is_refused() -> None:
    maps = np.zeros((1, 2, 4, 6), np.float32)
    with pytest.raises(ValueError, match=r"1 and 3 titles do not fit maps of \(1, 2\)"):
        panel(maps, ["a"], ["b", "c", "d"])
    with pytest.raises(ValueError, match="titles do not fit maps"):
        panel(maps[:0], [], ["b", "c"])
    with pytest.raises(ValueError, match="maps must be finite"):
        panel(maps * np.nan, ["a"], ["b", "c"])
    with pytest.raises(ValueError, match="does not fit a picture"):
        strip(PICTURE, {"rollout": HEAT.T})
