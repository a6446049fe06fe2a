"""Every image of a split once, in order, with the workers: decoded or hashed."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from vitrail.data.listing import MANY
from vitrail.data.loading.images import FileImages
from vitrail.data.loading.serving import Work
from vitrail.data.loading.workers import run_tasks
from vitrail.errors import ImageError


def decode_all(images: FileImages, workers: int) -> Iterator[NDArray[Any] | str]:
    """Decode every image as it is kept; the reason instead of one that cannot be used."""
    return _run_all(Decoder(images), images, workers, "decode")


def hash_all(images: FileImages, workers: int) -> Iterator[bytes]:
    """Give the sha256 of every image file."""
    return _run_all(Hashes(images), images, workers, "read")


def note(message: str) -> None:
    """Say something to the user, beside the results."""
    Console(stderr=True).print(message, markup=False, highlight=False)


def _run_all(work: Work, images: FileImages, workers: int, what: str) -> Iterator[Any]:
    """Do something with every image of a split, in order; shows progress where there are many."""
    n = len(images.split)
    chunk = 64 if images.detail is None else 4  # whole images may be large
    results = run_tasks(
        work,
        (np.arange(k, min(k + chunk, n)) for k in range(0, n, chunk)),
        workers=workers,
        longest=chunk,
        room=0,
        names=images.split.keys,
        tell=note,
    )
    console = Console(stderr=True)
    quiet = n < MANY or not console.is_terminal
    total = -(-n // chunk)
    for _, _, answers in track(
        results, what, total=total, console=console, transient=True, disable=quiet
    ):
        yield from answers


class Decoder:
    """Decodes images as they are kept: fitted, or whole where there are random crops."""

    def __init__(self, images: FileImages) -> None:
        """Of these images."""
        self.images = images

    def __call__(
        self, task: NDArray[np.int64], room: NDArray[np.uint8] | None, seen: NDArray[np.int64]
    ) -> list[NDArray[Any] | str]:
        """Decode the images of a task: [c, h, w] if fitted, [h, w, c] if whole."""
        answers: list[NDArray[Any] | str] = []
        for i in task.tolist():
            seen[1] = i
            try:
                if self.images.detail is None:
                    answers.append(self.images.load(i, None).numpy())
                else:
                    answers.append(self.images.decode(i).permute(1, 2, 0).contiguous().numpy())
            except ImageError as error:
                answers.append(str(error))
            seen[0] += 1
        return answers


class Hashes:
    """Hashes the bytes of image files; one that cannot be read counts as empty."""

    def __init__(self, images: FileImages) -> None:
        """Of these images."""
        self.read = images.split.read

    def __call__(
        self, task: NDArray[np.int64], room: NDArray[np.uint8] | None, seen: NDArray[np.int64]
    ) -> list[bytes]:
        """Hash the files of a task."""
        answers = []
        for i in task.tolist():
            seen[1] = i
            try:
                data = self.read(i)
            except ImageError:
                data = b""
            answers.append(hashlib.sha256(data).digest())
            seen[0] += 1
        return answers
