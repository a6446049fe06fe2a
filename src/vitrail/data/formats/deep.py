"""Grey and RGB of more than 8 bits, unrounded: depth 16 of the preprocessing contract.

Alpha is composited on white, c*a + 255*(1-a), and colour for a grey model is ITU-R 601-2 luma, as
with depth 8, without rounding. CMYK and LAB of 16 bits keep the high byte, as with depth 8.
"""

import numpy as np
from PIL import ImageFile

from vitrail.data.formats import tiff
from vitrail.data.formats.bands import load_bands, orientation
from vitrail.data.formats.colour import deep_grey, is_deep_grey
from vitrail.data.formats.containers import Container
from vitrail.data.formats.levels import Values, to_levels, upright
from vitrail.data.formats.pictures import Picture, load_tiff, open_picture
from vitrail.data.formats.tiff_pixels import read_bands

LUMA = np.array([19595, 38470, 7471], np.float32) / np.float32(65536)  # ITU-R 601-2
RAW_ALPHA = {1: "premultiplied", 2: "straight"}  # what the first extra sample of a TIFF is


def load_deep(container: Container, channels: int, max_pixels: int) -> Values | None:
    """Read a PNG or TIFF of more than 8 bits.

    Args:
        container: the file.
        channels: 1 for grey, 3 for RGB.
        max_pixels: height * width above which the image is refused.
    Returns:
        float32 levels [height, width, channels], upright; None where the file has 8 bits or less.
    Raises:
        RefusedError: as `decode`.
    """
    if container.format == "PNG":
        values = _png(container, channels, max_pixels)
        return None if values is None else upright(values, container.orientation)
    if container.format == "TIFF":
        return _tiff(container, channels, max_pixels)
    return None


def _png(container: Container, channels: int, max_pixels: int) -> Values | None:
    """Read a PNG of 16 bits."""
    bits, kind = container.data[24], container.data[25]  # of the header, which comes first
    if bits != 16:
        return None
    high = _load_png(container, max_pixels, "")
    if kind == 0:
        return _to_channels(deep_grey(Picture(high), 16)[..., None], channels)
    if kind == 4:  # grey and alpha: the four bytes of a pixel, as if they were colours
        raw = np.asarray(_load_png(container, max_pixels, "RGBA")).astype(np.uint16)
        values = raw[..., ::2] << 8 | raw[..., 1::2]
    else:  # Pillow takes the higher bytes, and the lower ones where it is told the other order
        low = _load_png(container, max_pixels, f"{high.mode};16L")
        values = np.asarray(high).astype(np.uint16) << 8 | np.asarray(low)
    levels = to_levels(values, 16)
    key = high.info.get("transparency")
    if kind == 2 and key is not None:  # its high bytes, as with depth 8: see `containers`
        levels[(values >> 8 == np.array(key)).all(axis=2)] = 255
    if kind == 2:
        return _to_channels(levels, channels)
    return _to_channels(_on_white(levels[..., :-1], levels[..., -1:]), channels)


def _load_png(container: Container, max_pixels: int, order: str) -> ImageFile.ImageFile:
    """Load a PNG; `order` is how Pillow shall take the bytes of a pixel, where not as usual."""
    with open_picture(container, max_pixels) as file:
        if order:
            file.tile = [tile._replace(args=order) for tile in file.tile]
        file.load()
        return file


def _tiff(container: Container, channels: int, max_pixels: int) -> Values | None:
    """Read a TIFF of more than 8 bits."""
    order, tags = tiff.read_tags(container.data)
    if max(tags.get(tiff.BITS, (1,))) <= 8:
        return None
    is_rgb = tags.get(tiff.PHOTOMETRIC, (1,))[0] == 2
    if is_rgb and tags.get(tiff.SAMPLES, (1,))[0] in (3, 4):
        layout = tiff.read_layout(order, tags, len(container.data), max_pixels)
        levels = to_levels(read_bands(container.data, layout), 16)
        colours, alpha = levels[..., :3], levels[..., 3:]
        extra = RAW_ALPHA.get(tags.get(tiff.EXTRA_SAMPLES, (0,))[0])
        if alpha.shape[2] and extra is not None:
            colours = _on_white(colours, alpha, premultiplied=extra == "premultiplied")
        return upright(_to_channels(colours, channels), orientation(tags))
    picture = load_tiff(container, max_pixels)
    if picture is None:
        return load_bands(container, channels, max_pixels, 16)
    if not is_deep_grey(picture.image):
        return None
    return _to_channels(deep_grey(picture, 16)[..., None], channels)


def _on_white(colours: Values, alpha: Values, premultiplied: bool = False) -> Values:
    """Composite levels on white."""
    lit = colours if premultiplied else colours * (alpha / 255)
    white: Values = np.clip(lit + (255 - alpha), 0, 255)
    return white


def _to_channels(levels: Values, channels: int) -> Values:
    """Bring grey or RGB to 1 or 3 channels."""
    if levels.shape[2] == channels:
        return levels
    if channels == 3:
        return np.repeat(levels, 3, axis=2)
    grey: Values = np.clip(levels @ LUMA, 0, 255)[..., None]
    return grey
