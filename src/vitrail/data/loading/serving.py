"""The side of a worker process: take a task from shared memory, do it, send the answer."""

import ctypes
import gc
import mmap
import os
import signal
import socket
import sys
import traceback
from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

SET_PARENT_DEATH_SIGNAL = 1  # prctl(2)
SLOT_BYTES = 4  # of the number of a slot, as it is sent
LENGTH_BYTES = 8  # of the length in front of each answer


@runtime_checkable
class Work(Protocol):
    """What a worker does with a task."""

    def __call__(
        self, task: NDArray[np.int64], room: NDArray[np.uint8] | None, seen: NDArray[np.int64]
    ) -> Any:
        """Do a task.

        Args:
            task: the numbers that say what to do.
            room: where large results go; None without workers, then they belong to the answer.
            seen: two numbers that say how far it is: images done, and which one is in hand.
        Returns:
            an answer without tensors.
        """


def shared_bytes(size: int) -> mmap.mmap:
    """Get memory that processes forked from now on share with this one.

    It is anonymous, so the size of /dev/shm does not limit it, and pages that are never written
    take no memory.
    """
    return mmap.mmap(-1, max(1, size))


def shared_numbers(count: int) -> NDArray[np.int64]:
    """Get shared memory for so many numbers."""
    return np.frombuffer(shared_bytes(8 * count), np.int64, count)


class Slot:
    """Memory for one task and for its result, shared with the workers."""

    def __init__(self, longest: int, room: int) -> None:
        """For `longest` numbers and `room` bytes at most."""
        self._numbers = shared_numbers(1 + longest)
        self.room = np.frombuffer(shared_bytes(room), np.uint8)

    @property
    def task(self) -> NDArray[np.int64]:
        """A copy of the numbers that were written last."""
        return self._numbers[1 : 1 + self._numbers[0]].copy()

    def write(self, task: NDArray[np.int64]) -> None:
        """Put the numbers of a task here."""
        self._numbers[0] = len(task)
        self._numbers[1 : 1 + len(task)] = task


class Inbox:
    """Puts answers together again from the pieces in which they arrive.

    Answers are sent as Python does between a process and its own children; nothing else can write
    to the socket.
    """

    def __init__(self) -> None:
        """Begins empty."""
        self._bytes = bytearray()

    def feed(self, piece: bytes) -> Iterator[tuple[int, Any, Exception | None]]:
        """Give slot, answer and error of each answer that this piece makes whole."""
        self._bytes += piece
        while len(self._bytes) >= LENGTH_BYTES:
            end = LENGTH_BYTES + int.from_bytes(self._bytes[:LENGTH_BYTES], "little")
            if len(self._bytes) < end:
                return
            with memoryview(self._bytes) as view:
                found = ForkingPickler.loads(view[LENGTH_BYTES:end])
            del self._bytes[:end]
            yield found


def serve(
    work: Work,
    slots: list[Slot],
    seen: NDArray[np.int64],
    ends: tuple[socket.socket, socket.socket],
    parent: int,
) -> None:
    """Do tasks until the parent is gone; what a worker process runs.

    Signals that end or warn a whole group of processes are for the parent to heed: it still needs
    its workers to come to an end that can be resumed.
    """
    _die_with(parent)
    theirs, line = ends
    theirs.close()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(signum, signal.SIG_IGN)
    gc.freeze()  # collecting would write to, and so copy, what is shared with the parent
    torch.set_num_threads(1)
    while number := line.recv(SLOT_BYTES, socket.MSG_WAITALL):
        slot = slots[int.from_bytes(number, "little")]
        answer, failure = None, None
        try:
            answer = work(slot.task, slot.room, seen)
        except Exception as error:
            failure = _portable(error)
        body = bytes(ForkingPickler.dumps((int.from_bytes(number, "little"), answer, failure)))
        line.sendall(len(body).to_bytes(LENGTH_BYTES, "little") + body)


def _die_with(parent: int) -> None:
    """Let the kernel kill this process when its parent ends, even if it is stopped then."""
    if sys.platform == "linux":  # elsewhere the closed socket ends it, once it looks
        ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _portable(error: Exception) -> Exception:
    """Give an exception that can be sent, with the trace from here as a note."""
    note = f"in a data worker:\n{traceback.format_exc()}"
    try:
        ForkingPickler.loads(ForkingPickler.dumps(error))
    except Exception:  # its class is local, or cannot be made again from its arguments
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(note)
    return error


def read_signs(pid: int) -> tuple[bool, int]:
    """Tell whether a process is stopped by a signal, and how much processor time it has used.

    Returns:
        (False, 0) where the system does not say.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return False, 0
    return fields[0] == b"T", int(fields[11]) + int(fields[12])
