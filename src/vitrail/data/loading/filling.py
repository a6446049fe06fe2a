"""How decoded images come into memory or into a file on the disk."""

import hashlib
import math
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL
import torch

from vitrail.data.loading.decoded import Decoded, map_decoded, write_decoded
from vitrail.data.loading.decoding import Decoder, decode_all, hash_all, note
from vitrail.data.loading.images import FileImages, pixel_type
from vitrail.errors import ConfigError, DataError, ImageError, StorageError
from vitrail.files import sync_folder, writing
from vitrail.memory import free_memory

TRIES = 32  # images that are decoded to see whether any can be, or how large they are


def require_readable(images: FileImages) -> None:
    """Decode a few images spread over the split before hours are spent on it.

    Raises:
        DataError: not one of them can be read.
    """
    reason, places = "", _spread(images)
    for i in places:
        try:
            images.load(i, None)
            return
        except ImageError as error:
            reason = reason or str(error)
    raise DataError(f"no readable image among {len(places)} tried; the first: {reason}")


def estimate_bytes(images: FileImages) -> int:
    """Tell how large all decoded images are; whole ones are estimated from a few."""
    preprocess = images.preprocess
    if images.detail is None:
        one = preprocess.channels * math.prod(preprocess.size) * pixel_type(preprocess).itemsize
        return one * len(images.split)
    few = Decoder(images)(np.array(_spread(images)), None, np.zeros(2, np.int64))
    sizes = [each.nbytes for each in few if not isinstance(each, str)]
    return int(np.mean(sizes) * len(images.split)) if sizes else 0


def require_memory(needed: int) -> None:
    """Raise ConfigError if so many bytes are not free."""
    free = free_memory(torch.device("cpu"))
    if free is not None and needed > free:
        raise ConfigError(
            f"cache=ram: the decoded images need about {_gigabytes(needed)}, "
            f"{_gigabytes(free)} are free; use cache=disk or cache=none"
        )


def fill_memory(images: FileImages, workers: int) -> Decoded:
    """Decode all images into memory that worker processes share."""
    with _memory_file() as file:
        write_decoded(file, decode_all(images, workers))
        decoded = map_decoded(file, len(images.split))
    assert decoded is not None  # it was written just now
    return decoded


def fill_disk(images: FileImages, workers: int, folder: Path) -> Decoded:
    """Find the decoded images in a folder, or decode them all into it.

    The file is named by the content of all image files, their names, the preprocessing and the
    versions of the libraries that decode. It appears whole or not at all; of several runs that want
    it at the same time one writes it and the others wait.

    Raises:
        StorageError: there is too little space, or it cannot be written.
    """
    path = folder / f"{_name(images, workers)}.pixels"
    with writing(folder):
        found = _open(path, len(images.split))
        if found is not None:
            return found
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_suffix(".lock")):
            found = _open(path, len(images.split))
            if found is None:
                _require_space(folder, estimate_bytes(images))
                _write(path, images, workers)
                found = _open(path, len(images.split))
    if found is None:
        raise StorageError(f"{path}: the disk does not give back what was written; check it")
    return found


def _write(path: Path, images: FileImages, workers: int) -> None:
    for left in path.parent.glob(f".{path.name}.*.tmp"):  # by a run that was killed
        left.unlink()
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(scratch, "w+b") as file:
            write_decoded(file, decode_all(images, workers))
            _require_steady(file, path, images, workers)
            os.fsync(file.fileno())
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    sync_folder(path.parent)


def _require_steady(file: BinaryIO, path: Path, images: FileImages, workers: int) -> None:
    """Refuse to keep what was decoded while the images changed, or a disk failed for a moment.

    Raises:
        StorageError: the files are not what they were, or an image that failed can be read now.
    """
    decoded = map_decoded(file, len(images.split))
    assert decoded is not None  # it was written just now
    for i in decoded.failures:
        try:
            images.load(i, None)
        except ImageError:
            continue
        raise StorageError(
            f"{images.split.keys[i]}: could not be read, and a moment later it could; "
            "check the disk and start again"
        )
    if f"{_name(images, workers)}.pixels" != path.name:
        raise StorageError(f"{path}: the images changed while they were decoded; start again")


def _open(path: Path, n: int) -> Decoded | None:
    try:
        with open(path, "rb") as file:
            return map_decoded(file, n)
    except (FileNotFoundError, NotADirectoryError):
        return None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock among processes; the kernel lets go of it when this one ends."""
    import fcntl  # not on every system; only the disk cache needs it

    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note(f"waiting for another run that decodes the same images into {path.parent}")
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:  # worker processes may still hold the file open
            fcntl.flock(file, fcntl.LOCK_UN)


def _name(images: FileImages, workers: int) -> str:
    """Hash all that the pixels depend on."""
    versions = f"1 {PIL.__version__} {torch.__version__}"
    digest = hashlib.sha256(f"{versions} {images.preprocess.hash} {images.detail}".encode())
    for key, content in zip(images.split.keys, hash_all(images, workers), strict=True):
        name = key.encode("utf-8", "surrogateescape")
        digest.update(len(name).to_bytes(8, "little") + name + content)
    return digest.hexdigest()[:32]


def _spread(images: FileImages) -> list[int]:
    n = len(images.split)
    places: list[int] = np.linspace(0, n - 1, min(TRIES, n)).astype(int).tolist()
    return places


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StorageError(
            f"{folder}: the decoded images need about {_gigabytes(needed)}, "
            f"{_gigabytes(free)} are free; free some, name another folder, or use cache=none"
        )


def _memory_file() -> BinaryIO:
    """Open a file without a name, in memory where the system can."""
    if hasattr(os, "memfd_create"):  # unlike /dev/shm it has no limit of its own
        return os.fdopen(os.memfd_create("vitrail-decoded"), "w+b")
    return tempfile.TemporaryFile()


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
