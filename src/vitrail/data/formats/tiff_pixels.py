"""The pixels of a TIFF as a grid of numbers: any number of bands, as they stand in the file.

Pillow reads the pictures that TIFF is used for; this reads the measurements. LZW and PackBits go to
Pillow's libtiff as rows of 8-bit grey, which is how every band count and depth can be read with it.

Source: TIFF 6.0 (Adobe 1992), sections 14 and 15; TIFF Technical Note 3 (Adobe 2005).
"""

import io
import struct
import zlib

import numpy as np
from PIL import TiffImagePlugin

from vitrail.data.formats import tiff
from vitrail.data.formats.levels import Values
from vitrail.data.formats.recognise import RefusedError


def read_bands(data: bytes, layout: tiff.Layout) -> Values:
    """Decode to [height, width, bands] as stored: numbers unchanged, orientation not applied."""
    down, across = layout.parts
    per_plane = down * across
    planes = [
        _read_plane(data, layout, slice(i * per_plane, (i + 1) * per_plane))
        for i in range(layout.planes)
    ]
    return planes[0] if layout.planes == 1 else np.concatenate(planes, axis=2)


def _read_plane(data: bytes, layout: tiff.Layout, which: slice) -> Values:
    """Decode the strips or tiles of one plane: [height, width, bands of the plane]."""
    (rows, columns), (down, across) = layout.part, layout.parts
    height = rows * down * across if layout.tiled else layout.height
    places = zip(layout.offsets[which], layout.lengths[which], strict=True)
    parts = [memoryview(data)[at : at + length] for at, length in places]
    if layout.compression in (tiff.LZW, tiff.PACKBITS):
        stored = _through_libtiff(parts, rows, height, layout)
    else:
        sizes = [rows * layout.row_bytes] * len(parts)
        sizes[-1] -= (rows * down * across - height) * layout.row_bytes if not layout.tiled else 0
        raw = b"".join(_expand(*each, layout) for each in zip(parts, sizes, strict=True))
        stored = np.frombuffer(raw, np.uint8).reshape(height, layout.row_bytes)
    values = _unpredicted(stored, layout).reshape(height, columns, -1)
    if layout.tiled:
        grid = values.reshape(down, across, rows, columns, -1).swapaxes(1, 2)
        values = grid.reshape(down * rows, across * columns, -1)
    return values[: layout.height, : layout.width]


def _expand(part: memoryview, size: int, layout: tiff.Layout) -> memoryview:
    """Give the `size` bytes of a part that is not compressed, or deflated."""
    if layout.compression == tiff.NONE:
        whole = part
    else:  # one byte more than needed, so that the checksum behind them is verified
        whole = memoryview(zlib.decompressobj().decompress(part, size + 1))
    if len(whole) < size:
        raise RefusedError("the TIFF is cut off or damaged: a strip or tile is too short")
    return whole[:size]


def _through_libtiff(
    parts: list[memoryview], rows: int, height: int, layout: tiff.Layout
) -> Values:
    """Decompress parts of `rows` rows into bytes [height, bytes of a row].

    They are written as the strips of a TIFF of 8-bit grey, whose pixels are the bytes.
    """
    count, width = len(parts), layout.row_bytes
    starts = np.cumsum([0, *(len(part) for part in parts)])
    tables = 8 + 2 + 12 * 9 + 4
    place = tables + (8 * count if count > 1 else 0)  # a single number stands in the entry itself
    offsets = place + starts[:-1]
    lengths = np.diff(starts)
    entries = [(tiff.WIDTH, 1, width), (tiff.HEIGHT, 1, height), (tiff.BITS, 1, 8)]
    entries += [(tiff.COMPRESSION, 1, layout.compression), (tiff.PHOTOMETRIC, 1, 1)]
    entries += [(tiff.STRIP_OFFSETS, count, tables if count > 1 else place), (tiff.SAMPLES, 1, 1)]
    entries += [(tiff.ROWS_PER_STRIP, 1, rows)]
    entries += [(tiff.STRIP_COUNTS, count, tables + 4 * count if count > 1 else len(parts[0]))]
    body = b"".join(struct.pack("<HHII", tag, 4, n, value) for tag, n, value in entries)
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + bytes(4)
    lists = (offsets, lengths) if count > 1 else ()
    file = b"".join([head, *(each.astype("<u4").tobytes() for each in lists), *parts])
    with TiffImagePlugin.TiffImageFile(io.BytesIO(file)) as image:
        image.load()
        return np.asarray(image)


def _unpredicted(stored: Values, layout: tiff.Layout) -> Values:
    """Undo the differences along the rows: [rows, bytes] to [rows, numbers]."""
    bands = layout.bands // layout.planes
    if layout.predictor == 3:  # differences of bytes, the highest bytes of the whole row first
        rows, size = len(stored), layout.dtype.itemsize
        bytes_ = np.cumsum(stored.reshape(rows, -1, bands), axis=1, dtype=np.uint8)
        planes = bytes_.reshape(rows, size, -1).swapaxes(1, 2)
        return np.ascontiguousarray(planes).view(layout.dtype.newbyteorder(">"))[..., 0]
    values = np.ascontiguousarray(stored).view(layout.dtype)
    if layout.predictor == 2:
        native = values.astype(layout.dtype.newbyteorder("="))
        steps = native.reshape(len(stored), -1, bands)
        values = np.cumsum(steps, axis=1, dtype=native.dtype).reshape(len(stored), -1)
    return values
