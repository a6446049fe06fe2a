"""Pictures as data: addresses, so that the report is one file."""

import base64
import io

import numpy as np
from PIL import Image

from vitrail.report.content import Picture

LARGEST = 448  # pixels of the longer side; larger pictures are scaled down
SHARP = 96  # pixels of the longer side up to which a picture is kept exactly, and shown in squares


def picture_uri(picture: Picture, largest: int = LARGEST) -> str:
    """Encode a picture [h, w, 3]: small ones without loss, others as JPEG.

    Raises:
        ValueError: it is not uint8 [h, w, 3].
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise ValueError(f"picture is {picture.dtype} {picture.shape}, not uint8 [h, w, 3]")
    image = Image.fromarray(np.ascontiguousarray(picture))
    small = max(image.size) <= SHARP
    if not small:
        image.thumbnail((largest, largest), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    if small:
        image.save(file, "PNG", optimize=True)
    else:
        image.save(file, "JPEG", quality=88, optimize=True)
    return _uri("image/png" if small else "image/jpeg", file.getvalue())


def svg_uri(svg: str) -> str:
    """Encode an SVG document. As an image it can neither run scripts nor load anything."""
    return _uri("image/svg+xml", svg.encode("utf-8", "replace"))


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
