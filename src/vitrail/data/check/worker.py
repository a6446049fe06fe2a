"""The process in which images are examined: it may take so much time and memory, and no more."""

import os
import signal
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

import torch

from vitrail.data.check.record import examine
from vitrail.data.dataset import Split
from vitrail.errors import ImageError

TASK = struct.Struct("<iq")  # which split, which sample
SECONDS_PER_BYTE = 1e-7
RECORD_FOLLOWS, REASON_FOLLOWS = b"+", b"-"  # first byte of an answer


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one image may cost."""

    seconds: float = 2.0  # of processor time, and SECONDS_PER_BYTE more for the file's size
    memory_mb: int = 1024  # more than the process has before
    patience: float = 30.0  # seconds by the clock until a process that is silent is given up
    max_pixels: int = 40_000_000  # height * width


def work(connection: Connection, splits: Sequence[Split], limits: Limits) -> None:
    """Answer tasks until the other end is closed; never returns.

    Each task is a TASK. The answer is one byte and a RECORD, or the reason why there is none.
    """
    _confine(limits)
    try:
        while True:
            part, i = TASK.unpack(connection.recv_bytes())
            _start_clocks(limits.seconds, 2 * limits.patience)  # for reading
            answer = _answer(splits[part], i, limits)
            _start_clocks(0, 0)
            connection.send_bytes(answer)
    except (EOFError, OSError):  # whoever asked is gone
        os._exit(0)


def _confine(limits: Limits) -> None:
    """Take away threads, output, core dumps and memory.

    The limit of memory is one of addresses (RLIMIT_AS): what the process has now, which is some
    gigabytes with torch and costs nothing, and `memory_mb` more. It holds on Linux only.
    """
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, and that ends this
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)  # libtiff tells its warnings to everybody
    if os.path.exists("/proc/self/statm"):
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        most = now + (limits.memory_mb << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _start_clocks(busy: float, real: float) -> None:
    """Let the system end this process after so many seconds; 0 stops a clock.

    No decoder can hold that up: the signals are not handled in Python but end the process.

    Args:
        busy: seconds of processor time.
        real: seconds by the clock, for a read that hangs while nobody is there to lose patience.
    """
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, busy)
        signal.setitimer(signal.ITIMER_REAL, real)


def _answer(split: Split, i: int, limits: Limits) -> bytes:
    key = split.keys[i]
    try:
        data = split.read(i)
        # A bomb is small; who brings a large file may take the time that it needs.
        _start_clocks(limits.seconds + len(data) * SECONDS_PER_BYTE, 2 * limits.patience)
        record = examine(data, key, limits.max_pixels)
    except Exception as error:
        reason = str(error).removeprefix(f"{key}: ")
        if _is_memory(error):
            reason = f"needed more than {limits.memory_mb} MB"
        elif not isinstance(error, ImageError):
            reason = f"cannot be examined: {type(error).__name__}: {reason}"
        return REASON_FOLLOWS + reason.encode("utf-8", "surrogatepass")
    return RECORD_FOLLOWS + record.tobytes()


def _is_memory(error: BaseException | None) -> bool:
    """Whether memory ran out, here or in what led to this."""
    while error is not None:
        foreign = not isinstance(error, ImageError)  # which may hold a name
        if isinstance(error, MemoryError) or (foreign and "memory" in str(error).lower()):
            return True
        error = error.__cause__
    return False
