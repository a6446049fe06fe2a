"""One file of decoded images, mapped into memory and shared by all who read it.

    pixels of each image, one after the other
    shapes, int32 n x 3; 0, 0, 0 for an image that could not be decoded
    about, JSON: type of the pixels, reasons of what could not be decoded, sample of the pixels
    length of about, 8 bytes; sha256 of shapes and about, 32 bytes; MAGIC

The sample is a sha256 over `SAMPLES` pieces spread over the pixels: a file that is cut off,
altered in its description, or damaged over wide parts is found without reading all of it.
"""

import hashlib
import json
import mmap
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

MAGIC = b"VITRPIX1"
SAMPLES, PIECE = 64, 2**14  # pieces, bytes of each
FOOTER = 8 + 32 + len(MAGIC)


@dataclass(frozen=True)
class Decoded:
    """The decoded images of a split, by index."""

    pixels: NDArray[np.uint8]  # all bytes; read only
    kind: str  # type of the pixels: uint8 or float32
    shapes: NDArray[np.int32]  # n x 3
    starts: NDArray[np.int64]  # n, bytes
    failures: dict[int, str]  # the reason for each image that could not be decoded

    def image(self, i: int) -> NDArray[np.uint8] | NDArray[np.float32]:
        """See image i where it lies, in the shape in which it was given."""
        shape = self.shapes[i]
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(self.kind).itemsize
        start = int(self.starts[i])
        return self.pixels[start : start + size].view(self.kind).reshape(shape)


def write_decoded(file: BinaryIO, images: Iterable[NDArray[np.generic] | str]) -> None:
    """Write images, all of one type and three dimensions, or the reason why one is missing."""
    shapes: list[tuple[int, ...]] = []
    failures: list[tuple[int, str]] = []
    kind, size = "uint8", 0
    for image in images:
        if isinstance(image, str):
            failures.append((len(shapes), image))
            shapes.append((0, 0, 0))
            continue
        kind = str(image.dtype)
        file.write(np.ascontiguousarray(image).data)
        shapes.append(image.shape)
        size += image.nbytes
    file.flush()
    with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else memoryview(b"") as m:
        sample = _sample(m, size)
    about = {"kind": kind, "failures": failures, "sample": sample}
    tail = np.array(shapes, "<i4").reshape(-1, 3).tobytes() + json.dumps(about).encode()
    length = len(tail) - 12 * len(shapes)
    file.write(tail + length.to_bytes(8, "little") + hashlib.sha256(tail).digest() + MAGIC)
    file.flush()


def map_decoded(file: BinaryIO, n: int) -> Decoded | None:
    """Map a file of n images; None if it is not whole."""
    total = os.fstat(file.fileno()).st_size
    if total < FOOTER + 12 * n:
        return None
    block = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    footer = block[-FOOTER:].tobytes()
    length = int.from_bytes(footer[:8], "little")
    size = total - FOOTER - length - 12 * n
    if footer[40:] != MAGIC or size < 0:
        return None
    tail = block[size:-FOOTER].tobytes()
    if hashlib.sha256(tail).digest() != footer[8:40]:
        return None
    about = json.loads(tail[12 * n :])
    shapes = np.frombuffer(tail, "<i4", 3 * n).reshape(n, 3)
    sizes = shapes.prod(axis=1, dtype=np.int64) * np.dtype(about["kind"]).itemsize
    ends = np.cumsum(sizes)
    if (ends[-1] if n else 0) != size or _sample(block, size) != about["sample"]:
        return None
    failures = {int(i): str(reason) for i, reason in about["failures"]}
    return Decoded(block[:size], about["kind"], shapes, ends - sizes, failures)


def _sample(block: mmap.mmap | memoryview | NDArray[np.uint8], size: int) -> str:
    """Hash pieces spread over the first `size` bytes."""
    digest = hashlib.sha256()
    for start in np.linspace(0, max(0, size - PIECE), SAMPLES).astype(np.int64).tolist():
        digest.update(bytes(block[start : min(start + PIECE, size)]))
    return digest.hexdigest()
