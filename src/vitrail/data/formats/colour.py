"""From the pixel modes that files have to grey or RGB: every mode is defined here.

| in the file | becomes |
|---|---|
| black and white | 0 and 255 |
| palette | its colours |
| alpha, transparent colour | composited on white: round((c*a + 255*(255-a)) / 255) |
| CMYK, YCCK | RGB without a profile: (255-c) * (255-k) / 255; a JPEG's are inverted, as Adobe's |
| YCbCr | RGB by ITU-R 601 (JFIF) |
| LAB | sRGB, perceptual, D50 |
| 16-bit grey, 32-bit integers, floating point | see `levels`; 12-bit TIFF round(v * 255 / 4095) |
| 16-bit colour | the high byte; unrounded with depth 16, see `deep` |
| colour for a grey model | ITU-R 601-2: (19595 R + 38470 G + 7471 B + 32768) >> 16 |

A colour profile (ICC) in the file is ignored: pixels are taken as sRGB, as all training sets do.
"""

import numpy as np
from PIL import Image

from vitrail.data.formats.levels import Depth, Values, to_levels
from vitrail.data.formats.pictures import Picture


def to_colour(picture: Picture, channels: int) -> Image.Image:
    """Bring a loaded picture of any mode to 8-bit grey (1 channel) or RGB (3).

    Returns:
        a Pillow image of mode L or RGB.
    Raises:
        RefusedError: integers or floating-point values out of the defined range.
    """
    image = picture.image
    if is_deep_grey(image):
        image = Image.fromarray(deep_grey(picture, 8))
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


def is_deep_grey(image: Image.Image) -> bool:
    """Whether it is grey of more than 8 bits."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def deep_grey(picture: Picture, depth: Depth) -> Values:
    """Scale grey of more than 8 bits to levels [height, width]. Raises RefusedError."""
    image, bits, inverted = picture
    values = np.asarray(image)
    grey = to_levels(values, depth, (1 << bits) - 1)
    if inverted:
        grey = 255 - grey
    key = image.info.get("transparency")
    if isinstance(key, int):
        grey[values == key] = 255
    return grey
