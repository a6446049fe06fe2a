"""Small tar shards for the tests."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

PNG = b"\x89PNG\r\n\x1a\n"


def image(text: str) -> bytes:
    """The start of a PNG file, and a text to know it by; nothing here decodes it."""
    return PNG + text.encode()


def tar_bytes(members: Mapping[str, bytes | str]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            content = image(data) if isinstance(data, str) else data
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return target.getvalue()


def write_tar(path: Path, members: Mapping[str, bytes | str]) -> Path:
    """Write members; a text stands for an image that holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_bytes(members))
    return path


def numbered(first: int, count: int, classes: int = 2) -> dict[str, bytes | str]:
    """Images named by their number, with their class in a .cls file."""
    members: dict[str, bytes | str] = {}
    for i in range(first, first + count):
        members[f"{i:04d}.png"] = f"image {i}"
        members[f"{i:04d}.cls"] = str(i % classes).encode()
    return members


def write_set(root: Path, shards: int = 3, each: int = 5) -> Path:
    """Write train and val shards with two classes."""
    for k in range(shards):
        write_tar(root / f"train-{k:04d}.tar", numbered(k * each, each))
    write_tar(root / "val-0000.tar", numbered(1000, each))
    return root
