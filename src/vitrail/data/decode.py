"""From the bytes of an image file to pixels: the first half of the preprocessing contract.

JPEG, PNG, WebP, GIF, TIFF, BMP and .npy, told by content. The size in the header is checked before
anything is decoded. A file that is cut off or damaged is refused, as far as its format lets one see
it. EXIF orientation is applied; of an animation the first frame counts. Grey and RGB: see `colour`;
other numbers of channels: see `bands`; what stored values mean: see `levels`.
"""

import numpy as np
import torch
from PIL import Image, ImageFile, JpegImagePlugin
from torch import Tensor

from vitrail.data.formats.bands import load_bands
from vitrail.data.formats.colour import to_colour
from vitrail.data.formats.containers import Container, open_container
from vitrail.data.formats.deep import load_deep
from vitrail.data.formats.levels import Depth, Values, check_size
from vitrail.data.formats.pictures import Picture, load_tiff, open_picture
from vitrail.data.formats.recognise import RefusedError
from vitrail.errors import ImageError

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
MODES = {1: "L", 3: "RGB"}


def decode(
    data: bytes,
    *,
    channels: int,
    where: str,
    max_pixels: int,
    depth: Depth = 8,
    shrink_to: tuple[int, int] | None = None,
) -> Tensor:
    """Decode an image file.

    Args:
        data: the whole file.
        channels: 1 for grey, 3 for RGB; any other number takes the bands of a TIFF or .npy as they
            stand, of which there must be as many.
        where: names the image in errors.
        max_pixels: height * width above which the image is refused, before it is decoded; bands of
            more than 16 bytes a pixel count as more.
        depth: 8 rounds to whole levels, 16 keeps what the file has between them.
        shrink_to: height and width, upright, that are enough. A JPEG is then decoded at 1/2, 1/4
            or 1/8 of its size if both sides stay at least this large: much faster, and slightly
            different pixels, so it is a part of the contract. Other formats are not affected.
    Returns:
        levels, 0 to 255, [channels, height, width], upright: uint8 for depth 8, float32 for 16. Its
        memory may be laid out channels last.
    Raises:
        ImageError: the format is not read, the image is too large, empty, cut off or damaged, has
            other bands than `channels`, or its values have no defined meaning.
    """
    try:
        container = open_container(data)
    except RefusedError as error:
        raise ImageError(f"{where}: {error}") from None
    try:
        if container.size is not None:
            check_size(*container.size, max_pixels)
        return _pixels(container, channels, max_pixels, depth, shrink_to)
    except RefusedError as error:
        raise ImageError(f"{where}: {error}") from None
    except Exception as error:  # Pillow raises nearly every type there is for a damaged file
        reason = f"{where}: {container.format} cannot be decoded: {_one_line(error)}"
        raise ImageError(reason) from error


def _pixels(
    container: Container,
    channels: int,
    max_pixels: int,
    depth: Depth,
    shrink_to: tuple[int, int] | None,
) -> Tensor:
    """Choose how the file is read."""
    if channels not in MODES or container.format == "NPY":
        return _tensor(load_bands(container, channels, max_pixels, depth))
    if depth == 16:
        deep = load_deep(container, channels, max_pixels)
        if deep is not None:
            return _tensor(deep)
    if container.format == "TIFF":
        pixels = _tiff(container, channels, max_pixels)
    else:
        pixels = _picture(container, channels, max_pixels, shrink_to)
    return pixels if depth == 8 else pixels.float()


def _tiff(container: Container, channels: int, max_pixels: int) -> Tensor:
    """Decode a TIFF, as a picture if it is one, else by its bands."""
    picture = load_tiff(container, max_pixels)
    if picture is None:
        return _tensor(load_bands(container, channels, max_pixels, 8))
    return _from_pillow(to_colour(picture, channels))


def _picture(
    container: Container, channels: int, max_pixels: int, shrink_to: tuple[int, int] | None
) -> Tensor:
    """Decode, convert the colours and turn upright."""
    with open_picture(container, max_pixels) as file:
        if isinstance(file, JpegImagePlugin.JpegImageFile):
            if shrink_to:
                _shrink(file, shrink_to, turned=container.orientation >= 5)
            if file.mode == MODES[channels] and container.orientation == 1:
                return _straight(file)
        file.load()
        image = to_colour(Picture(file), channels)
    if container.orientation > 1:
        image = image.transpose(UPRIGHT[container.orientation])
    return _from_pillow(image)


def _shrink(file: JpegImagePlugin.JpegImageFile, wanted: tuple[int, int], turned: bool) -> None:
    """Let the JPEG decoder scale by 1/2, 1/4 or 1/8 while both sides stay as large as wanted."""
    height, width = (wanted[1], wanted[0]) if turned else wanted
    file.draft(None, (width, height))


def _straight(file: ImageFile.ImageFile) -> Tensor:
    """Let Pillow decode into memory of our own, which the tensor then shares: nothing is copied.

    Pillow keeps four bytes for each pixel of RGB, the last of them unused; the tensor skips it.
    """
    width, height = file.size
    pixels = np.empty((height, width, 1 if file.mode == "L" else 4), np.uint8)
    place = (pixels, file.size, "raw", 0, (file.mode, 0, 1))
    file.im = Image.core.map_buffer(*place)  # type: ignore[attr-defined]  # absent in its stubs
    file.load()
    return torch.from_numpy(pixels).permute(2, 0, 1)[: len(file.getbands())]


def _from_pillow(image: Image.Image) -> Tensor:
    """Copy a grey or RGB image: the tensor owns its memory."""
    values = np.array(image)
    return _tensor(values[..., None] if values.ndim == 2 else values)


def _tensor(values: Values) -> Tensor:
    """Make a tensor of levels [height, width, channels], copying only what does not own itself."""
    owned = np.require(values, values.dtype.newbyteorder("="), ["C", "W"])
    return torch.from_numpy(owned).permute(2, 0, 1)


def _one_line(error: Exception) -> str:
    """Say what Pillow said, in one short line of plain text."""
    text = " ".join(str(error).split()) or type(error).__name__
    return "".join(char if " " <= char <= "~" else "?" for char in text)[:160]
