"""Decoded images that are kept: the same pixels, found again, never half."""

import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from tests.data.images import noise, save
from tests.data.samples import digest, make_split, photo
from vitrail.data.augment import AugmentConfig
from vitrail.data.dataset import Split
from vitrail.data.folder import FileReader
from vitrail.data.loader import ordered_batches, train_batches
from vitrail.data.loading import filling
from vitrail.data.loading.cache import Cache, FittedImages, WholeImages, open_images
from vitrail.data.loading.decoded import map_decoded, write_decoded
from vitrail.data.loading.images import FileImages, Images
from vitrail.data.loading.workers import run_tasks
from vitrail.data.preprocess import Preprocess
from vitrail.errors import ConfigError, ImageError, StorageError

PREPROCESS = Preprocess(size=(6, 10))
PLAIN, CROPS = AugmentConfig(), AugmentConfig(crop_area=(0.3, 1.0))
AUGMENTS = {"fitted": PLAIN, "whole": CROPS}


def jpeg_split(root: Path) -> Split:
    """Photographs that are decoded at 1/8, 1/4 or 1/2, depending on the detail asked for."""
    keys = tuple(f"{i}.jpg" for i in range(9))
    for i, key in enumerate(keys):
        if i != 4:
            (root / key).write_bytes(save(photo(40 + 17 * i, 190 - 13 * i, seed=i), "JPEG"))
    return Split(keys, np.arange(9) % 2, FileReader(root, keys))


