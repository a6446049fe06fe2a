"""From the bytes of an image file to pixels: the first half of the preprocessing contract.

JPEG, PNG, WebP, GIF, TIFF and BMP, told by content. The size in the header is checked before
anything is decoded. A file that is cut off or damaged is refused, as far as its format lets one see
it. EXIF orientation is applied; of an animation the first frame counts; colours: see `colour`.
"""

import io
import threading
import warnings

import numpy as np
import torch
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
from torch import Tensor

from vitrail.data.colour import to_colour
from vitrail.data.containers import Container, open_container
from vitrail.data.recognise import RefusedError
from vitrail.errors import ImageError

DECODERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
}
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262  # TIFF tags
_warnings_lock = threading.Lock()


def decode(
    data: bytes,
    *,
    channels: int,
    where: str,
    max_pixels: int,
    shrink_to: tuple[int, int] | None = None,
) -> Tensor:
    """Decode an image file.

    Args:
        data: the whole file.
        channels: 1 for grey, 3 for RGB.
        where: names the image in errors.
        max_pixels: height * width above which the image is refused, before it is decoded.
        shrink_to: height and width, upright, that are enough. A JPEG is then decoded at 1/2, 1/4
            or 1/8 of its size if both sides stay at least this large: much faster, and slightly
            different pixels, so it is a part of the contract. Other formats are not affected.
    Returns:
        uint8 [channels, height, width], upright; its memory may be laid out channels last.
    Raises:
        ImageError: the format is not read, the image is too large, empty, cut off or damaged, or
            its values have no defined meaning.
    """
    try:
        container = open_container(data)
    except RefusedError as error:
        raise ImageError(f"{where}: {error}") from None
    try:
        _check_size(container.size, max_pixels)
        return _pixels(container, channels, max_pixels, shrink_to)
    except RefusedError as error:
        raise ImageError(f"{where}: {error}") from None
    except Exception as error:  # Pillow raises nearly every type there is for a damaged file
        reason = f"{where}: {container.format} cannot be decoded: {_one_line(error)}"
        raise ImageError(reason) from error


def _pixels(
    container: Container, channels: int, max_pixels: int, shrink_to: tuple[int, int] | None
) -> Tensor:
    """Decode, convert the colours and turn upright."""
    if container.format == "TIFF":
        image = _load_tiff(container, channels, max_pixels)
    else:
        with DECODERS[container.format](io.BytesIO(container.data)) as file:
            _check_size((file.height, file.width), max_pixels)
            if shrink_to and isinstance(file, JpegImagePlugin.JpegImageFile):
                _shrink(file, shrink_to, turned=container.orientation >= 5)
            file.load()
            image = to_colour(file, channels)
    if container.orientation > 1:
        image = image.transpose(UPRIGHT[container.orientation])
    pixels = torch.from_numpy(np.array(image))  # a copy: the tensor owns its memory
    return pixels[None] if channels == 1 else pixels.permute(2, 0, 1)


def _load_tiff(container: Container, channels: int, max_pixels: int) -> Image.Image:
    """Load a TIFF, which Pillow turns upright by its orientation tag while loading.

    Pillow warns of odd tags that do not matter here. Filters of warnings are shared by all threads,
    hence the lock.
    """
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with TiffImagePlugin.TiffImageFile(io.BytesIO(container.data)) as file:
            _check_size((file.height, file.width), max_pixels)
            file.info.pop("xmp", None)  # Pillow would look for an orientation there too
            bits = 12 if file.tag_v2.get(BITS_PER_SAMPLE) == (12,) else 16
            inverted = file.tag_v2.get(PHOTOMETRIC) == 0
            file.load()
            return to_colour(file, channels, bits, inverted)


def _shrink(file: JpegImagePlugin.JpegImageFile, wanted: tuple[int, int], turned: bool) -> None:
    """Let the JPEG decoder scale by 1/2, 1/4 or 1/8 while both sides stay as large as wanted."""
    height, width = (wanted[1], wanted[0]) if turned else wanted
    file.draft(None, (width, height))


def _check_size(size: tuple[int, int] | None, max_pixels: int) -> None:
    """Refuse an image without pixels or with too many; `size` is height, width."""
    if size is None:
        return
    height, width = size
    if height < 1 or width < 1:
        raise RefusedError(f"the image has no pixels: {height}x{width}")
    if height * width > max_pixels:
        raise RefusedError(
            f"{height}x{width} = {height * width} pixels, more than max_pixels={max_pixels};"
            " make it smaller, or allow more"
        )


def _one_line(error: Exception) -> str:
    """Say what Pillow said, in one short line of plain text."""
    text = " ".join(str(error).split()) or type(error).__name__
    return "".join(char if " " <= char <= "~" else "?" for char in text)[:160]
