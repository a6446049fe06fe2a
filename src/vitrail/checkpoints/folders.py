"""The folders of checkpoints: how they are named, replaced and removed.

checkpoints/step-00001200/       a checkpoint: under this name it is whole
            step-00001200.old/   the one that a new one of the same step is just replacing
            *.tmp/               being written, or removed; or left by a process that was killed

A name is changed in one go, so that a crash at any moment leaves a checkpoint as it was, or its
successor.
"""

import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from vitrail.files import sync_folder

_NAME = re.compile(r"step-(\d{8,})(\.old)?")


def step_folder(root: Path, step: int) -> Path:
    """Name the folder of a step."""
    return root / f"step-{step:08d}"


def list_folders(root: Path) -> list[Path]:
    """List the checkpoint folders, newest first. Raises OSError."""
    found = [match for match in map(_NAME.fullmatch, _names(root)) if match]
    found.sort(key=lambda match: (int(match[1]), match[2] is None), reverse=True)
    return [root / match[0] for match in found]


def publish(scratch: Path, folder: Path) -> None:
    """Give a finished folder its name; at every moment either it or what it replaces is there."""
    sync_folder(scratch)
    old = folder.with_name(f"{folder.name}.old")
    if folder.exists():
        discard([old])
        os.replace(folder, old)
    os.replace(scratch, folder)
    sync_folder(folder.parent)
    discard([old])


def discard(folders: Iterable[Path]) -> None:
    """Remove folders, as far as the disk lets; none is ever seen half under its own name."""
    for folder in filter(Path.exists, folders):
        gone = folder.with_name(f"{folder.name}.gone.tmp")
        shutil.rmtree(gone, ignore_errors=True)
        with suppress(OSError):
            os.replace(folder, gone)
        shutil.rmtree(gone, ignore_errors=True)


def clean_up(root: Path, spare: str = "") -> None:
    """Remove what killed saves left, as far as the disk lets.

    Args:
        spare: a part of the names of those that are not orphans.
    Raises:
        OSError: the folder cannot be read.
    """
    for name in _names(root):
        if name.endswith(".tmp") and not (spare and spare in name):
            shutil.rmtree(root / name, ignore_errors=True)
        elif name.endswith(".old") and _NAME.fullmatch(name):
            folder = root / name.removesuffix(".old")
            if folder.exists():
                discard([root / name])
            else:
                with suppress(OSError):
                    os.replace(root / name, folder)


def _names(root: Path) -> list[str]:
    """List what lies in a folder that may not be there yet."""
    try:
        return os.listdir(root)
    except FileNotFoundError:
        return []
