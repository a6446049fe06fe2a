"""What a TIFF says of itself: its tags, and how the numbers of its bands lie in the file.

What it asks for is checked against its size before anything is decoded.

Source: TIFF 6.0 (Adobe 1992), sections 2, 8, 13 to 15; BigTIFF.
"""

import struct
from dataclasses import dataclass

import numpy as np

from vitrail.data.formats.levels import BYTES_PER_PIXEL, check_size
from vitrail.data.formats.recognise import RefusedError

Tags = dict[int, tuple[int, ...]]
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIP_OFFSETS, ORIENTATION, SAMPLES, ROWS_PER_STRIP, STRIP_COUNTS = 273, 274, 277, 278, 279
PLANAR, PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS = 284, 317, 322, 323, 324, 325
EXTRA_SAMPLES, SAMPLE_FORMAT, FILL_ORDER = 338, 339, 266
LISTS = {STRIP_OFFSETS, STRIP_COUNTS, TILE_OFFSETS, TILE_COUNTS}
WANTED = {*range(WIDTH, SAMPLE_FORMAT + 1)}  # all of these, and few others
SEGMENT_LIMIT = 1 << 17  # strips or tiles of one image
SHARED = 4  # times the size of the file that strips or tiles may have in all; equal ones may share
BAND_LIMIT = 1024
PADDING = 1 << 20  # pixels by which tiles may reach beyond the largest image
TYPES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}  # byte, short, long, directory, long of BigTIFF
NUMBERS = {(1, 8): "u1", (1, 16): "u2", (3, 16): "f2", (3, 32): "f4", (3, 64): "f8"}
NONE, LZW, DEFLATE, OLD_DEFLATE, PACKBITS = 1, 5, 8, 32946, 32773  # compressions
GROWTH = {NONE: 1, LZW: 2800, DEFLATE: 1100, OLD_DEFLATE: 1100, PACKBITS: 64}  # most, out of a byte
PICTURES = (1, 2, 5)  # photometric: black is zero, RGB, CMYK; the others are codes, not numbers


