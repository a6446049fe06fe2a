"""One checkpoint that many ranks write into one folder; what lies in the folder is all they say.

Each rank writes its share and then, whole or not at all, a list of it: rank-00001.json. Rank 0
waits for the lists of all, and joins them to the manifest; the others wait until the folder has got
its name. Nothing goes over the network, so that threads which save never meet the training's own
collectives. A rank that fails leaves the reason in its list.
"""

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from vitrail.checkpoints.reading import Manifest, read_manifest
from vitrail.errors import RunError, StorageError
from vitrail.files import Seal, write_synced

_PAUSE = 0.05  # seconds between two looks


def part_name(file: str, rank: int, ranks: int) -> str:
    """Name the file of one rank's share."""
    return f"{file}-{rank + 1:05d}-of-{ranks:05d}.safetensors"


def report(scratch: Path, rank: int, files: Manifest) -> None:
    """Tell rank 0 that a share is written."""
    _write_list(scratch, rank, {"files": {name: seal._asdict() for name, seal in files.items()}})


def report_failure(scratch: Path, rank: int, ranks: int, error: BaseException) -> None:
    """Tell the other ranks why there will be no share, if the disk still takes that much."""
    with suppress(OSError):
        for path in scratch.glob(part_name("*", rank, ranks)):  # room for the list on a full disk
            path.unlink()
    with suppress(OSError):
        _write_list(scratch, rank, {"error": str(error) or repr(error)})


def collect(scratch: Path, ranks: int, timeout: float) -> Manifest:
    """Wait for the shares of all other ranks; give what they wrote.

    Raises:
        StorageError: a rank failed, or was not heard of for `timeout` seconds.
    """
    files: Manifest = {}
    missing = set(range(1, ranks))

    def look() -> bool:
        there = set(os.listdir(scratch))  # asks a network disk again, other than exists()
        for rank in sorted(missing):
            if _list_name(rank) in there:
                files.update(_read_list(scratch, rank))
                missing.remove(rank)
        return not missing

    if not _wait(look, timeout):
        names = ", ".join(map(str, sorted(missing)))
        raise StorageError(
            f"{scratch}: no part came from rank {names} of {ranks} within {timeout:g} s; "
            f"see what holds it up, and whether it writes to the same disk"
        )
    for name, seal in files.items():
        if (scratch / name).stat().st_size != seal.bytes:
            raise StorageError(f"{scratch / name}: not of the size that its rank wrote")
    for rank in range(1, ranks):
        (scratch / _list_name(rank)).unlink()
    return files


def undivide(scratch: Path, files: Manifest, ranks: int) -> Manifest:
    """Give a file that one rank alone wrote the plain name."""
    named: Manifest = {}
    shares = {name: name[: -len(part_name("", 0, ranks))] for name in files}
    for name, seal in files.items():
        alone = list(shares.values()).count(shares[name]) == 1
        plain = f"{shares[name]}.safetensors" if alone else name
        if plain != name:
            os.replace(scratch / name, scratch / plain)
        named[plain] = seal
    return named


def await_published(scratch: Path, folder: Path, own: Manifest, timeout: float) -> None:
    """Wait until rank 0 has made the scratch folder a checkpoint with the own share in it.

    Raises:
        StorageError: rank 0 failed, or did not finish within `timeout` seconds.
    """

    def look() -> bool:
        require_leader(scratch)
        return scratch.name not in os.listdir(folder.parent)

    if not _wait(look, timeout):
        raise StorageError(
            f"{folder}: rank 0 did not finish within {timeout:g} s; see what holds it up, "
            f"and whether it writes to the same disk"
        )
    published: Manifest = {}
    with suppress(RunError):
        published = read_manifest(folder)
    if not published or not set(own.values()) <= set(published.values()):
        raise StorageError(f"{folder}: rank 0 gave this checkpoint up; see what it says")


def require_leader(scratch: Path) -> None:
    """Refuse to go on where rank 0 failed. Raises StorageError."""
    with suppress(FileNotFoundError, NotADirectoryError):
        _read_list(scratch, 0)


def _wait(look: Callable[[], bool], timeout: float) -> bool:
    """Look again and again until there is what was waited for; False after `timeout` seconds."""
    end = time.monotonic() + timeout
    while not look():
        if time.monotonic() > end:
            return False
        time.sleep(_PAUSE)
    return True


def _list_name(rank: int) -> str:
    return f"rank-{rank:05d}.json"


def _write_list(scratch: Path, rank: int, value: dict[str, object]) -> None:
    path = scratch / _list_name(rank)
    write_synced(path.with_suffix(".part"), json.dumps(value).encode())
    os.replace(path.with_suffix(".part"), path)


def _read_list(scratch: Path, rank: int) -> Manifest:
    """Read the list of a rank. Raises StorageError if it failed."""
    path = scratch / _list_name(rank)
    value = json.loads(path.read_bytes())
    if "error" in value:
        raise StorageError(f"rank {rank} could not write its part: {value['error']}")
    return {name: Seal(**seal) for name, seal in value["files"].items()}
