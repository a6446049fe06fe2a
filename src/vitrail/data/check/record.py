"""What is kept of each image that was looked at: under 400 bytes, whatever its size."""

import hashlib
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitrail.data.check.header import read_header
from vitrail.data.decode import decode
from vitrail.data.formats.containers import open_container
from vitrail.data.formats.recognise import RefusedError
from vitrail.errors import ImageError

THUMB = 16  # rows and columns of the grey thumbnail
COLOUR = 4  # rows and columns of the colour thumbnail
FLAT = 2.0  # grey levels of standard deviation under which an image shows nothing
GREY = 3  # largest difference between the channels of a grey image; JPEG rounds

UNSEEN, GOOD, REFUSED = 0, 1, 2  # what `status` says

RECORD = np.dtype(
    [
        ("status", "u1"),
        ("format", "S5"),
        ("mode", "S10"),  # as in the file
        ("orientation", "u1"),  # EXIF, 1 to 8
        ("grey", "?"),  # all channels are equal
        ("blank", "?"),  # one value, or nearly
        ("height", "i4"),  # pixels, upright
        ("width", "i4"),
        ("bytes", "i8"),  # of the file
        ("sha256", "u8", 2),  # of the file, its first 16 bytes
        ("pixels", "u8", 2),  # of height, width and the decoded pixels, likewise
        ("mean", "f4", 3),  # red, green, blue, 0 to 255
        ("std", "f4", 3),
        ("thumb", "u1", (THUMB, THUMB)),
        ("colour", "u1", (COLOUR, COLOUR, 3)),
    ]
)
Record = np.void  # one row of RECORD


def examine(data: bytes, where: str, max_pixels: int) -> Record:
    """Decode an image file once and keep what the checks need.

    Args:
        data: the whole file.
        where: names the image in errors.
        max_pixels: height * width above which it is refused.
    Returns:
        one RECORD.
    Raises:
        ImageError: it cannot be used.
    """
    try:
        container = open_container(data)
    except RefusedError as error:
        raise ImageError(f"{where}: {error}") from None
    header = read_header(container)
    depth: Literal[8, 16] = 16 if header.deep else 8
    decoded = decode(
        data, channels=header.channels, where=where, max_pixels=max_pixels, depth=depth
    ).numpy()
    planes = np.ascontiguousarray(np.rint(decoded), np.uint8)  # channels height width
    record: Record = np.zeros(1, RECORD)[0]
    record["status"] = GOOD
    record["format"] = container.format
    record["mode"] = header.mode
    record["orientation"] = header.orientation
    record["height"], record["width"] = planes.shape[1:]
    record["bytes"] = len(data)
    record["sha256"] = _digest(data)
    record["pixels"] = _digest(np.array(planes.shape).tobytes(), planes.data)
    _summarise(record, _as_colour(planes))
    # Measurements of 16 bits may use a small part of their range: only one value is blank there.
    record["blank"] = np.ptp(decoded) == 0 if header.deep else record["std"].max() < FLAT
    return record


def load_picture(data: bytes, where: str, max_pixels: int, enough: int) -> NDArray[np.uint8]:
    """Decode an image to be shown: uint8 [height, width, 3]; of many bands the first three.

    Args:
        enough: pixels along a side that will do; a JPEG is then decoded smaller.

    Raises:
        ImageError: it cannot be used.
    """
    try:
        channels = read_header(open_container(data)).channels
    except RefusedError as error:
        raise ImageError(f"{where}: {error}") from None
    size = (enough, enough)
    image = decode(data, channels=channels, where=where, max_pixels=max_pixels, shrink_to=size)
    return np.ascontiguousarray(_as_colour(image.numpy()).transpose(1, 2, 0))


def _as_colour(planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Take the first three of [channels, height, width]; where there are fewer, some twice."""
    count = len(planes)
    return planes if count == 3 else planes[np.arange(3) % count]


def _digest(*parts: bytes | memoryview) -> NDArray[np.uint64]:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part)
    return np.frombuffer(whole.digest()[:16], "<u8")


def _summarise(record: Record, planes: NDArray[np.uint8]) -> None:
    """Fill in what depends on the pixels [3, height, width]."""
    size = (planes.shape[2], planes.shape[1])
    image = Image.merge(
        "RGB", [Image.frombuffer("L", size, plane, "raw", "L", 0, 1) for plane in planes]
    )
    counts = np.array(image.histogram(), np.float64).reshape(3, 256)
    levels, total = np.arange(256), counts[0].sum()
    mean = counts @ levels / total
    record["mean"] = mean
    record["std"] = np.sqrt(np.maximum(counts @ levels**2 / total - mean**2, 0))
    double = (2 * THUMB, 2 * THUMB)
    small = image.resize(double, Image.Resampling.BILINEAR, reducing_gap=2)
    quick = np.asarray(small).transpose(2, 0, 1)
    record["grey"] = _is_grey(quick) and _is_grey(planes)
    record["thumb"] = np.asarray(small.convert("L").resize((THUMB, THUMB), Image.Resampling.BOX))
    record["colour"] = np.asarray(small.resize((COLOUR, COLOUR), Image.Resampling.BOX))


def _is_grey(planes: NDArray[np.uint8]) -> bool:
    """Whether no pixel of [3, height, width] has a colour."""
    red, green, blue = planes.astype(np.int16)
    return bool(max(np.abs(red - green).max(), np.abs(blue - green).max()) <= GREY)
