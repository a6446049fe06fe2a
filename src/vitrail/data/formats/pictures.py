"""Image files through Pillow: loaded pictures, before their colours are converted."""

import io
import threading
import warnings
from typing import NamedTuple

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from vitrail.data.formats import tiff
from vitrail.data.formats.containers import Container
from vitrail.data.formats.levels import check_size
from vitrail.data.formats.recognise import RefusedError

DECODERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
}
MOST_SAMPLES = 4  # that Pillow reads of a TIFF
_warnings_lock = threading.Lock()


class Picture(NamedTuple):
    """A loaded image, and what Pillow leaves to be done for grey above 8 bits."""

    image: Image.Image
    bits: int = 16  # how many are used
    inverted: bool = False  # whether 0 is white


def open_picture(container: Container, max_pixels: int) -> ImageFile.ImageFile:
    """Open a file of any format but TIFF and .npy; its pixels are not decoded yet.

    Raises:
        RefusedError: too large.
    """
    file = DECODERS[container.format](io.BytesIO(container.data))
    check_size(file.height, file.width, max_pixels)
    return file


def load_tiff(container: Container, max_pixels: int) -> Picture | None:
    """Load a TIFF, which Pillow turns upright by its orientation tag while loading.

    Pillow warns of odd tags that do not matter here. Filters of warnings are shared by all threads,
    hence the lock.

    Returns:
        None if Pillow does not know this combination of bands, bits and meaning, or reads it wrong:
        13.0 takes bands of 16 bits that are stored one after the other for bands of 8, and swaps
        the bytes of compressed big-endian values twice, but for unsigned 16 bits.
    Raises:
        RefusedError: too large.
    """
    _, tags = tiff.read_tags(container.data)
    samples, planar = tags.get(tiff.SAMPLES, (1,))[0], tags.get(tiff.PLANAR, (1,))[0] == 2
    deep = max(tags.get(tiff.BITS, (1,))) > 8
    if samples > MOST_SAMPLES or (samples > 1 and planar and deep):
        return None
    unsigned = max(tags.get(tiff.BITS, (1,))) == 16 and tags.get(tiff.SAMPLE_FORMAT, (1,))[0] == 1
    swapped = container.data[:2] == b"MM" and tags.get(tiff.COMPRESSION, (1,))[0] != 1
    if samples == 1 and deep and swapped and not unsigned:
        return None
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            file = TiffImagePlugin.TiffImageFile(io.BytesIO(container.data))
        except SyntaxError:
            return None
        with file:
            check_size(file.height, file.width, max_pixels)
            if len(file.tile) > tiff.SEGMENT_LIMIT:
                raise RefusedError(f"TIFF of {len(file.tile)} strips or tiles")
            file.info.pop("xmp", None)  # Pillow would look for an orientation there too
            bits = 12 if file.tag_v2.get(tiff.BITS) == (12,) else 16
            inverted = file.tag_v2.get(tiff.PHOTOMETRIC) == 0
            file.load()
            return Picture(file, bits, inverted)
