"""Worker processes that do tasks in order, and are replaced when they are killed or stopped.

Each worker has a socket of its own to the parent and leaves its results in memory that all share,
so one that dies, whatever it was doing, holds nothing that others need. Its successor does its
tasks again; they are pure functions, so nothing changes but the time. torch's DataLoader cannot do
this: its workers share a queue whose lock a killed one keeps, and the parent fetches tensors from
the worker itself, waiting forever for one that is stopped.

Processes are forked: what the parent has loaded is shared with them, not copied. They end with the
thread that made them.
"""

import atexit
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vitrail.data.loading.serving import Slot, Work
from vitrail.data.loading.worker import LOOK, Worker
from vitrail.errors import ConfigError, DataError, printable

AHEAD = 2  # tasks that each worker has at a time
RESTARTS = 3  # of one worker, without a task finished in between
REASONS = {
    "SIGKILL": "mostly that is the system when memory runs out; use fewer workers or smaller "
    "batches, or free memory",
    "stopped": "something outside stops it; let it run, or use workers=0",
    "silent": "the storage may hang; check it, or leave the image out with a line in the "
    "quarantine list",
    "crash": "the decoder may have crashed; leave the image out with a line in the quarantine list",
}

Result = tuple[NDArray[np.int64], NDArray[np.uint8] | None, Any]  # task, its room, its answer


@runtime_checkable
class Named(Protocol):
    """The names of what tasks are made of, for messages."""

    def __getitem__(self, i: int, /) -> str:
        """Give one name."""


def run_tasks(
    work: Work,
    tasks: Iterator[NDArray[np.int64]],
    *,
    workers: int,
    longest: int,
    room: int,
    names: Named,
    tell: Callable[[str], None],
) -> Iterator[Result]:
    """Give each task, its room and its answer, in the order of the tasks.

    The room is used again as soon as the next one is asked for. Closing the iterator, or losing it,
    ends the workers; so does the end of this process, however it comes.

    Args:
        workers: processes; without any, all is done here when it is asked for.
        longest: most numbers of a task.
        room: bytes of the largest result.
        tell: is told when a worker is replaced.
    Raises:
        ConfigError: this system cannot fork.
        DataError: a worker died or hung again and again without finishing a task.
        Exception: what `work` raised, when the turn of its task comes.
    """
    if not workers:
        seen = np.zeros(2, np.int64)
        for task in tasks:
            yield task, None, work(task, None, seen)
        return
    if "fork" not in multiprocessing.get_all_start_methods():
        raise ConfigError(f"workers={workers}: this system cannot fork processes; use workers=0")
    crew = _Crew(work, workers, [Slot(longest, room) for _ in range(AHEAD * workers + 1)])
    try:
        yield from crew.run(tasks, names, tell)
    finally:
        crew.close()


class _Crew:
    """All workers, and the memory that they share with this process."""

    def __init__(self, work: Work, workers: int, slots: list[Slot]) -> None:
        self.owner = os.getpid()
        self.slots = slots
        self.workers: list[Worker] = []
        atexit.register(self.close)  # else multiprocessing waits forever for one that is stopped
        try:
            for number in range(workers):
                self.workers.append(Worker(number, work, slots))
        except BaseException:
            self.close()
            raise

    def run(
        self, tasks: Iterator[NDArray[np.int64]], names: Named, tell: Callable[[str], None]
    ) -> Iterator[Result]:
        free = deque(range(len(self.slots)))
        given: deque[int] = deque()  # slots of the tasks that are given out, in their order
        done: dict[int, tuple[Any, Exception | None]] = {}  # by slot
        while True:
            while free and (task := next(tasks, None)) is not None:
                slot = free.popleft()
                self.slots[slot].write(task)
                given.append(slot)
                min(self.workers, key=lambda worker: len(worker.tasks)).give(slot)
            if not given:
                return
            while given[0] not in done:
                for worker, trouble in self._wait(done):
                    _replace(worker, trouble, names, tell)
            slot = given.popleft()
            answer, error = done.pop(slot)
            if error is not None:
                raise error
            yield self.slots[slot].task, self.slots[slot].room, answer
            free.append(slot)

    def _wait(self, done: dict[int, tuple[Any, Exception | None]]) -> list[tuple[Worker, str]]:
        """Take what comes, and look after the workers when nothing does; give those in trouble."""
        busy = [worker for worker in self.workers if worker.tasks]
        ready = wait([worker.line for worker in busy], timeout=LOOK)
        if not ready:
            return [(worker, trouble) for worker in busy if (trouble := worker.look())]
        ended = []
        for worker in busy:
            if worker.line in ready:
                answers = worker.take()
                if answers is None:
                    ended.append((worker, "ended"))
                for slot, answer, error in answers or []:
                    done[slot] = answer, error
        return ended

    def close(self) -> None:
        """End all workers; the copy of this object in a forked process does nothing."""
        atexit.unregister(self.close)
        if os.getpid() == self.owner:
            for worker in self.workers:
                worker.kill()


def _replace(worker: Worker, trouble: str, names: Named, tell: Callable[[str], None]) -> None:
    """Start a worker again. Raises DataError where that has not helped before."""
    pid, item = worker.process.pid, int(worker.seen[1])
    end = worker.kill(grace=5.0 if trouble == "ended" else 0.0)
    crashed = end.startswith("SIG")
    how = {
        "stopped": "was stopped by a signal",
        "silent": f"gave no sign of life for {worker.silent * LOOK:.0f} seconds",
        "ended": f"was killed by {end}" if crashed else f"ended with {end}",
    }[trouble]
    where = f" while reading {printable(names[item])}" if item >= 0 else ""
    line = f"data worker {worker.number} (process {pid}) {how}{where}"
    worker.restarts += 1
    if worker.restarts > RESTARTS:
        reason = REASONS.get(end if trouble == "ended" else trouble, REASONS["crash"])
        raise DataError(f"{line}, for the {worker.restarts}th time in a row; {reason}")
    tell(f"{line}; it is started again")
    worker.start()
