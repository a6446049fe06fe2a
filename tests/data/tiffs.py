"""TIFFs of any number of bands, written by hand as the specification says."""

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

NONE, LZW, DEFLATE, OLD_DEFLATE, PACKBITS = 1, 5, 8, 32946, 32773
FORMATS = {"u": 1, "i": 2, "f": 3}


def tiff(
    values: NDArray,
    *,
    planar: bool = False,
    tile: tuple[int, int] | None = None,
    rows: int = 4,
    compression: int = NONE,
    predictor: int = 1,
    order: str = "<",
    big: bool = False,
    tags: dict[int, tuple[int, ...]] | None = None,
) -> bytes:
    """Write [height, width, bands] in strips of `rows` rows, or in tiles of (height, width)."""
    height, width, bands = values.shape
    planes = [values[..., i : i + 1] for i in range(bands)] if planar else [values]
    part = tile or (rows, width)
    parts = [
        compress(predict(each, predictor, order), compression)
        for plane in planes
        for each in cut(plane, part, pad=tile is not None)
    ]
    head = 16 if big else 8
    starts = head + np.cumsum([0, *map(len, parts)])
    names = (322, 323, 324, 325) if tile else (256, 278, 273, 279)
    entries = {256: (width,), 257: (height,), 258: (8 * values.itemsize,) * bands}
    entries |= {259: (compression,), 262: (1,), 277: (bands,), 284: (2 if planar else 1,)}
    entries |= {317: (predictor,), 339: (FORMATS[values.dtype.kind],) * bands}
    entries |= {names[0]: (part[1],), names[1]: (part[0],)}
    entries |= {names[2]: tuple(starts[:-1]), names[3]: tuple(map(len, parts))}
    directory = write_directory(entries | (tags or {}), int(starts[-1]), order, big)
    first = struct.pack(f"{order}HHHQ" if big else f"{order}HI", *head_of(big, int(starts[-1])))
    return b"".join([b"II" if order == "<" else b"MM", first, *parts, directory])


def head_of(big: bool, start: int) -> tuple[int, ...]:
    return (43, 8, 0, start) if big else (42, start)


def write_directory(
    entries: dict[int, tuple[int, ...]], start: int, order: str, big: bool
) -> bytes:
    """Write whole numbers as LONG or LONG8; lists stand behind the directory."""
    kind, letter, field = (16, "Q", 8) if big else (4, "I", 4)
    count = "Q" if big else "H"
    after = start + struct.calcsize(f"={count}") + len(entries) * (4 + 2 * field) + field
    body, lists = b"", b""
    for tag, values in sorted(entries.items()):
        raw = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(raw) > field:
            place = struct.pack(order + letter, after + len(lists))
            lists, raw = lists + raw, place
        body += struct.pack(f"{order}HH{letter}", tag, kind, len(values)) + raw
    return struct.pack(order + count, len(entries)) + body + bytes(field) + lists


def cut(plane: NDArray, part: tuple[int, int], pad: bool) -> list[NDArray]:
    height, width = part
    if pad:
        down, across = -plane.shape[0] % height, -plane.shape[1] % width
        plane = np.pad(plane, ((0, down), (0, across), (0, 0)))
    return [
        plane[top : top + height, left : left + width]
        for top in range(0, plane.shape[0], height)
        for left in range(0, plane.shape[1], width)
    ]


def predict(part: NDArray, predictor: int, order: str) -> NDArray[np.uint8]:
    """Give the bytes [rows, bytes of a row] of a strip or tile."""
    rows, _, bands = part.shape
    stored = part.astype(part.dtype.newbyteorder(order))
    if predictor == 2:
        steps = np.diff(part, axis=1, prepend=np.zeros_like(part[:, :1]))
        stored = steps.astype(part.dtype.newbyteorder(order))
    if predictor == 3:
        size = part.itemsize
        raw = part.astype(part.dtype.newbyteorder(">")).reshape(rows, -1).view(np.uint8)
        planes = raw.reshape(rows, -1, size).swapaxes(1, 2).reshape(rows, -1, bands)
        stored = np.diff(planes, axis=1, prepend=np.zeros_like(planes[:, :1]))
    return np.ascontiguousarray(stored).reshape(rows, -1).view(np.uint8)


def compress(raw: NDArray[np.uint8], compression: int) -> bytes:
    if compression == NONE:
        return raw.tobytes()
    if compression in (DEFLATE, OLD_DEFLATE):
        return zlib.compress(raw.tobytes())
    out = io.BytesIO()
    name = "tiff_lzw" if compression == LZW else "packbits"
    Image.fromarray(raw).save(out, "TIFF", compression=name, tiffinfo={278: len(raw)})
    with Image.open(out) as image:
        (at,), (count,) = image.tag_v2[273], image.tag_v2[279]
    return out.getvalue()[at : at + count]
