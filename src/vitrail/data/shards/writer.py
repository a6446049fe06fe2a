"""Writes one tar shard: equal samples give equal bytes."""

import json
import os
import secrets
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from vitrail.data.packing.plan import Sample
from vitrail.data.shards.members import BLOCK
from vitrail.files import sync_folder, writing


def write_shard(
    path: Path, samples: Iterable[Sample], classes: tuple[str, ...], several: bool, mark: str
) -> None:
    """Write samples as `NAME.jpg` and `NAME.cls`, or `NAME.json` for what a number cannot say.

    Args:
        path: appears only when the shard is whole and on the disk.
        classes: not used; the numbers stand for the lines of classes.txt.
        several: whether labels are sets.
        mark: stands in the global header.
    Raises:
        StorageError: it cannot be written.
    """
    with appearing(path) as file:
        file.write(tarfile.TarInfo.create_pax_global_header({"comment": mark}))
        for sample in samples:
            _add(file, f"{sample.name}{sample.suffix}", sample.data)
            if not several:
                _add(file, f"{sample.name}.cls", str(sample.labels[0]).encode())
            about: dict[str, object] = {"label": sample.labels} if several else {}
            if sample.weight is not None:
                about["weight"] = sample.weight
            if about:
                text = json.dumps({"key": sample.key} | about)
                _add(file, f"{sample.name}.json", text.encode())
        file.write(bytes(2 * BLOCK))


@contextmanager
def appearing(path: Path) -> Iterator[BinaryIO]:
    """Write a file under a temporary name; it gets its own when the block ends well.

    Raises:
        StorageError: it cannot be written; nothing is left behind.
    """
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with writing(path):
        try:
            with open(scratch, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, path)
        finally:
            scratch.unlink(missing_ok=True)
        sync_folder(path.parent)


def _add(file: BinaryIO, name: str, data: bytes) -> None:
    """Write one member: no times, no owners."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    file.write(member.tobuf(tarfile.USTAR_FORMAT))
    file.write(data)
    file.write(bytes(-len(data) % BLOCK))
