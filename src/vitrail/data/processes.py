"""Worker processes that end with the process that started them, even where that one is killed."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from vitrail.errors import DataError

Job = TypeVar("Job")
Result = TypeVar("Result")


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_pool(
    workers: int, prepare: Callable[..., None] | None = None, given: tuple[Any, ...] = ()
) -> ProcessPoolExecutor:
    """Start worker processes; each calls `prepare(*given)` first."""
    return ProcessPoolExecutor(workers, initializer=_begin, initargs=(prepare, given))


def in_turn(pool: Executor, work: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
    """Give the results in the order of the jobs; after an error the others are not begun.

    Raises:
        DataError: a worker was killed, often for want of memory.
    """
    try:
        yield from pool.map(work, jobs)
    except BrokenProcessPool:
        raise DataError(
            "a worker process was killed, perhaps because memory ran out; use fewer workers"
        ) from None


def _begin(prepare: Callable[..., None] | None, given: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, and that ends this
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    if prepare is not None:
        prepare(*given)


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
