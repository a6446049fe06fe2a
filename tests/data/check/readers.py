"""Data sets in memory, and readers that do harm to the process that runs them."""

import ctypes
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vitrail.data.check.pool import examine_all
from vitrail.data.check.survey import Survey
from vitrail.data.check.worker import Limits
from vitrail.data.dataset import Data, Labels, LabelSets, Split
from vitrail.errors import ImageError


class Files:
    """Gives the bytes that it was made with."""

    def __init__(self, files: Sequence[bytes]) -> None:
        self.files = list(files)

    def __call__(self, i: int) -> bytes:
        return self.files[i]


class Harm:
    """Gives a file, or does what the file says to the process."""

    def __init__(self, files: Sequence[bytes], folder: Path) -> None:
        self.files = list(files)
        self.folder = folder

    def __call__(self, i: int) -> bytes:
        what = self.files[i].decode("ascii", "replace")
        if what in HARM:
            HARM[what]()
        elif what.startswith("once "):
            mark = self.folder / f"tried-{i}"
            if not mark.exists():
                mark.touch()
                HARM[what.removeprefix("once ")]()
            return self.files[0]
        return self.files[i]


def burn() -> None:
    while True:
        pass


def grow() -> None:
    bytes(4 << 30)


def fail() -> None:
    raise KeyError("a bug")


def miss() -> None:
    raise ImageError("gone.jpg: No such file or directory")


HARM: dict[str, Callable[[], object]] = {
    "burn": burn,
    "grow": grow,
    "bug": fail,
    "gone": miss,
    "crash": lambda: ctypes.string_at(0),
    "exit": lambda: os._exit(3),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
}


def split_of(files: Sequence[bytes], labels: Sequence[int], prefix: str = "") -> Split:
    keys = tuple(f"{prefix}{i}.jpg" for i in range(len(files)))
    return Split(keys, np.array(labels, np.int64), Files(files))


def data_of(classes: Sequence[str] = ("a", "b"), **splits: Sequence[tuple[bytes, int]]) -> Data:
    """Make a data set of (file, label) pairs by split; keys are `split/number.jpg`."""
    return Data(
        "made",
        tuple(classes),
        {
            name: split_of([file for file, _ in pairs], [label for _, label in pairs], f"{name}/")
            for name, pairs in splits.items()
        },
    )


def multi_data(classes: Sequence[str], files: Sequence[bytes], sets: Sequence[set[int]]) -> Data:
    labels: Labels = LabelSets.of(sets, len(classes))
    keys = tuple(f"{i}.jpg" for i in range(len(files)))
    return Data("made", tuple(classes), {"all": Split(keys, labels, Files(files))})


def surveyed(data: Data) -> Survey:
    """Examine every image in processes of their own."""
    survey = Survey(data)
    for part, i, answer in examine_all(survey.splits, workers=2, limits=Limits()):
        survey.add(part, i, answer)
    return survey
