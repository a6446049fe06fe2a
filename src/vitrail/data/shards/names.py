"""Which shards a string names: `DIR/{0000..0099}.tar`, `DIR/*.tar`, one `.tar`, or a folder."""

import glob
import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from vitrail.data.folder import is_folder
from vitrail.data.naming import SPLIT_NAMES, is_image_name, natural_order
from vitrail.data.packing.started import require_finished
from vitrail.data.remote import Found, find, is_http, is_remote, list_folder, search
from vitrail.data.shards.braces import SHARDS, expand_braces
from vitrail.errors import DataError

ENDINGS = (
    ".tar",
    ".tar.gz",
    ".tgz",
    ".tar.bz2",
    ".tar.xz",
    ".tar.zst",
)  # all but the first refused
_MAGIC = re.compile(r"[*?\[{]")
_WORDS = re.compile(r"[^A-Za-z]+")


class Shards(NamedTuple):
    """Shards that belong together."""

    where: str  # begins every error
    base: str  # the folder or address that holds all of them
    names: tuple[str, ...]  # below `base`, in natural order
    found: tuple[Found, ...]  # size and version of each
    query: str = ""  # ends every address, such as a signature; never shown

    def path(self, name: str) -> str:
        """Give the path or address of a file below the base."""
        return f"{self.base}/{name}{self.query}"

    @property
    def remote(self) -> bool:
        """Whether they lie behind an address."""
        return is_remote(self.base)


def names_shards(source: str) -> bool:
    """Whether a string names shards: by its ending, or because a folder holds nothing else."""
    path, _ = _without_query(source)
    if path.lower().endswith(ENDINGS):
        return not os.path.isdir(path)
    if not is_remote(path):
        return os.path.isdir(path) and bool(_shards_of(path))
    last = path.rstrip("/").rpartition("/")[2]
    return not is_http(path) and not _MAGIC.search(path) and "." not in last and _holds(path)


def find_shards(source: str) -> Shards:
    """Find the shards that a string names, with their sizes and versions.

    Raises:
        DataError: there is none, one is missing, or the string cannot be understood.
    """
    path, query = _without_query(source)
    if is_remote(path):
        return _find_remote(path, query)
    if os.path.isdir(path):
        base = path.rstrip("/")
        paths = [f"{base}/{name}" for name in _shards_of(path)]
        require_finished(base, len(paths))
    elif os.path.lexists(path):
        base, paths = os.path.dirname(path).rstrip("/"), [path]
    else:
        base = _base(path)
        paths = []
        for each in expand_braces(path):
            paths += glob.glob(each) if _MAGIC.search(each) else [each]
    found = {each: _stat(each) for each in paths}
    return _shards(source, base, found, "")


def split_of(name: str) -> str:
    """Give the split that a shard's name tells, or nothing.

    It is the name of a folder, or the first word of the file name, or the last before its number:
    `val/0000.tar`, `train-0000.tar`, `pets-train-0000.tar`.
    """
    *folders, last = name.split("/")
    words = [word for word in _WORDS.split(last.rpartition(".")[0]) if word]
    for word in (*folders, *words[:1], *words[-1:]):
        if word.lower() in SPLIT_NAMES:
            return SPLIT_NAMES[word.lower()]
    return ""


def _without_query(source: str) -> tuple[str, str]:
    """Give a path, absolute if it is local, and what stands behind the `?` of a web address."""
    if is_http(source):
        path, mark, query = source.partition("?")
        return path, mark + query
    if is_remote(source) and not source.startswith(("file://", "local://")):
        return source, ""
    return os.path.abspath(os.path.expanduser(source.rpartition("://")[2])), ""


def _base(pattern: str) -> str:
    """Give the folder that surely holds all that a pattern names."""
    magic = _MAGIC.search(pattern)
    return pattern[: magic.start() if magic else len(pattern)].rpartition("/")[0]


def _stat(path: str) -> Found | None:
    try:
        about = os.stat(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(about.st_mode):
        raise DataError(f"{path}: is no regular file, but a shard must be one")
    return Found(about.st_size, str(about.st_mtime_ns))


def _find_remote(path: str, query: str) -> Shards:
    magic = _MAGIC.search(path)
    if magic and magic.start() < path.index("://") + 3:
        raise DataError(f"{path}: the protocol must be written out")
    found: dict[str, Found | None] = {}
    exact, base = [], _base(path)
    if path.lower().endswith(ENDINGS):
        for each in expand_braces(path):
            if not _MAGIC.search(each):
                exact.append(each)
            elif is_http(each):
                raise DataError(
                    f"{path}: the web has no list of files; name them as in "
                    "shards/{0000..0099}.tar"
                )
            else:
                found |= {f"{base}/{name}": about for name, about in search(each, base).items()}
    else:
        base = path.rstrip("/")
        exact = [f"{base}/{name}" for name in _shards_of(base)]
    with ThreadPoolExecutor(16) as pool:
        answers = pool.map(lambda each: find(f"{each}{query}"), exact)
        found |= dict(zip(exact, answers, strict=True))
    return _shards(path, base, found, query)


def _shards(where: str, base: str, found: dict[str, Found | None], query: str) -> Shards:
    """Put what was found in order. Raises DataError where something is missing."""
    missing = [path for path, about in found.items() if about is None]
    if missing:
        more = f" ({len(missing)} of {len(found)} shards are missing)" if len(found) > 1 else ""
        raise DataError(f"{where}: no such file: {missing[0]}{more}")
    if not 0 < len(found) <= SHARDS:
        raise DataError(f"{where}: names {len(found)} shards; allowed are 1 to {SHARDS}")
    names = {path[len(base) + 1 :]: about for path, about in found.items() if about is not None}
    order = tuple(natural_order(names))
    return Shards(where, base, order, tuple(names[name] for name in order), query)


def _holds(url: str) -> bool:
    """Whether an address is a folder of shards, or cannot be asked: opening it tells why."""
    try:
        return bool(_shards_of(url))
    except DataError:
        return True


def _shards_of(folder: str) -> list[str]:
    """Name the shards of a folder: `.tar` files without images or other folders beside them.

    Folders named after splits may hold them instead.
    """
    folder = folder.rstrip("/")
    files, folders = _entries(folder)
    shards = [name for name in files if name.lower().endswith(".tar")]
    if not folders:
        return [] if any(map(is_image_name, files)) else shards
    if shards or any(name.lower() not in SPLIT_NAMES for name in folders):
        return []
    inside = {name: _entries(f"{folder}/{name}") for name in folders}
    if any(below or any(map(is_image_name, names)) for names, below in inside.values()):
        return []
    return [
        f"{name}/{file}"
        for name, (names, _) in inside.items()
        for file in names
        if file.lower().endswith(".tar")
    ]


def _entries(folder: str) -> tuple[list[str], list[str]]:
    """Name the files and the folders in a folder; hidden ones are left out."""
    if is_remote(folder):
        found = [(name, about.size < 0) for name, about in list_folder(folder).items()]
    else:
        try:
            with os.scandir(folder) as entries:
                found = [(each.name, is_folder(each)) for each in entries]
        except OSError as error:
            raise DataError(f"{folder}: {error.strerror or error}") from None
    seen = [(name, is_folder) for name, is_folder in found if not name.startswith(".")]
    files = [name for name, is_folder in seen if not is_folder]
    return files, [name for name, is_folder in seen if is_folder]
