"""Whether a run has a place for its checkpoints, asked before the first step."""

import shutil
from pathlib import Path

from vitrail.checkpoints.folders import list_folders
from vitrail.errors import StorageError
from vitrail.files import write_atomic, writing

_PROBE = "probe.tmp"  # removed like every scratch file, should the process be killed here


def require_space(run: Path, size: int, keep: int) -> None:
    """Prove that a run can write, and that its disk has room for the checkpoints.

    Room is needed for those that are kept, the best, and the one that is being written.

    Args:
        run: the run folder.
        size: bytes of one checkpoint.
        keep: how many of the newest are kept.
    Raises:
        StorageError: it cannot be written there, or there is too little room.
    """
    root = run / "checkpoints"
    write_atomic(root / _PROBE, bytes(4096))
    with writing(root):
        (root / _PROBE).unlink()
        free = shutil.disk_usage(root).free
        count = max(1, keep + 2 - len(list_folders(root)))
    if free < count * size:
        raise StorageError(
            f"{root}: {_megabytes(free)} are free, and checkpoints need {_megabytes(count * size)} "
            f"({count} times {_megabytes(size)}); free some, write elsewhere, or keep fewer "
            f"(keep_checkpoints={keep})"
        )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
