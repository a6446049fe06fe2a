"""The grid of patches that a table of positions belongs to, where a file does not say it."""

import math
from collections.abc import Sequence

from vitrail.errors import WeightsError
from vitrail.models.resample import Grid

SIZE_NOTE = (
    "the file does not say its image size; 224x224 is assumed: give trained_size where it is "
    "another"
)


def square_grid(places: int) -> Grid | None:
    """Give the square grid of so many places, if there is one."""
    side = math.isqrt(max(0, places))
    return (side, side) if side * side == places and side else None


def find_grid(
    rows: int,
    prefixes: Sequence[int],
    stride: int,
    where: str,
    trained_size: tuple[int, int] | None,
    notes: list[str],
) -> tuple[Grid, int]:
    """Tell the grid of patches from the rows of a table of positions.

    Args:
        prefixes: how many rows may have no place in the image; the first that fits counts.
        stride: pixels from a patch to the next.
        trained_size: height and width in pixels; a square if None, which `notes` are told.
    Returns:
        rows and columns of patches, and the number of rows without a place.
    Raises:
        WeightsError: nothing fits.
    """
    for prefix in prefixes:
        places = rows - prefix
        if trained_size is None and (grid := square_grid(places)):
            notes.append(
                f"the file does not say the shape of its grid of patches; {grid[0]}x{grid[1]} "
                "(square) is assumed: give trained_size where it is another"
            )
            return grid, prefix
        if trained_size is not None and _places(trained_size, stride) == places:
            return (trained_size[0] // stride, trained_size[1] // stride), prefix
    places = rows - max(prefixes)
    if trained_size is not None:
        raise WeightsError(
            f"{where}: has positions for {places} patches; trained_size="
            f"{trained_size[0]}x{trained_size[1]} has {_places(trained_size, stride)}"
        )
    raise WeightsError(
        f"{where}: has positions for {places} patches, which is no square grid; "
        "give trained_size=(height, width) in pixels"
    )


def _places(size: tuple[int, int], patch: int) -> int:
    return (size[0] // patch) * (size[1] // patch)
