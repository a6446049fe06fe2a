"""Files that are opened only if they are plain files: a pipe would wait, a device never end."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from vitrail.errors import WeightsError


@contextmanager
def regular_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading.

    Raises:
        WeightsError: it is missing, no plain file, or cannot be read, now or in the block.
    """
    regular_size(path)
    flags = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # if it changes meanwhile
    try:
        with open(os.open(path, os.O_RDONLY | flags), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise WeightsError(f"{path}: not a regular file")
            yield file
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from None


def regular_size(path: Path) -> int:
    """Give the bytes of a file without opening it.

    Raises:
        WeightsError: it is missing or no plain file.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise WeightsError(f"{path}: cannot be read ({error})") from None
    if stat.S_ISDIR(status.st_mode):
        raise WeightsError(f"{path}: a folder, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise WeightsError(f"{path}: a pipe or a device, not a file")
    return status.st_size