def taken(images: Images, workers: int = 0) -> tuple[str, str]:
    """Hash three epochs of training, and one of measuring."""
    steps = range(3 * len(images.split) // 4)
    batches = train_batches(images, seed=5, batch_size=4, steps=steps, workers=workers)
    return digest(batches), digest(ordered_batches(images, batch_size=4, workers=workers))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def split(tmp_path: Path) -> Split:
    return make_split(tmp_path, broken=(3, 4))


def caches(folder: Path) -> list[Path]:
    assert not list(folder.glob(".*"))  # nothing unfinished is left
    return sorted(folder.glob("*.pixels"))


# --- the same pixels ---


@pytest.mark.parametrize("kind", ["png", "jpeg"])
@pytest.mark.parametrize("cache", ["ram", "disk"])
@pytest.mark.parametrize("augment", AUGMENTS)
def test_pixels_are_those_of_the_files(
    tmp_path: Path, folder: Path, augment: str, cache: Cache, kind: str
) -> None:
    split = jpeg_split(tmp_path) if kind == "jpeg" else make_split(tmp_path, broken=(3, 4))
    files = taken(FileImages(split, PREPROCESS, AUGMENTS[augment]))
    for workers in (0, 2):
        images = open_images(split, PREPROCESS, AUGMENTS[augment], workers, cache, folder)
        assert isinstance(images, FittedImages if augment == "fitted" else WholeImages)
        assert taken(images, workers) == files
    assert len(caches(folder)) == (cache == "disk")


def test_jpegs_are_kept_in_the_detail_that_crops_need(tmp_path: Path) -> None:
    """The split above does decode differently for crops than for measuring."""
    images = FileImages(jpeg_split(tmp_path), PREPROCESS, CROPS)
    whole = images.decode(0).shape
    assert whole != PREPROCESS.decode(images.split.read(0), "x").shape
    assert whole[1] < 40


@pytest.mark.parametrize("resize", ["squash", "pad"])
def test_grey_images(tmp_path: Path, folder: Path, resize: str) -> None:
    split = make_split(tmp_path)
    preprocess = Preprocess(size=(6, 10), channels=1, mean=(0.5,), std=(0.5,), resize=resize)
    for augment in (PLAIN, CROPS):
        images = open_images(split, preprocess, augment, 0, "disk", folder)
        assert taken(images) == taken(FileImages(split, preprocess, augment))


@pytest.mark.parametrize("augment", AUGMENTS)
def test_deep_images_of_many_bands(tmp_path: Path, folder: Path, augment: str) -> None:
    """What the preprocessing makes is kept and sent as it is: here float32, five bands."""
    keys = tuple(f"{i}.npy" for i in range(6))
    for i, key in enumerate(keys):
        np.save(tmp_path / key, noise(9 + i, 14, 5, high=2**16).astype(np.uint16))
    (tmp_path / keys[2]).write_bytes(b"no array")
    split = Split(keys, np.arange(6), FileReader(tmp_path, keys))
    five = (0.5,) * 5
    preprocess = Preprocess(size=(6, 10), channels=5, depth=16, mean=five, std=five)
    files = FileImages(split, preprocess, AUGMENTS[augment])
    (batch,) = ordered_batches(files, batch_size=6, workers=1)
    assert batch.images.shape == (5, 5, 6, 10) and batch.images.dtype == torch.float32
    (empty,) = ordered_batches(
        FileImages(split.take(np.array([2])), preprocess), batch_size=6, workers=1
    )
    assert empty.images.shape == (0, 5, 6, 10) and empty.images.dtype == torch.float32
    for cache in ("ram", "disk"):
        images = open_images(split, preprocess, AUGMENTS[augment], 1, cache, folder)
        assert taken(images, 1) == taken(files, 1) == taken(files)


@pytest.mark.parametrize("cache", ["ram", "disk"])
@pytest.mark.parametrize("augment", AUGMENTS)
def test_broken_images_keep_their_reason(
    split: Split, folder: Path, augment: str, cache: Cache
) -> None:
    files = FileImages(split, PREPROCESS, AUGMENTS[augment])
    images = open_images(split, PREPROCESS, AUGMENTS[augment], 0, cache, folder)
    for i in (3, 4):
        box = np.full(4, 0.5)
        with pytest.raises(ImageError) as own:
            files.load(i, box)
        with pytest.raises(ImageError) as kept:
            images.load(i, box)
        assert str(kept.value) == str(own.value)


def test_single_images(split: Split) -> None:
    images = open_images(split, PREPROCESS, PLAIN, 0, "ram")
    one = images.load(5, None)
    assert torch.equal(one, PREPROCESS.load(split.read(5), "x"))
    one.zero_()  # a copy
    assert torch.equal(images.load(5, None), PREPROCESS.load(split.read(5), "x"))


# --- the disk ---


class Counting(NamedTuple):
    """Counts how often a file is read."""

    split: Split
    log: list[int]

    def __call__(self, i: int) -> bytes:
        self.log.append(i)
        return self.split.read(i)


@pytest.mark.parametrize("augment", AUGMENTS)
def test_found_again(split: Split, folder: Path, augment: str) -> None:
    first = taken(open_images(split, PREPROCESS, AUGMENTS[augment], 0, "disk", folder))
    (path,) = caches(folder)
    before, log = path.stat(), list[int]()
    again = Split(split.keys, split.labels, Counting(split, log))
    images = open_images(again, PREPROCESS, AUGMENTS[augment], 0, "disk", folder)
    assert log == list(range(len(split)))  # to hash them
    train = train_batches(images, seed=5, batch_size=4, steps=range(8), workers=0)
    assert digest(train) == first[0] and len(log) == len(split)
    assert path.stat().st_mtime_ns == before.st_mtime_ns and path.stat().st_ino == before.st_ino


def test_whatever_changes_pixels_has_a_file_of_its_own(tmp_path: Path, folder: Path) -> None:
    split = make_split(tmp_path)
    renamed = Split(("a.png", *split.keys[1:]), split.labels, split.read)
    other_order = split.take(np.arange(len(split))[::-1].copy())
    cases = [
        (split, PREPROCESS, PLAIN),
        (split, PREPROCESS, CROPS),
        (split, PREPROCESS, AugmentConfig(crop_area=(0.5, 1.0))),
        (split, PREPROCESS.replace(resize="squash"), PLAIN),
        (renamed, PREPROCESS, PLAIN),
        (other_order, PREPROCESS, PLAIN),
    ]
    for number, (each, preprocess, augment) in enumerate(cases, start=1):
        open_images(each, preprocess, augment, 0, "disk", folder)
        assert len(caches(folder)) == number
    (tmp_path / "7.png").write_bytes(save(photo(20, 30, seed=99), "PNG"))
    changed = open_images(split, PREPROCESS, PLAIN, 0, "disk", folder)
    assert len(caches(folder)) == len(cases) + 1
    assert taken(changed) == taken(FileImages(split, PREPROCESS, PLAIN))
    relabelled = Split(split.keys, split.labels + 1, split.read)
    open_images(relabelled, PREPROCESS, AugmentConfig(flip=False), 0, "disk", folder)
    assert len(caches(folder)) == len(cases) + 1  # neither labels nor flips are in it


def damages(data: bytes) -> Iterator[bytes]:
    """The file cut off in many places, lengthened, and with bits turned."""
    yield from (data[: len(data) * part // 20] for part in range(20))
    yield data[:-1]
    yield data + b"\0"
    for place in [0, len(data) // 2, *range(len(data) - 400, len(data), 13)]:
        yield data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def test_a_damaged_file_is_made_again(split: Split, folder: Path) -> None:
    whole = taken(open_images(split, PREPROCESS, PLAIN, 0, "disk", folder))
    (path,) = caches(folder)
    data = path.read_bytes()
    for damaged in damages(data):
        path.write_bytes(damaged)
        assert taken(open_images(split, PREPROCESS, PLAIN, 0, "disk", folder)) == whole
        assert caches(folder) == [path] and path.read_bytes() == data


def test_what_a_killed_run_left_is_removed(split: Split, folder: Path) -> None:
    open_images(split, PREPROCESS, PLAIN, 0, "disk", folder)
    (path,) = caches(folder)
    path.unlink()
    (folder / f".{path.name}.0123abcd.tmp").write_bytes(b"half")
    open_images(split, PREPROCESS, PLAIN, 0, "disk", folder)
    assert caches(folder) == [path]


def test_runs_that_begin_together_share_one_file(split: Split, folder: Path) -> None:
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    def run() -> None:
        answers.put(taken(open_images(split, PREPROCESS, CROPS, 1, "disk", folder)))

    runs = [context.Process(target=run) for _ in range(3)]
    for each in runs:
        each.start()
    found = [answers.get() for _ in runs]
    for each in runs:
        each.join()
    assert found == [taken(FileImages(split, PREPROCESS, CROPS))] * 3
    assert len(caches(folder)) == 1


def test_too_little_space(split: Split, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(split.read.root)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    message = r"cache: the decoded images need about 0\.0 GB, 0\.0 GB are free; free some, name"
    with pytest.raises(StorageError, match=message):
        open_images(split, PREPROCESS, CROPS, 0, "disk", folder)
    assert caches(folder) == []


def test_too_little_memory(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "free_memory", lambda device: 100)
    with pytest.raises(ConfigError, match=r"^cache=ram: the decoded images need about .* are free"):
        open_images(split, PREPROCESS, CROPS, 0, "ram")


def test_a_folder_that_cannot_be_written(split: Split, folder: Path) -> None:
    folder.touch()
    with pytest.raises(StorageError, match=r"cache: a part of this path is a file, not a folder"):
        open_images(split, PREPROCESS, PLAIN, 0, "disk", folder)


def test_the_folder_of_the_user(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    open_images(split, PREPROCESS, PLAIN, 0, "disk")
    assert len(caches(tmp_path / "xdg" / "vitrail" / "decoded")) == 1
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    open_images(split, PREPROCESS, PLAIN, 0, "disk")
    assert len(caches(tmp_path / ".cache" / "vitrail" / "decoded")) == 1


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_a_file_gives_back_what_was_written(tmp_path: Path, kind: str) -> None:
    images = [(np.random.default_rng(i).random((i, 3, 5)) * 255).astype(kind) for i in (1, 4, 2)]
    with open(tmp_path / "x", "w+b") as file:
        write_decoded(file, [images[0], "why", images[1], images[2]])
        decoded = map_decoded(file, 4)
        assert map_decoded(file, 3) is None and map_decoded(file, 5) is None
    assert decoded is not None and decoded.failures == {1: "why"}
    for i, image in zip((0, 2, 3), images, strict=True):
        assert decoded.image(i).dtype == kind and (decoded.image(i) == image).all()
        assert not decoded.image(i).flags.writeable


# --- memory ---


def test_workers_share_the_memory_of_the_cache(split: Split) -> None:
    images = open_images(split, PREPROCESS, CROPS, 0, "ram")
    assert isinstance(images, WholeImages)
    ((_, _, maps),) = run_tasks(
        lambda task, room, seen: Path("/proc/self/maps").read_text(),
        iter([np.array([0])]),
        workers=1,
        longest=1,
        room=0,
        names=("x",),
        tell=lambda message: None,
    )
    (line,) = [line for line in maps.splitlines() if "vitrail-decoded" in line]
    assert line.split()[1] == "r--s"  # mapped once for all, and never written


def resident(pid: int | str) -> int:
    """Give the resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(("cache", "workers"), [("none", 0), ("none", 2), ("ram", 2)])
@pytest.mark.parametrize("n", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_memory_does_not_grow(tmp_path: Path, n: int, cache: Cache, workers: int) -> None:
    """Five epochs, after one to warm up."""
    some = make_split(tmp_path, n=20).take(np.arange(n) % 20)
    split = Split(tuple(f"{i}.png" for i in range(n)), some.labels, some.read)
    images = open_images(split, PREPROCESS, CROPS, workers, cache)
    batches = train_batches(images, seed=5, batch_size=n // 20, steps=range(120), workers=workers)
    before, others = [0], set(multiprocessing.active_children())
    for step, _ in enumerate(batches):
        pids = ["self", *(each.pid for each in set(multiprocessing.active_children()) - others)]
        if step == 19:
            before = [resident(pid) for pid in pids]
        if step == 115:  # at the last steps the workers are done
            growth = [resident(pid) - old for pid, old in zip(pids, before, strict=True)]
    assert len(growth) == 1 + workers and max(growth) < 4e6


class Flaky:
    """Reads well but for one moment."""

    def __init__(self, read: Callable[[int], bytes], call: int) -> None:
        self.read, self.call, self.calls = read, call, 0

    def __call__(self, i: int) -> bytes:
        self.calls += i == 5
        if i == 5 and self.calls == self.call:
            raise ImageError("5.png: Input/output error")
        return self.read(i)


@pytest.mark.parametrize("augment", [PLAIN, CROPS], ids=["plain", "crops"])
def test_a_moment_of_failure_is_not_kept(
    split: Split, tmp_path: Path, augment: AugmentConfig
) -> None:
    """The file is read to be hashed, and read again to be decoded; that fails once."""
    for call in range(1, 5):
        flaky = replace(split, read=Flaky(split.read, call))
        folder = tmp_path / f"cache{call}"
        try:
            open_images(flaky, PREPROCESS, augment, 0, "disk", folder)
        except StorageError as error:
            assert "a moment later it could" in str(error) or "changed while" in str(error)
            assert caches(folder) == []
        images = open_images(split, PREPROCESS, augment, 0, "disk", folder)
        assert images.load(5, np.full(4, 0.5)).shape == (3, *PREPROCESS.size)
