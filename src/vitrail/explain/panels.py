"""Several pictures with words around them, as one picture.

The pictures are laid out pixel by pixel, so that none is resampled; matplotlib sets only the words.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from vitrail.explain.render import (
    MINIMUM_SIDE,
    ColourMap,
    Heat,
    Picture,
    colourise,
    enlarge,
    overlay,
)

GAP = 10  # pixels between pictures and around all
LINE = 26  # pixels, height of a line of words
DPI = 100.0
POINTS = 10  # size of the letters
LONGEST_NAME = 60  # letters of a class name in a caption
Maps = Float[np.ndarray, "rows columns h w"]
INK = "#1a1a1a"
LACKING = "\N{REPLACEMENT CHARACTER}"  # stands for what the typeface cannot show


@dataclass(frozen=True)
class Words:
    """A line of text: its anchor in pixels from the left and the top, and how it lies there."""

    text: str
    x: int | float
    y: int | float  # of the middle of the line
    align: Literal["left", "center", "right"] = "center"
    bold: bool = False


def strip(
    picture: Picture,
    heats: Mapping[str, Heat],
    *,
    caption: str = "",
    colours: ColourMap = "plasma",
    minimum_side: int = MINIMUM_SIDE,
) -> Picture:
    """Show a picture and beside it each heat laid over it, names above, a caption below.

    Args:
        picture: what the model saw.
        heats: name to heat in [0, 1] of the picture's height and width, such as
            `{"rollout": …, "last layer": …}`.
        caption: one line of plain text, see `caption_of`; the strip grows as wide as it needs.
        colours: of the heat.
        minimum_side: of each picture, in pixels.
    Raises:
        ValueError: a heat does not fit the picture or is outside [0, 1].
    """
    shown = {"image": enlarge(picture, minimum_side)}
    for name, heat in heats.items():
        shown[name] = overlay(picture, heat, colours=colours, minimum_side=minimum_side)
    height, width = shown["image"].shape[:2]
    cell = max(width, *(_width_of(name) for name in shown))  # a narrow picture under a wide name
    total = max(GAP + len(shown) * (cell + GAP), _width_of(caption) + 2 * GAP)
    canvas = _blank(GAP + LINE + height + (LINE if caption else 0) + GAP, total)
    start = (total - len(shown) * (cell + GAP) + GAP) // 2
    words = [Words(caption, total / 2, GAP + LINE + height + LINE / 2, bold=True)]
    for i, (name, image) in enumerate(shown.items()):
        left = start + i * (cell + GAP)
        _paste(canvas, image, GAP + LINE, left + (cell - width) // 2)
        words.append(Words(name, left + cell / 2, GAP + LINE / 2))
    return write_words(canvas, words)


def panel(
    maps: Maps,
    row_titles: Sequence[str],
    column_titles: Sequence[str],
    *,
    title: str = "",
    note: str = "",
    value_range: tuple[float, float] | None = None,
    colours: ColourMap = "viridis",
    cell_side: int = 72,
) -> Picture:
    """Show many small maps in rows and columns, such as layers and heads, with their titles.

    Args:
        maps: [rows, columns, h, w], any finite values.
        row_titles: one a row, at the left.
        column_titles: one a column, above.
        title: above all.
        note: below all; says how to read the colours, which `value_range` decides.
        value_range: from the darkest to the brightest colour; if None, each map has its own lowest
            and highest value for these, and a constant map is dark.
        colours: of the values.
        cell_side: small maps are enlarged by a whole factor up to this many pixels.
    Raises:
        ValueError: titles and maps differ in number, there are no maps, or a value is not finite
            or out of range.
    """
    if (len(row_titles), len(column_titles)) != maps.shape[:2] or not maps.size:
        raise ValueError(
            f"{len(row_titles)} and {len(column_titles)} titles do not fit maps of {maps.shape[:2]}"
        )
    if not np.isfinite(maps).all():
        raise ValueError("maps must be finite")
    if value_range is None:
        maps, value_range = _each_to_unit_range(maps), (0.0, 1.0)
    images = [
        [enlarge(colourise(each, colours, value_range), cell_side) for each in row] for row in maps
    ]
    return table(images, row_titles, column_titles, title, note)


def table(
    images: Sequence[Sequence[Picture]],
    row_titles: Sequence[str],
    column_titles: Sequence[str],
    title: str,
    note: str,
) -> Picture:
    """Lay out pictures of one size in rows and columns."""
    height, width = images[0][0].shape[:2]
    gap = 4
    top = GAP + (LINE if title else 0) + LINE
    left = GAP + max([_width_of(each) for each in row_titles], default=0) + gap
    cell = max([width, *(_width_of(each) for each in column_titles)])
    inner = left + len(column_titles) * (cell + gap) + GAP
    total = max(inner, *(_width_of(each) + 2 * GAP for each in (title, note)))
    below = top + len(row_titles) * (height + gap)
    canvas = _blank(below + (LINE if note else 0) + GAP, total)
    words = [
        Words(title, GAP, GAP + LINE / 2, "left", bold=True),
        Words(note, GAP, below + LINE / 2, "left"),
    ]
    for i, name in enumerate(row_titles):
        y = top + i * (height + gap)
        words.append(Words(name, left - 2 * gap, y + height / 2, "right"))
        for j in range(len(column_titles)):
            _paste(canvas, images[i][j], y, left + j * (cell + gap) + (cell - width) // 2)
    for j, name in enumerate(column_titles):
        words.append(Words(name, left + j * (cell + gap) + cell / 2, top - LINE / 2))
    return write_words(canvas, words)


def caption_of(label: str, probability: float) -> str:
    """Say a class and its probability in [0, 1] in one line, such as `tabby cat: 97.3 %`."""
    name = plain(label)
    if len(name) > LONGEST_NAME:
        name = name[: LONGEST_NAME - 1] + "…"
    return f"{name}: {100 * probability:.1f} %"


def plain(text: str) -> str:
    """Keep what the typeface can show, in one line.

    White space becomes a space. Control characters, direction marks and letters that the typeface
    lacks become a replacement character: they would be invisible, or make matplotlib warn.
    """
    spaced = " ".join(text.split())
    return "".join(letter if _can_show(letter) else LACKING for letter in spaced)


def write_words(canvas: Picture, words: Sequence[Words]) -> Picture:
    """Write lines of plain text onto a picture; nothing in them is read as markup."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

    height, width = canvas.shape[:2]
    # Half a pixel more, or rounding may make the figure a pixel smaller than the canvas.
    figure = Figure(figsize=((width + 0.5) / DPI, (height + 0.5) / DPI), dpi=DPI)
    drawn = FigureCanvasAgg(figure)
    figure.figimage(canvas, 0, 0, origin="upper")
    for line in words:
        figure.text(
            line.x / (width + 0.5),
            1 - line.y / (height + 0.5),
            plain(line.text),
            fontproperties=FontProperties(fname=_typeface(line.bold), size=POINTS),
            color=INK,
            ha=line.align,
            va="center_baseline",
            parse_math=False,  # `$` in a class name is a dollar
            usetex=False,
        )
    drawn.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(drawn.buffer_rgba())  # type: ignore[no-untyped-call]
    return np.ascontiguousarray(pixels[:height, :width, :3])


