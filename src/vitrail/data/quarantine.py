"""The quarantine list: which images of a data set are left out, and why.

A CSV file with the columns `path,reason,by`. `vitrail check` writes it, training and evaluation
leave out what it names. Lines whose `by` is `check` belong to the check and are replaced by the
next one; all others belong to the user and stay.
"""

import csv
import io
import os
import re
from collections.abc import Mapping
from pathlib import Path

from vitrail.errors import DataError
from vitrail.files import write_atomic

FIELDS = ["path", "reason", "by"]
CHECK = "check"
FORMULA = ("=", "+", "-", "@")  # a spreadsheet would run what begins like this
_ESCAPED = re.compile(r"\\\\|\\u\{(10[0-9a-f]{4}|[0-9a-f]{1,5})\}")


def default_quarantine(source: str) -> Path | None:
    """Give the place of the list that belongs to a data source.

    `DIR/quarantine.csv` for a folder and for several files of it (`DIR/{00..09}.tar`),
    `NAME.quarantine.csv` beside one file; None for what has no place of its own, such as a built-in
    data set, an address or a path that is not there.
    """
    path = Path(os.path.expanduser(source))
    if os.path.isdir(path):
        return path / "quarantine.csv"
    if os.path.isfile(path):
        return path.with_name(f"{path.name}.quarantine.csv")
    if re.search(r"[{*?\[]", path.name) and os.path.isdir(path.parent):
        return path.parent / "quarantine.csv"
    return None


def read_quarantine(path: Path) -> dict[str, str]:
    """Read a list: the reason for each key that is left out.

    Args:
        path: a CSV file whose first line names the columns; `path` must be among them.
    Raises:
        DataError: it cannot be read, or it has no column `path`.
    """
    return {key: reason for key, reason, _ in _rows(path)}


def write_quarantine(path: Path, found: Mapping[str, str]) -> None:
    """Write what a check found, atomically; lines of the user's own stay, and stand first.

    Args:
        found: the reason for each key.
    Raises:
        DataError: there is such a file, and it is not a list.
        StorageError: it cannot be written.
    """
    own = [row for row in _rows(path) if row[2] != CHECK] if os.path.exists(path) else []
    named = {key for key, _, _ in own}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIELDS)
    for key, reason, by in own:
        writer.writerow([_protect(key), _protect(reason), _protect(by)])
    for key, reason in found.items():
        if key not in named:
            writer.writerow([_protect(key), _protect(reason), CHECK])
    write_atomic(path, text.getvalue().encode())


def _rows(path: Path) -> list[tuple[str, str, str]]:
    """Read path, reason and by of each line. Raises DataError."""
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape").removeprefix("\ufeff")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        if "path" not in (reader.fieldnames or ()):
            raise DataError(
                f"{path}: is no quarantine list; its first line must be {','.join(FIELDS)}"
            )
        rows = [[_plain(row.get(name) or "") for name in FIELDS] for row in reader]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except csv.Error as error:
        raise DataError(f"{path}: is no quarantine list ({error})") from None
    return [(key, reason, by) for key, reason, by in rows if key]


def _protect(text: str) -> str:
    r"""Write a text so that no spreadsheet or terminal acts on it; `_plain` undoes it.

    What begins like a formula gets an apostrophe in front; what cannot be seen becomes `\u{1b}`.
    """
    safe = "".join(
        c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in text.replace("\\", "\\\\")
    )
    return f"'{safe}" if safe.startswith((*FORMULA, "'")) else safe


def _plain(text: str) -> str:
    """Undo `_protect`; what a person wrote without knowing of it comes out as it stands."""
    if text.startswith("'") and text[1:].startswith((*FORMULA, "'")):
        text = text[1:]
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)) if found[1] else "\\", text)
