"""From the pixel modes that files have to grey or RGB in 8 bits: every mode is defined here.

| in the file | becomes |
|---|---|
| black and white | 0 and 255 |
| palette | its colours |
| alpha, transparent colour | composited on white: round((c*a + 255*(255-a)) / 255) |
| CMYK, YCCK | RGB without a profile: (255-c) * (255-k) / 255; a JPEG's are inverted, as Adobe's |
| YCbCr | RGB by ITU-R 601 (JFIF) |
| LAB | sRGB, perceptual, D50 |
| 16-bit grey, integers | round(v / 257); 12-bit TIFF round(v * 255 / 4095) |
| 16-bit colour | the high byte |
| 32-bit integers | as 16-bit; refused outside 0 to 65535 |
| floating point | round(255 v); refused outside 0 to 1 |
| colour for a grey model | ITU-R 601-2: (19595 R + 38470 G + 7471 B + 32768) >> 16 |

A colour profile (ICC) in the file is ignored: pixels are taken as sRGB, as all training sets do.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitrail.data.recognise import RefusedError


def to_colour(
    image: Image.Image, channels: int, bits: int = 16, inverted: bool = False
) -> Image.Image:
    """Bring a loaded image to 8-bit grey (1 channel) or RGB (3).

    Args:
        image: any mode that a file can have.
        channels: 1 or 3.
        bits: of a 16-bit grey image, how many are used.
        inverted: whether 0 is white, where the decoder has not applied it (grey above 8 bits).
    Returns:
        a Pillow image of mode L or RGB.
    Raises:
        RefusedError: integers or floating-point values out of the defined range.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _deep_grey(image, bits, inverted)
    elif image.mode == "La":  # premultiplied
        image = _on_white(image.convert("LA"))
    elif image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = _on_white(image)
    elif image.palette is not None and image.palette.mode == "RGBA":
        image = _on_white(image)
    elif image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _on_white(image: Image.Image) -> Image.Image:
    """Composite on white; the result is L where the colours are grey, else RGB."""
    mode = "L" if image.mode in ("LA", "L", "1") else "RGB"
    image = image if image.mode in ("LA", "RGBA") else image.convert("RGBA")
    alpha = image.getchannel("A")
    colours = image.convert("RGB") if mode == "RGB" else image.getchannel(0)
    canvas = Image.new(mode, image.size, "white")
    canvas.paste(colours, mask=alpha)  # exact: rounds to nearest, and 255 is odd, so no ties
    return canvas


def _deep_grey(image: Image.Image, bits: int, inverted: bool) -> Image.Image:
    """Scale grey of more than 8 bits to 8."""
    values = np.asarray(image)
    if image.mode == "F":
        grey = _unit(values)
    else:
        grey = _sixteen(values, (1 << bits) - 1)
    if inverted:
        grey = 255 - grey
    key = image.info.get("transparency")
    if isinstance(key, int):
        grey[values == key] = 255
    return Image.fromarray(grey)


def _unit(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale 0 to 1 to 0 to 255."""
    if not (values.min() >= 0 and values.max() <= 1):  # also refuses NaN
        raise RefusedError(
            f"floating-point pixels from {values.min():.6g} to {values.max():.6g};"
            " they must lie in 0 to 1: scale them, or save the image with 8 or 16 bits"
        )
    return np.floor(values.astype(np.float64) * 255 + 0.5).astype(np.uint8)


def _sixteen(values: NDArray[Any], white: int) -> NDArray[np.uint8]:
    """Scale 0 to `white` to 0 to 255, rounding to nearest."""
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > white:
        raise RefusedError(
            f"integer pixels from {low} to {high}; they must lie in 0 to {white}:"
            " save the image with 8 or 16 bits"
        )
    wide = values.astype(np.uint32)
    return ((wide * 255 + white // 2) // white).astype(np.uint8)
