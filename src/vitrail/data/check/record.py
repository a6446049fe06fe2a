"""What is kept of each image that was looked at: under 400 bytes, whatever its size."""

import hashlib
from typing import Literal, TypeVar

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

T = TypeVar("T", bound=np.generic)

UNSEEN, GOOD, REFUSED = 0, 1, 2  # what `status` says

RECORD = np.dtype(
    [
        ("status", "u1"),
        ("format", "S5"),
        ("mode", "S14"),  # as in the file
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
    # Measurements of 16 bits may use a small part of their range: they are stretched to be looked
    # at, and only one single value is blank.
    planes = _stretch(decoded) if header.deep else np.ascontiguousarray(decoded)
    record: Record = np.zeros(1, RECORD)[0]
    record["status"] = GOOD
    record["format"] = container.format
    record["mode"] = header.mode
    record["orientation"] = header.orientation
    record["height"], record["width"] = planes.shape[1:]
    record["bytes"] = len(data)
    record["sha256"] = _digest(data)
    pixels = np.ascontiguousarray(decoded)
    record["pixels"] = _digest(np.array(planes.shape).tobytes(), pixels.data.cast("B"))
    _summarise(record, _as_colour(planes))
    record["blank"] = np.ptp(decoded) == 0 if header.deep else record["std"].max() < FLAT
    if header.deep:
        shown = _as_colour(decoded).astype(np.float64)
        record["mean"], record["std"] = shown.mean((1, 2)), shown.std((1, 2))
    return record


def _stretch(levels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Bring the values of an image to 0 to 255."""
    low, high = float(levels.min()), float(levels.max())
    stretched = np.rint((levels - low) * (255 / max(high - low, 1e-6)))
    return np.ascontiguousarray(stretched, np.uint8)


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


def _as_colour(planes: NDArray[T]) -> NDArray[T]:
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
