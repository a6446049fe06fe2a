"""What the header of an image file says of it: mode, depth, bands, orientation."""

import io
import re
import warnings
from typing import NamedTuple

from vitrail.data.formats import bands, npy, tiff
from vitrail.data.formats.containers import Container
from vitrail.data.formats.pictures import DECODERS, MOST_SAMPLES

COLOURS = ("LA", "RGB", "RGBA")  # modes in which Pillow hides that a file has 16 bits


class Header(NamedTuple):
    """How an image is stored."""

    mode: str  # as Pillow says, such as RGB or I;16, or `6 bands`; with ;16 where that is hidden
    orientation: int  # EXIF, 1 to 8
    channels: int  # to decode it with: 3, or the number of bands of what is no picture

    @property
    def deep(self) -> bool:
        """Whether values may have more than 8 bits."""
        return self.mode.endswith(";16") or self.mode.startswith("I;") or self.mode in ("I", "F")


def read_header(container: Container) -> Header:
    """Read the header of an image file; of one that cannot be read, nothing is known."""
    try:
        return _npy(container.data) if container.format == "NPY" else _picture(container)
    except Exception:  # Pillow raises nearly every type there is; the decoder says what is wrong
        return Header("", container.orientation, 3)


def _picture(container: Container) -> Header:
    """Let Pillow say what it is."""
    if container.format == "TIFF":
        return _tiff(container)
    mode = _mode(container)
    deep = container.format == "PNG" and container.data[24] > 8 and mode in COLOURS
    return Header(f"{mode};16" if deep else mode, container.orientation, 3)


def _tiff(container: Container) -> Header:
    """Read the tags; what Pillow does not take for a picture has bands."""
    _, tags = tiff.read_tags(container.data)
    orientation, count = bands.orientation(tags), tags.get(tiff.SAMPLES, (1,))[0]
    try:
        mode = "" if count > MOST_SAMPLES else _mode(container)
    except SyntaxError:  # how Pillow says that it does not know such a file
        mode = ""
    deep = max(tags.get(tiff.BITS, (1,))) > 8
    if not mode:
        return Header(_bands(count, deep), orientation, count if count > 1 else 3)
    return Header(f"{mode};16" if deep and mode in COLOURS else mode, orientation, 3)


def _mode(container: Container) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd tags of a TIFF
        with DECODERS[container.format](io.BytesIO(container.data)) as file:
            return file.mode


def _npy(data: bytes) -> Header:
    """Read the shape: the shorter of the outer axes holds the bands."""
    found = npy.KEYS["shape"].search(data[: npy.HEADER_LIMIT].decode("latin-1"))
    shape = [int(side) for side in re.findall("[0-9]+", found[1])] if found else []
    count = min(shape[0], shape[-1]) if len(shape) == 3 else 1
    kind = npy.KEYS["descr"].search(data[: npy.HEADER_LIMIT].decode("latin-1"))
    return Header(_bands(count, deep=kind is not None and kind[2][1:] != "1"), 1, count)


def _bands(count: int, deep: bool) -> str:
    name = "1 band" if count == 1 else f"{count} bands"
    return f"{name};16" if deep else name