def read_tags(data: bytes) -> tuple[str, Tags]:
    """Read byte order (< or >) and the `WANTED` tags of the first directory, all whole numbers.

    Tags that are damaged or too long are left out. Raises RefusedError if there is no directory, or
    a number of bands that is no number.
    """
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    try:
        (start,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
    except (struct.error, OverflowError):
        raise RefusedError("the TIFF has no directory; it is cut off or damaged") from None
    entry, first = ("HHQ", start + 8) if big else ("HHI", start + 2)
    step, tags = 20 if big else 12, Tags()
    for at in range(first, min(first + count * step, len(data) - step + 1), step):
        tag, kind, length = struct.unpack_from(order + entry, data, at)
        limit = SEGMENT_LIMIT if tag in LISTS else BAND_LIMIT
        if tag not in WANTED or tag in tags:
            continue
        if tag == SAMPLES and (kind not in TYPES or length != 1):
            raise RefusedError("the TIFF has no whole number of bands; it is damaged")
        if kind not in TYPES or not 0 < length <= limit:
            continue
        values = f"{order}{length}{TYPES[kind]}"
        place = at + (12 if big else 8)
        try:
            if struct.calcsize(values) > (8 if big else 4):
                (place,) = struct.unpack_from(order + ("Q" if big else "I"), data, place)
            tags[tag] = struct.unpack_from(values, data, place)
        except (struct.error, OverflowError):
            continue
    return order, tags


@dataclass(frozen=True)
class Layout:
    """How the numbers of an image lie in its file."""

    height: int
    width: int
    bands: int
    dtype: np.dtype
    planes: int  # bands are stored together (1) or one after the other (bands)
    part: tuple[int, int]  # height and width of a strip or tile
    tiled: bool
    compression: int
    predictor: int
    offsets: tuple[int, ...]
    lengths: tuple[int, ...]

    @property
    def parts(self) -> tuple[int, int]:
        """Rows and columns of strips or tiles that cover one plane."""
        return -(-self.height // self.part[0]), -(-self.width // self.part[1])

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of a strip or tile."""
        return self.part[1] * (self.bands // self.planes) * self.dtype.itemsize


def read_layout(order: str, tags: Tags, size: int, max_pixels: int) -> Layout:
    """Check what the tags say against each other and the file, which is `size` bytes long.

    Raises:
        RefusedError: something is missing, not read here, too large, or a lie.
    """
    one = {tag: values[0] for tag, values in tags.items()}
    height, width, bands = one.get(HEIGHT, 0), one.get(WIDTH, 0), one.get(SAMPLES, 1)
    dtype = _number(order, tags)
    check_size(height, width, max_pixels, bands * dtype.itemsize)
    if one.get(PHOTOMETRIC, 1) not in PICTURES or one.get(FILL_ORDER, 1) != 1 or bands < 1:
        raise RefusedError("the bands of this TIFF are coded (palette, YCbCr, LAB, bits reversed)")
    tiled = TILE_OFFSETS in tags
    rows = one.get(TILE_HEIGHT, 0) if tiled else min(height, one.get(ROWS_PER_STRIP, height))
    layout = Layout(
        height=height,
        width=width,
        bands=bands,
        dtype=dtype,
        planes=bands if one.get(PLANAR, 1) == 2 else 1,
        part=(rows, one.get(TILE_WIDTH, 0) if tiled else width),
        tiled=tiled,
        compression=one.get(COMPRESSION, 1),
        predictor=one.get(PREDICTOR, 1),
        offsets=tags.get(TILE_OFFSETS if tiled else STRIP_OFFSETS, ()),
        lengths=tags.get(TILE_COUNTS if tiled else STRIP_COUNTS, ()),
    )
    _check(layout, size, max_pixels)
    return layout


def _number(order: str, tags: Tags) -> np.dtype:
    """Give the type of all bands; they must have one."""
    bits, kinds = set(tags.get(BITS, (1,))), set(tags.get(SAMPLE_FORMAT, (1,)))
    kind = (*kinds, *bits)
    if len(kind) != 2 or kind not in NUMBERS:
        raise RefusedError(
            f"TIFF bands of {sorted(bits)[:4]} bits, sample format {sorted(kinds)[:4]};"
            " unsigned integers of 8 or 16 bits and floating point are read"
        )
    return np.dtype(order + NUMBERS[kind])


def _check(layout: Layout, size: int, max_pixels: int) -> None:
    """Refuse a layout that the file cannot fill."""
    (rows, columns), planes = layout.part, layout.planes
    if layout.compression not in GROWTH:
        raise RefusedError(
            f"TIFF compression {layout.compression} of this many bands or bits; none, LZW, deflate"
            " and PackBits are read"
        )
    if layout.predictor not in ((1, 2) if layout.dtype.kind == "u" else (1, 3)):
        raise RefusedError(f"TIFF predictor {layout.predictor} is not read for {layout.dtype}")
    if rows < 1 or columns < 1:
        raise RefusedError(f"TIFF strips or tiles of {rows}x{columns} pixels")
    down, across = layout.parts
    count = down * across * planes
    if count > SEGMENT_LIMIT or not len(layout.offsets) == len(layout.lengths) == count:
        raise RefusedError(
            f"the TIFF needs {count} strips or tiles, at most {SEGMENT_LIMIT}; it lists"
            f" {len(layout.offsets)}"
        )
    ends = (at + n for at, n in zip(layout.offsets, layout.lengths, strict=True))
    if max(ends) > size:
        raise RefusedError("the TIFF is cut off or damaged")
    if sum(layout.lengths) > SHARED * size:
        raise RefusedError("the strips or tiles of the TIFF lie on each other; it is damaged")
    height = down * rows if layout.tiled else layout.height
    needed = planes * height * across * layout.row_bytes
    if needed > BYTES_PER_PIXEL * (max_pixels + PADDING):
        raise RefusedError(f"TIFF tiles of {rows}x{columns} pixels, {needed} bytes in all")
    if needed > sum(layout.lengths) * GROWTH[layout.compression]:
        raise RefusedError(f"the TIFF is too short for {needed} bytes of pixels")