def _can_show(letter: str) -> bool:
    return unicodedata.category(letter)[0] != "C" and ord(letter) in _letters()


@cache
def _letters() -> frozenset[int]:
    """Collect the code points that both weights of the typeface have."""
    from matplotlib.ft2font import FT2Font

    regular, bold = (FT2Font(str(_typeface(each))).get_charmap() for each in (False, True))
    return frozenset(regular) & frozenset(bold)


def _typeface(bold: bool) -> Path:
    """Find the typeface that matplotlib brings along, so that pictures look alike everywhere."""
    from matplotlib import get_data_path

    return Path(get_data_path(), "fonts", "ttf", f"DejaVuSans{'-Bold' if bold else ''}.ttf")


def _width_of(text: str) -> int:
    """Measure a line of words in pixels, in bold, which is the wider."""
    from matplotlib.ft2font import FT2Font

    font = FT2Font(str(_typeface(bold=True)))
    font.set_size(POINTS, DPI)
    font.set_text(plain(text))
    return int(font.get_width_height()[0] / 64) + 1  # FreeType counts in 64ths of a pixel


def _blank(height: int, width: int) -> Picture:
    return np.full((height, width, 3), 255, dtype=np.uint8)


def _paste(canvas: Picture, image: Picture, top: int, left: int) -> None:
    canvas[top : top + image.shape[0], left : left + image.shape[1]] = image


def _each_to_unit_range(maps: Maps) -> Maps:
    """Scale each map from its lowest to its highest value; a constant map is 0."""
    low, high = maps.min(axis=(2, 3), keepdims=True), maps.max(axis=(2, 3), keepdims=True)
    return np.where(high > low, (maps - low) / np.where(high > low, high - low, 1), 0.0)
