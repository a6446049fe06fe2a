"""How a pack that is not whole yet is known."""

import json
import os

from vitrail.errors import DataError

PLAN_NAME = "pack.json"  # what `vitrail data pack` wrote, or is about to write
PLAN_LIMIT = 1 << 20  # bytes of it that are read


def require_finished(folder: str, count: int) -> None:
    """Refuse what an interrupted `vitrail data pack` left. Raises DataError."""
    path = f"{folder}/{PLAN_NAME}"
    if not os.path.isfile(path):
        return
    try:
        with open(path, "rb") as file:
            parts = json.loads(file.read(PLAN_LIMIT))["parts"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # it is another file
        return
    if isinstance(parts, int) and count < parts:
        raise DataError(
            f"{folder}: holds {count} of the {parts} files of a pack; run the same "
            "`vitrail data pack` again to write the others"
        )
