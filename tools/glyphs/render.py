"""Pictures of letters: white on black, antialiased, centred."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

OVERSAMPLE = 8  # drawn this much larger, then averaged down: exact grey for any hinting
MARGIN = 1 / 16  # of the side, kept free at each edge

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Jitter:
    """A small change of the picture, for sets that need more pictures than there are fonts."""

    degrees: float = 0.0
    scale: float = 1.0


def ink(font: ImageFont.FreeTypeFont, letter: str) -> tuple[int, int, int, int]:
    """Box of the letter's ink in pixels, relative to the pen on the base line."""
    left, top, right, bottom = font.getbbox(letter, anchor="ls")
    return int(left), int(top), int(right), int(bottom)


def load(path: Path, pixels: float) -> ImageFont.FreeTypeFont:
    """Open a font at a size, with the layout engine that every Pillow has."""
    return ImageFont.truetype(str(path), pixels, layout_engine=ImageFont.Layout.BASIC)


def draw(font: ImageFont.FreeTypeFont, letter: str) -> Image.Image:
    """Draw one letter and crop to its ink; an empty picture (1 x 1, black) if there is none."""
    left, top, right, bottom = ink(font, letter)
    pad = 4
    picture = Image.new("L", (max(1, right - left) + 2 * pad, max(1, bottom - top) + 2 * pad))
    ImageDraw.Draw(picture).text((pad - left, pad - top), letter, fill=255, font=font, anchor="ls")
    box = picture.getbbox()
    return picture.crop(box) if box else Image.new("L", (1, 1))


def place(glyph: Image.Image, size: int, scale: float, centre_y: float) -> Picture:
    """Shrink by `scale` (area average), set into a black square, centre at height `centre_y`."""
    width = max(1, round(glyph.width * scale))
    height = max(1, round(glyph.height * scale))
    small = glyph.resize((width, height), Image.Resampling.BOX)
    square = Image.new("L", (size, size))
    square.paste(small, ((size - width) // 2, round(centre_y - height / 2)))
    return np.asarray(square).copy()


def fit_letter(path: Path, letter: str, size: int, jitter: Jitter = Jitter()) -> Picture:
    """Render one letter so that the longer side of its ink fills the square but for the margin.

    The aspect is kept. Sizes of letters relative to each other are lost, so this rule suits
    alphabets of one case.

    Returns:
        uint8 [size, size], 0 = paper, 255 = ink.
    """
    inner = size * (1 - 2 * MARGIN)
    probe = ink(load(path, 256), letter)
    longest = max(probe[2] - probe[0], probe[3] - probe[1], 1)
    pixels = min(256 * inner * OVERSAMPLE / longest, 8 * size * OVERSAMPLE)
    glyph = draw(load(path, pixels), letter)
    if jitter.degrees:
        glyph = glyph.rotate(jitter.degrees, Image.Resampling.BICUBIC, expand=True)
        glyph = glyph.crop(glyph.getbbox())
    return place(glyph, size, jitter.scale * inner / max(glyph.size), size / 2)


def fit_font(path: Path, letters: str, size: int, jitter: Jitter = Jitter()) -> list[Picture]:
    """Render letters at one scale for the whole font, on one base line.

    The tallest ascender and the deepest descender of `letters` touch the margin; a letter too wide
    for the square is shrunk alone. `o` stays smaller than `O`, so this rule suits mixed case.

    Returns:
        one uint8 [size, size] a letter, 0 = paper, 255 = ink.
    """
    inner = size * (1 - 2 * MARGIN)
    probe = load(path, 256)
    boxes = [ink(probe, letter) for letter in letters]
    top, bottom = min(box[1] for box in boxes), max(box[3] for box in boxes)
    font = load(path, 256 * inner * OVERSAMPLE / max(1, bottom - top))
    pictures = []
    for letter in letters:
        _, high, _, low = ink(font, letter)
        glyph = draw(font, letter)
        if jitter.degrees:
            glyph = glyph.rotate(jitter.degrees, Image.Resampling.BICUBIC, expand=True)
        scale = jitter.scale * min(1 / OVERSAMPLE, inner / max(glyph.size))
        middle = (high + low) / 2 / OVERSAMPLE - inner * top / max(1, bottom - top)
        centre = size / 2 + jitter.scale * (middle - inner / 2)
        pictures.append(place(glyph, size, scale, centre))
    return pictures


def fault(pictures: list[Picture]) -> str:
    """Say why the pictures of one font cannot be used, or "".

    Blank: hardly any ink. Faint: no pixel is more than half ink, so the strokes are thinner than
    the grid can show. Full: a block, not a letter. Repeated: two letters are the same picture.
    """
    for picture in pictures:
        share = float(picture.mean()) / 255
        if share < 0.02:
            return "blank"
        if picture.max() < 128:
            return "faint"
        if share > 0.72:
            return "full"
    if len({picture.tobytes() for picture in pictures}) < len(pictures):
        return "repeated"
    return ""
