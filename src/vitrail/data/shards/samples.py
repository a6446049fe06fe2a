"""From the members of one shard to its samples, by WebDataset's convention.

Members that share the path up to the first dot of the file name are one sample: the image, and
its label as `.cls` (a number, or a name), as `.json` (`{"label": …}`), or else the folder that the
image lies in.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from vitrail.data.dataset import Names
from vitrail.data.naming import is_image_name
from vitrail.data.remote import Found, is_remote, read_range
from vitrail.data.shards.labels import Labelled, parse_cls, parse_json
from vitrail.data.shards.members import FILE, FOLDER, MARK, Member, Read, walk
from vitrail.data.shards.table import IMAGE_LIMIT, Entry, ShardIndex, Table, Word
from vitrail.errors import DataError

LABEL_LIMIT = 1 << 20  # bytes of a .cls or .json member
AHEAD_LOCAL = 4096  # bytes read at once: a label, and the headers around it
AHEAD_REMOTE = 4 << 20


class Job(NamedTuple):
    """One shard to index."""

    path: str  # or address
    name: str  # in the keys
    found: Found


class _Sample:
    """The members of one sample, as far as they were met."""

    __slots__ = ("described", "image", "labels", "weight")

    def __init__(self) -> None:
        self.image: Member | None = None
        self.labels: Labelled | None = None  # of .cls
        self.described: Labelled | None = None  # of .json
        self.weight = math.nan


def index_shard(job: Job) -> ShardIndex:
    """Read the headers and labels of one shard.

    Raises:
        DataError: it is damaged, or a sample has no label or two images.
    """
    samples: dict[str, _Sample] = {}
    left_out: dict[str, list[Any]] = {}  # why, how many, the first
    mark = ""
    with opened(job.path, job.found.size) as read:
        for member in walk(read, job.found.size, job.path):
            if member.kind == MARK:
                mark = member.name
            elif why := _unusable(member):
                left_out.setdefault(why, [0, member.name])[0] += 1
            elif member.kind == FILE:
                _take(samples, member, read, job.path)
    whole = [sample for sample in samples.values() if sample.image is not None]
    if len(whole) < len(samples):
        first = next(key for key, sample in samples.items() if sample.image is None)
        left_out["no image beside the label"] = [len(samples) - len(whole), first]
    several, table = _tabulate(job, whole)
    reasons = tuple((why, count, first) for why, (count, first) in left_out.items())
    size, stamp = job.found
    entry = Entry(job.name, size, stamp, mark, len(whole), several, False, reasons)
    return ShardIndex((entry,), table)


@contextmanager
def opened(path: str, size: int) -> Iterator[Read]:
    """Open a local file or an address to be read here and there, mostly forward.

    Raises:
        DataError: it cannot be opened.
    """
    if is_remote(path):
        yield _Window(lambda start, count: read_range(path, start, count), size, AHEAD_REMOTE)
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    try:
        yield _Window(lambda start, count: os.pread(descriptor, count, start), size, AHEAD_LOCAL)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    finally:
        os.close(descriptor)


class _Window:
    """Reads ahead, so that what lies side by side costs one read."""

    def __init__(self, fetch: Callable[[int, int], bytes], size: int, ahead: int) -> None:
        self.fetch, self.size, self.ahead = fetch, size, ahead
        self.first, self.data = 0, b""

    def __call__(self, start: int, count: int) -> bytes:
        """Give `count` bytes from `start`; fewer where the file ends."""
        count = min(count, self.size - start)
        if count <= 0:
            return b""
        if not self.first <= start <= start + count <= self.first + len(self.data):
            most = min(max(count, self.ahead), self.size - start)
            self.first, self.data = start, self.fetch(start, most)
        return self.data[start - self.first : start - self.first + count]


def _unusable(member: Member) -> str:
    """Say why a member cannot be used, if it is not simply of another kind."""
    name = member.name
    if member.kind == FOLDER:
        return ""
    if member.kind != FILE:
        return member.kind
    if name.startswith(("/", "\\")) or name[1:2] == ":" or "\0" in name:
        return "a name that leads elsewhere"
    if ".." in name.replace("\\", "/").split("/"):
        return "a name that leads elsewhere"
    return f"more than {IMAGE_LIMIT >> 20} MiB" if member.size > IMAGE_LIMIT else ""


def _take(samples: dict[str, _Sample], member: Member, read: Read, where: str) -> None:
    """Add a member to its sample; what is hidden, or neither image nor label, is nothing."""
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    if not parts or any(part.startswith(".") for part in parts):
        return
    stem, _, ending = parts[-1].partition(".")
    is_image = is_image_name(parts[-1])
    if not is_image and ending.lower() not in ("cls", "json"):
        return
    sample = samples.setdefault("/".join((*parts[:-1], stem)), _Sample())
    place = f"{where}: {member.name!r}"
    if is_image:
        if sample.image is not None:
            raise DataError(
                f"{place} is a second image of the sample that {sample.image.name!r} belongs to; "
                "names must differ before their first dot"
            )
        sample.image = member
        return
    if member.size > LABEL_LIMIT:
        raise DataError(f"{place} has {member.size} bytes; a label has at most {LABEL_LIMIT}")
    data = read(member.start, member.size)
    if ending.lower() == "cls":
        if sample.labels is not None:
            raise DataError(f"{place} is a second label of its sample; keep one")
        sample.labels = parse_cls(data, place)
    else:
        described, weight = parse_json(data, place)
        sample.described = described or sample.described
        sample.weight = sample.weight if math.isnan(weight) else weight


def _tabulate(job: Job, samples: list[_Sample]) -> tuple[bool, Table]:
    """Put samples into arrays."""
    words: dict[Word, int] = {}
    labels: list[int] = []
    ends, several = [], False
    images = [sample.image for sample in samples if sample.image is not None]
    for sample, image in zip(samples, images, strict=True):
        is_set, own = sample.labels or sample.described or _folder_label(image, job.path)
        several = several or is_set
        labels += [words.setdefault(word, len(words)) for word in own]
        ends.append(len(labels))
    weights = np.array([sample.weight for sample in samples], np.float64)
    return several, Table(
        Names.of(f"{job.name}/{image.name.removeprefix('./')}" for image in images),
        np.array([image.start for image in images], np.int64),
        np.array([image.size for image in images], np.int64),
        np.array(labels, np.int32),
        np.array(ends, np.int64),
        tuple(words),
        None if np.isnan(weights).all() else weights,
    )


def _folder_label(image: Member, where: str) -> Labelled:
    folder = [part for part in image.name.split("/")[:-1] if part not in ("", ".")]
    if not folder:
        stem = image.name.rpartition("/")[2].partition(".")[0]
        raise DataError(
            f"{where}: {image.name!r} has no label; add {stem}.cls or {stem}.json beside it, or a "
            "folder with the name of its class around it"
        )
    return False, ((False, folder[-1]),)
