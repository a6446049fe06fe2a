"""Damaged image files, each a pure function of its number; `python -m tests.data.mutations N`.

Run as a program it decodes the first N, each in a process of its own that may use two seconds of
the processor and 2 GiB more than it began with, and prints one line of JSON.
"""

import io
import json
import os
import resource
import struct
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from tests.data import tiffs
from tests.data.images import noise
from tests.data.samples import samples
from vitrail.data.decode import decode
from vitrail.errors import ImageError

Random = np.random.Generator
LIES = [0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0xDEADBEEF]


class Damaged(NamedTuple):
    """A file, how it came about, and how it is to be decoded."""

    name: str
    data: bytes
    channels: int
    depth: int


def flip_bits(data: bytearray, random: Random) -> bytearray:
    for at in random.integers(0, 8 * len(data), random.integers(1, 12)):
        data[at // 8] ^= 1 << at % 8
    return data


def flip_bits_of_the_head(data: bytearray, random: Random) -> bytearray:
    for at in random.integers(0, 8 * min(len(data), 200), random.integers(1, 5)):
        data[at // 8] ^= 1 << at % 8
    return data


def cut_off(data: bytearray, random: Random) -> bytearray:
    return data[: random.integers(0, len(data))]


def swap_pieces(data: bytearray, random: Random) -> bytearray:
    a, b, c, d = np.sort(random.integers(0, len(data) + 1, 4))
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def lie_about_a_length(data: bytearray, random: Random) -> bytearray:
    for _ in range(random.integers(1, 4)):
        value, size = int(random.choice(LIES)), int(random.choice([1, 2, 4, 8]))
        letter = {1: "B", 2: "H", 4: "I", 8: "Q"}[size]
        raw = struct.pack(str(random.choice(["<", ">"])) + letter, value % 256**size)
        most = len(data) if random.random() < 0.3 else min(len(data), 300)
        at = int(random.integers(0, most))
        data[at : at + size] = raw
    return data


def splice(data: bytearray, random: Random) -> bytearray:
    other = FILES[sorted(FILES)[random.integers(0, len(FILES))]][0]
    start, end = np.sort(random.integers(0, len(other) + 1, 2))
    at, drop = random.integers(0, len(data) + 1), random.integers(0, 50)
    return data[:at] + other[start:end] + data[at + drop :]


def repeat_a_piece(data: bytearray, random: Random) -> bytearray:
    start, end = np.sort(random.integers(0, len(data) + 1, 2))
    return data[:end] + data[start:end] * int(random.integers(1, 20)) + data[end:]


WAYS: list[Callable[[bytearray, Random], bytearray]] = [
    flip_bits,
    flip_bits_of_the_head,
    cut_off,
    swap_pieces,
    lie_about_a_length,
    splice,
    repeat_a_piece,
]


def files() -> dict[str, tuple[bytes, int]]:
    """Whole files of seven formats with the channels that they have."""
    made = {name: (data, 3) for name, data in samples().items()}
    deep = np.random.default_rng(0).integers(0, 65536, (13, 9, 5)).astype(np.uint16)
    for compression in (tiffs.NONE, tiffs.LZW, tiffs.DEFLATE, tiffs.PACKBITS):
        for planar in (False, True):
            data = tiffs.tiff(deep, compression=compression, planar=planar, predictor=2)
            made[f"TIFF bands {compression} {planar}"] = data, 5
    made["TIFF tiles"] = tiffs.tiff(deep / np.float32(65535), tile=(16, 16), order=">"), 5
    made["TIFF of 16 bits"] = tiffs.tiff(deep[..., :3], tags={262: (2,)}), 3
    for array, channels in ((deep, 5), (noise(3, 13, 9), 3), (deep[..., 0] / 65535, 1)):
        out = io.BytesIO()
        np.save(out, array)
        made[f"NPY {channels}"] = out.getvalue(), channels
    return made


FILES = files()


def damaged(number: int) -> Damaged:
    random = np.random.default_rng([7, number])
    name = sorted(FILES)[number % len(FILES)]
    data, channels = FILES[name]
    if random.random() < 0.1:
        channels = int(random.choice([1, 3, 5]))
    way = WAYS[number // len(FILES) % len(WAYS)]
    changed = bytes(way(bytearray(data), random))
    return Damaged(f"{number}: {name}, {way.__name__}", changed, channels, (8, 16)[number % 2])


def attempt(case: Damaged) -> bool:
    """Decode; whether pixels came out. Anything but pixels or a one-line ImageError is raised."""
    try:
        got = decode(
            case.data, channels=case.channels, where="x", max_pixels=1_000_000, depth=case.depth
        )
    except ImageError as error:
        assert str(error).startswith("x: ") and str(error).isprintable(), error
        assert len(str(error)) < 400 and " at 0x" not in str(error), error
        return False
    assert got.shape[0] == case.channels and min(got.shape) > 0
    assert got.dtype == (torch.uint8 if case.depth == 8 else torch.float32)
    assert got.min() >= 0 and got.max() <= 255
    return True


def attempt_alone(case: Damaged) -> str:
    """Decode in a child process; say what came of it."""
    child = os.fork()
    if child == 0:
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_CPU, (2, 3))
        resource.setrlimit(resource.RLIMIT_AS, (used + (2 << 30),) * 2)
        try:
            os._exit(0 if attempt(case) else 1)
        except BaseException as error:
            sys.stderr.write(f"{case.name}: {error!r}\n")
            os._exit(2)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"killed by signal {os.WTERMSIG(status)}: {case.name}"
    code = os.WEXITSTATUS(status)
    return {0: "pixels", 1: "refused"}.get(code, f"wrong: {case.name}")


def main(count: int) -> None:
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    outcomes = Counter(attempt_alone(damaged(number)) for number in range(count))
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = usage.ru_utime + usage.ru_stime
    sys.stdout.write(json.dumps({"outcomes": outcomes, "seconds": round(seconds, 1)}) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
