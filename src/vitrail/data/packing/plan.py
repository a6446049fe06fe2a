"""What a pack will hold, sample by sample: a pure function of the source's content and the seed.

All of the source is read once before anything is written. So the sizes are known that make the
parts even, what is written can be compared with what was planned, and a rerun knows whether it goes
on with the same pack.
"""

import hashlib
import itertools
import json
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import PurePath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from vitrail.data.dataset import Data, LabelSets, Split
from vitrail.data.formats.recognise import RefusedError, recognise
from vitrail.data.keyed import permutation
from vitrail.data.naming import IMAGE_SUFFIXES, natural_order
from vitrail.data.processes import in_turn, worker_pool
from vitrail.data.shards.members import BLOCK
from vitrail.data.shards.table import IMAGE_LIMIT
from vitrail.errors import DataError

CHUNK = 256  # samples of one job
SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tif"}
SUFFIXES |= {"NPY": ".npy", "WEBP": ".webp"}

_held: dict[str, Data] = {}  # what the jobs of this process read; a job itself is then small


class Sample(NamedTuple):
    """One sample on its way into a part."""

    key: str  # in the source
    name: str  # of its file without the suffix; unique in its split
    suffix: str  # ".jpg"
    data: bytes  # of the image file, unchanged
    labels: tuple[int, ...]
    weight: float | None


class Survey(NamedTuple):
    """What reading all samples of a split told."""

    sizes: NDArray[np.int64]  # bytes
    sha256: NDArray[np.uint8]  # n x 32
    suffixes: tuple[str, ...]


class Part(NamedTuple):
    """One file of the pack."""

    name: str  # without a suffix
    split: str
    first: int  # of its samples, counted through the shuffled split
    places: NDArray[np.int64]  # its samples in the split, shuffled
    mark: str  # sha256 of all that it will hold


class Plan(NamedTuple):
    """Everything that is written, in the order in which it is read again."""

    parts: tuple[Part, ...]
    surveys: dict[str, Survey]
    digest: str  # of everything; equal plans give equal files
    seed: int

    @property
    def images(self) -> int:
        """Count the samples."""
        return sum(len(part.places) for part in self.parts)

    @property
    def bytes(self) -> int:
        """Count the bytes of all images."""
        return int(sum(survey.sizes.sum() for survey in self.surveys.values()))


def reading_pool(data: Data, workers: int) -> Executor:
    """Start workers that can read this data; one worker is a thread of this process."""
    if workers == 1:
        return ThreadPoolExecutor(1, initializer=hold, initargs=(data,))
    return worker_pool(workers, hold, (data,))


def hold(data: Data) -> None:
    """Keep the data that the jobs of this process will read."""
    _held["data"] = data


def held() -> Data:
    """Give the data that was kept."""
    return _held["data"]


def make_plan(data: Data, pool: Executor, *, part_bytes: int, seed: int) -> Plan:
    """Read everything once and share it out over parts of about `part_bytes`.

    Raises:
        DataError: an image cannot be read, or is no image.
    """
    surveys = {name: _survey_split(pool, name, len(split)) for name, split in data.splits.items()}
    parts = [
        part
        for name in natural_order(data.splits)
        for part in _share_out(name, data.splits[name], surveys[name], part_bytes, seed)
    ]
    several = data.multi_label
    about = json.dumps([1, data.classes, several, [(part.name, part.mark) for part in parts]])
    return Plan(tuple(parts), surveys, hashlib.sha256(about.encode()).hexdigest(), seed)


def samples_of(data: Data, part: Part, survey: Survey) -> Iterator[Sample]:
    """Read the samples of a part; `survey` is of these samples, in their order.

    Raises:
        DataError: one changed since the plan was made.
    """
    split = data.splits[part.split]
    for k, i in enumerate(part.places.tolist()):
        key, image = split.keys[i], split.read(i)
        if hashlib.sha256(image).digest() != survey.sha256[k].tobytes():
            raise DataError(f"{key}: changed while it was packed; run again")
        name, suffix = f"{part.first + k:08d}", survey.suffixes[k]
        weight = None if split.weights is None else float(split.weights[i])
        yield Sample(key, name, suffix, image, labels_of(split, i), weight)


def labels_of(split: Split, i: int) -> tuple[int, ...]:
    """Give the label or labels of sample i."""
    if isinstance(split.labels, LabelSets):
        return tuple(split.labels[i].tolist())
    return (int(split.labels[i]),)


def progress(jobs: int) -> tuple[Console, bool]:
    """Give the console for progress, and whether to keep quiet."""
    console = Console(stderr=True)
    return console, jobs < 2 or not console.is_terminal


def _survey_split(pool: Executor, name: str, n: int) -> Survey:
    jobs = [(name, first, min(first + CHUNK, n)) for first in range(0, n, CHUNK)]
    console, quiet = progress(len(jobs))
    results = in_turn(pool, _survey, jobs)
    done = list(
        track(results, f"read {name}", len(jobs), console=console, transient=True, disable=quiet)
    )
    return Survey(
        np.concatenate([np.empty(0, np.int64), *(each.sizes for each in done)]),
        np.concatenate([np.empty((0, 32), np.uint8), *(each.sha256 for each in done)]),
        tuple(suffix for each in done for suffix in each.suffixes),
    )


def _survey(job: tuple[str, int, int]) -> Survey:
    """Read some samples; runs in the workers."""
    name, first, last = job
    split = held().splits[name]
    sizes, digests, suffixes = [], [], []
    for i in range(first, last):
        data = split.read(i)
        if len(data) > IMAGE_LIMIT:
            raise DataError(f"{split.keys[i]}: has {len(data)} bytes; at most {IMAGE_LIMIT} fit")
        sizes.append(len(data))
        digests.append(hashlib.sha256(data).digest())
        suffixes.append(_suffix(split.keys[i], data))
    digest = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)
    return Survey(np.array(sizes, np.int64), digest, tuple(suffixes))


def _suffix(key: str, data: bytes) -> str:
    """Give the ending of the file: its own, or that of what it holds."""
    own = PurePath(key).suffix.lower()
    if own in IMAGE_SUFFIXES:
        return own
    try:
        return SUFFIXES[recognise(data)]
    except RefusedError as error:
        raise DataError(f"{key}: {error}") from None


def _share_out(
    name: str, split: Split, survey: Survey, part_bytes: int, seed: int
) -> Iterator[Part]:
    """Cut a shuffled split into parts of nearly equal size."""
    order = permutation(seed, 0, len(split))
    sizes = survey.sizes[order] // BLOCK * BLOCK + 4 * BLOCK  # with headers and a label
    total = int(sizes.sum())
    count = -(-total // part_bytes)
    middles = 2 * np.cumsum(sizes) - sizes
    number = middles * count // max(2 * total, 1)
    cuts = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(order)]
    for k, (first, last) in enumerate(itertools.pairwise(cuts)):
        places = order[first:last]
        if len(places):
            yield Part(f"{name}-{k:06d}", name, first, places, _mark(split, survey, places))


def _mark(split: Split, survey: Survey, places: NDArray[np.int64]) -> str:
    """Hash all that a part will hold."""
    digest = hashlib.sha256()
    for i in places.tolist():
        weight = None if split.weights is None else float(split.weights[i])
        about = json.dumps([split.keys[i], survey.suffixes[i], labels_of(split, i), weight])
        digest.update(about.encode() + survey.sha256[i].tobytes())
    return digest.hexdigest()
