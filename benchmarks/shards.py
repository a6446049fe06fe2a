"""Tar shards beside the folder that they were packed from, and the cost of their index.

    python benchmarks/shards.py [IMAGES]

Three tables. Reading: the same small JPEGs (10 to 100 KB) in shuffled order, from a folder and from
1,000 shards, the bytes alone and with decoding to 224 pixels; in each round both read the same
samples, in turns, and files are in the page cache. Walking: the headers of one archive, by
Python's tarfile and by ours. Opening: the index of a million samples in 1,000 shards, in a
process of its own.
"""

import io
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vitrail.data.dataset import Names, Split
from vitrail.data.keyed import permutation, uniform
from vitrail.data.loading.images import FileImages
from vitrail.data.packing.pack import pack
from vitrail.data.preprocess import Preprocess
from vitrail.data.shards.members import BLOCK, walk
from vitrail.data.shards.table import Entry, ShardIndex, Table, write_index
from vitrail.data.sources import open_to_measure

ROUNDS, SHARDS, DECODED = 9, 1000, 1000
OPENING = """
import resource, sys, time
from vitrail.data.shards.source import list_shards
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
before, start = resident(), time.perf_counter()
listing = list_shards(sys.argv[1])
seconds = time.perf_counter() - start
print(len(listing.keys), seconds, (resident() - before) / 1e6)
"""


def main(images: int) -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        reading(root, images)
        walking(root / "packed")
        opening(root / "index", 1_000_000)


def photos(root: Path, count: int) -> None:
    """Write JPEGs of 10 to 100 KB; there are 100 different ones."""
    kinds = []
    for i in range(100):
        draws = uniform("photo", 0, 0, i, 8)[0]
        side = int(150 + 250 * draws[0])
        rough = (uniform("pixels", 0, 0, i, 48)[0].reshape(4, 4, 3) * 255).astype(np.uint8)
        smooth = np.asarray(Image.fromarray(rough).resize((side * 4 // 3, side), 3))
        grain = uniform("grain", 0, 0, i, smooth.size)[0].reshape(smooth.shape) * 50 - 25
        target = io.BytesIO()
        noisy = (smooth + grain).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(target, "JPEG", quality=85)
        kinds.append(target.getvalue())
    for i in range(count):
        path = root / f"{i % 10}" / f"{i:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(kinds[i % len(kinds)])


def reading(root: Path, count: int) -> None:
    """Compare a folder and 1,000 shards of the same images."""
    photos(root / "folder", count)
    size = sum(path.stat().st_size for path in (root / "folder").rglob("*.jpg"))
    start = time.perf_counter()
    pack(str(root / "folder"), root / "packed", part_bytes=(size + 2048 * count) // SHARDS)
    print(f"packed and proved: {count} images, {size / 1e6:.0f} MB", end=" ")
    print(f"in {time.perf_counter() - start:.0f} s")
    shards = len(list((root / "packed").glob("*.tar")))
    splits = {
        "folder": open_to_measure(str(root / "folder")).splits["all"],
        f"{shards} shards": open_to_measure(str(root / "packed")).splits["all"],
    }
    order = permutation(0, 0, count).tolist()
    report("bytes", {name: reader(split, order) for name, split in splits.items()}, count)
    few = order[:DECODED]
    report("decoded", {name: decoder(split, few) for name, split in splits.items()}, len(few))


def reader(split: Split, order: Sequence[int]) -> Callable[[], object]:
    """Read these samples."""
    return lambda: [len(split.read(i)) for i in order]


def decoder(split: Split, order: Sequence[int]) -> Callable[[], object]:
    """Read and decode these samples, as the loader does."""
    images = FileImages(split, Preprocess(size=(224, 224)))
    return lambda: [images.load(i, None).shape for i in order]


def report(what: str, runs: dict[str, Callable[[], object]], count: int) -> None:
    """Time all in turns; the first round does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    first = next(iter(runs))
    print(f"| {what} | µs a sample | x {first} | spread |\n|---|---|---|---|")
    for name, times in seconds.items():
        ratios = [a / b for a, b in zip(times[1:], seconds[first][1:], strict=True)]
        median = statistics.median(times[1:]) / count * 1e6
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"| {name} | {median:.1f} | {statistics.median(ratios):.2f} | {spread} |")


def walking(packed: Path) -> None:
    """Compare the walk over headers with tarfile's."""
    path = packed / "walk.tar"
    with tarfile.open(path, "w") as file:
        for i in range(20_000):
            for suffix, data in ((".jpg", bytes(3000)), (".cls", b"7")):
                member = tarfile.TarInfo(f"{i:08d}{suffix}")
                member.size = len(data)
                file.addfile(member, io.BytesIO(data))
    descriptor, size = os.open(path, os.O_RDONLY), path.stat().st_size

    def ours() -> int:
        read = lambda start, count: os.pread(descriptor, count, start)  # noqa: E731
        return sum(1 for _ in walk(read, size, str(path)))

    def theirs() -> int:
        with tarfile.open(path, "r:") as file:
            return sum(1 for _ in file)

    report("headers", {"tarfile": theirs, "vitrail": ours}, 40_000)


def opening(root: Path, count: int) -> None:
    """Open a large index: the shards are empty files of the right size."""
    root.mkdir()
    each, step = count // SHARDS, 60 * BLOCK
    entries = []
    for k in range(SHARDS):
        path = root / f"{'train' if k < SHARDS * 0.95 else 'val'}-{k:06d}.tar"
        path.touch()
        os.truncate(path, each * step + 2 * BLOCK)
        about = path.stat()
        stamp = str(about.st_mtime_ns)
        entries.append(Entry(path.name, about.st_size, stamp, "0" * 64, each, False, True, ()))
    table = Table(
        Names.of(f"{entry.name}/{i:08d}.jpg" for entry in entries for i in range(each)),
        np.tile(np.arange(each) * step + 2 * BLOCK, SHARDS),
        np.full(count, 29_000),
        (np.arange(count) % 1000).astype(np.int32),
        np.arange(1, count + 1),
        tuple((True, str(i)) for i in range(1000)),
        sha256=np.zeros((count, 32), np.uint8),
        origins=Names.of(f"train/n{i % 1000:08d}/n{i:012d}.JPEG" for i in range(count)),
    )
    write_index(root / "vitrail-index.safetensors", ShardIndex(tuple(entries), table))
    print("| samples | seconds to open | MB of resident growth |\n|---|---|---|")
    for _ in range(3):
        command = [sys.executable, "-c", OPENING, str(root)]
        n, seconds, growth = subprocess.check_output(command, text=True).split()
        print(f"| {n} | {float(seconds):.2f} | {float(growth):.0f} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
