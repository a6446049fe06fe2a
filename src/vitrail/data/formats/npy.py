"""Images in NumPy's .npy files: the header is read here, by a strict pattern, and never run.

Source: NumPy enhancement proposal 1, `numpy.lib.format`.
"""

import re
import struct

import numpy as np

from vitrail.data.formats.levels import Values, check_size
from vitrail.data.formats.recognise import RefusedError

TYPES = {"u1": "uint8", "u2": "uint16", "f2": "float16", "f4": "float32", "f8": "float64"}
HEADER_LIMIT = 1 << 16  # bytes; NumPy itself writes about 128
KEYS = {
    "descr": re.compile(r"""['"]descr['"]\s*:\s*['"]([<>|=]?)([A-Za-z]\d{0,3})['"]"""),
    "fortran_order": re.compile(r"""['"]fortran_order['"]\s*:\s*(True|False)"""),
    "shape": re.compile(r"""['"]shape['"]\s*:\s*\(([0-9, ]{0,80})\)"""),
}


def read_npy(data: bytes, channels: int, max_pixels: int) -> Values:
    """Read an array as an image [height, width, channels], a read-only view of `data`.

    [h, w, c] and [c, h, w] are told apart by `channels`: it must be the length of the last axis or
    of the first. [h, w] is an image of one channel.

    Raises:
        RefusedError: the header is damaged or lies about the size; the type is not one of `TYPES`;
            neither axis has this length, or both have; too many pixels or bytes.
    """
    if len(data) < 12 or data[6] not in (1, 2, 3):
        raise RefusedError("the array is cut off or damaged")
    start = 10 if data[6] == 1 else 12
    (length,) = struct.unpack_from("<H" if data[6] == 1 else "<I", data, 8)
    if length > min(HEADER_LIMIT, len(data) - start):
        raise RefusedError("the header of the array is cut off or damaged")
    header = data[start : start + length].decode("latin-1")
    order, kind = _only("descr", header)
    if kind not in TYPES:
        raise RefusedError(
            f"an array of type {order + kind!r}; {', '.join(TYPES.values())} are read"
        )
    shape = tuple(int(side) for side in re.findall(r"[0-9]+", _only("shape", header)[0]))
    fortran = _only("fortran_order", header)[0] == "True"
    dtype = np.dtype(order + kind)
    axis = _channel_axis(shape, channels)
    height, width = (side for i, side in enumerate(shape) if i != axis)
    check_size(height, width, max_pixels, channels * dtype.itemsize)
    expected, given = height * width * channels * dtype.itemsize, len(data) - start - length
    if given != expected:
        raise RefusedError(f"the array has {given} bytes; its shape {shape} asks for {expected}")
    values = np.frombuffer(data, dtype, height * width * channels, start + length)
    values = values.reshape(shape, order="F" if fortran else "C")
    return values[..., None] if axis is None else np.moveaxis(values, axis, 2)


def _only(key: str, header: str) -> tuple[str, ...]:
    """Find what stands for a key, which must be there exactly once."""
    found = list(KEYS[key].finditer(header))
    if len(found) != 1:
        raise RefusedError(f"the header of the array has no {key} that is read: a plain image")
    return found[0].groups()


def _channel_axis(shape: tuple[int, ...], channels: int) -> int | None:
    """Tell which axis holds the channels: 2, 0, or None for [h, w]."""
    if len(shape) == 2:
        if channels == 1:
            return None
        raise RefusedError(f"an array of shape {shape} has 1 band, not channels={channels}")
    if len(shape) != 3:
        raise RefusedError(f"an array of shape {shape}; an image has 2 or 3 axes")
    last, first = shape[2] == channels, shape[0] == channels
    if last and first:
        raise RefusedError(
            f"an array of shape {shape} is ambiguous: its first and its last axis both have"
            f" channels={channels}; cut it to another height, or save it as TIFF"
        )
    if not last and not first:
        bands = f"{shape[0]} or {shape[2]} bands"
        raise RefusedError(f"an array of shape {shape} has {bands}, not channels={channels}")
    return 2 if last else 0
