"""Images whose bands are taken as they stand: measurements, not colours.

Every channel count but grey (1) and RGB (3) is read so, from TIFF and .npy; for those two, .npy and
the TIFFs that are no pictures.
"""

from vitrail.data.formats import tiff
from vitrail.data.formats.containers import Container
from vitrail.data.formats.levels import Depth, Values, to_levels, upright
from vitrail.data.formats.npy import read_npy
from vitrail.data.formats.recognise import RefusedError
from vitrail.data.formats.tiff_pixels import read_bands


def load_bands(container: Container, channels: int, max_pixels: int, depth: Depth) -> Values:
    """Read an image of exactly `channels` bands.

    Returns:
        uint8 (depth 8) or float32 (depth 16), levels, [height, width, channels], upright.
    Raises:
        RefusedError: another format, band count, number type or compression; too large; damaged.
    """
    if container.format == "NPY":
        return to_levels(read_npy(container.data, channels, max_pixels), depth)
    if container.format != "TIFF":
        raise RefusedError(
            f"{container.format} has no {channels} bands; channels={channels} is read from TIFF and"
            " .npy"
        )
    order, tags = tiff.read_tags(container.data)
    require_bands(tags, channels)
    layout = tiff.read_layout(order, tags, len(container.data), max_pixels)
    values = to_levels(read_bands(container.data, layout), depth)
    return upright(values, orientation(tags))


def require_bands(tags: tiff.Tags, channels: int) -> None:
    """Refuse another number of bands than `channels`."""
    bands = tags.get(tiff.SAMPLES, (1,))[0]
    if bands != channels:
        raise RefusedError(f"the TIFF has {bands} bands, not channels={channels}")


def orientation(tags: tiff.Tags) -> int:
    """Give the orientation of a TIFF, 1 to 8; 1 where it has none."""
    value = tags.get(tiff.ORIENTATION, (1,))[0]
    return value if 1 <= value <= 8 else 1
