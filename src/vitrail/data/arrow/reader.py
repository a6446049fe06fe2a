"""Reads the image in any row of data sets that `datasets` maps into memory."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vitrail.data.arrow.columns import one_line
from vitrail.errors import DataError, ImageError, printable


class ArrowReader:
    """Reads the image of row i of several data sets, one after the other, in any process."""

    def __init__(self, place: str, parts: Mapping[str, Any], column: str) -> None:
        """`column` holds structs of bytes and path, or bytes."""
        self.place = place
        self.names = tuple(parts)
        self.tables = [part.select_columns(column).with_format("arrow") for part in parts.values()]
        self.ends = np.cumsum([len(part) for part in parts.values()])

    def where(self, i: int) -> str:
        """Name a row, at the beginning of an error."""
        number, row = self._locate(i)
        return f"{self.place}: {self.names[number]}:{row}"

    def _locate(self, i: int) -> tuple[int, int]:
        """Give the number of a data set and the row in it."""
        number = int(np.searchsorted(self.ends, i, side="right"))
        return number, i - int(self.ends[number - 1] if number else 0)

    def __call__(self, i: int) -> bytes:
        """Give the bytes of the image in row i; from the file that the row names if it has none.

        Raises:
            ImageError: there is none, or it cannot be read.
        """
        number, row = self._locate(i)
        try:
            with one_line(self.where(i), "cannot be read", "save it again"):
                data, path = _values(self.tables[number][row].column(0).chunk(0))
        except DataError as error:
            raise ImageError(str(error)) from None
        if data is None and path is not None and os.path.isabs(path):
            return self._read_file(i, path)
        if data is None:
            raise ImageError(f"{self.where(i)}: the row has no image (null)")
        return data

    def _read_file(self, i: int, path: str) -> bytes:
        try:
            if os.path.isfile(path):  # nothing that would wait, as a pipe does
                return Path(path).read_bytes()
            reason = "no such file"
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"{self.where(i)}: {printable(path)}: {reason}")


def _values(array: Any) -> tuple[bytes | None, str | None]:
    """Give bytes and path of an array of one row; what a file says about lengths is checked."""
    if array.null_count:
        return None, None
    names = [field.name for field in array.type] if array.type.num_fields else []
    columns = {name: array.field(name) for name in names if name in ("bytes", "path")}
    columns = columns or {"bytes": array}
    for column in columns.values():
        column.validate(full=True)  # offsets are used as addresses, and may be wrong
    values = {name: column[0].as_py() for name, column in columns.items()}
    return values["bytes"], values.get("path")
