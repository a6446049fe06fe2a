"""Examines all images with all cores, in processes that a bad image may kill."""

import multiprocessing
import signal
import time
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import numpy as np

from vitrail.data.check.record import RECORD, Record
from vitrail.data.check.worker import RECORD_FOLLOWS, TASK, Limits, work
from vitrail.data.dataset import Split

AHEAD = 2  # tasks that a process has at a time, so that it never waits for the next
ENDING = 10.0  # seconds that a process which has ended may take to say how
OUT_OF_TIME = -27  # exit code of a process whose clock ran out: SIGPROF
OVERDUE = -14  # SIGALRM, the clock for a process whose parent does not watch it
OUTSIDE = (-9, -15)  # SIGKILL and SIGTERM: no image can cause them by itself
TRIES = 3  # processes that may end at an image in such a way before it is blamed

Task = tuple[int, int]  # which split, which sample
Examined = tuple[int, int, Record | str]  # of a task: its RECORD, or why there is none


def examine_all(
    splits: Sequence[Split], *, workers: int, limits: Limits
) -> Generator[Examined, None, None]:
    """Examine every image of these splits, in no particular order.

    A process that dies, or is silent for too long, is replaced, and so every image gets its answer.
    The image that it was at gets more tries where the end may have come from outside.

    Args:
        workers: processes, at least 1.
        limits: what one image may cost.
    """
    todo = _Todo(splits)
    crew: dict[Connection, _Worker] = {}
    try:
        while True:
            while len(crew) < workers and todo:
                worker = _Worker(splits, limits)
                crew[worker.connection] = worker
                worker.give(todo)
            if not crew:
                return
            for worker in _ready(crew, limits.patience):
                answer = worker.receive()
                if answer is None:
                    del crew[worker.connection]
                    yield from todo.bury(worker, limits)
                    continue
                yield (*worker.tasks.popleft(), answer)
                worker.give(todo)
                if not worker.tasks:
                    del crew[worker.connection]
                    worker.end()
    finally:
        for worker in crew.values():
            worker.process.kill()
            worker.end()


class _Worker:
    """One process and the tasks that it has, the one it is at first."""

    def __init__(self, splits: Sequence[Split], limits: Limits) -> None:
        self.connection, theirs = multiprocessing.Pipe()
        self.tasks: deque[Task] = deque()
        self.since = 0.0  # when it began with its first task
        self.silent = False  # whether it was given up
        self.process = _new_process((theirs, splits, limits))
        self.process.start()
        theirs.close()

    def give(self, todo: "_Todo") -> None:
        """Fill it up with tasks; the clock of the first one starts."""
        self.since = time.monotonic()
        while len(self.tasks) < AHEAD and (task := todo.take()):
            self.tasks.append(task)
            try:
                self.connection.send_bytes(TASK.pack(*task))
            except OSError:  # it has died, which is seen when its answer is awaited
                return

    def receive(self) -> Record | str | None:
        """Take the next answer; None if it has none because it has ended or is silent."""
        if not self.connection.poll():
            self.silent = True
            return None
        try:
            answer = self.connection.recv_bytes()
        except (EOFError, OSError):
            return None
        if answer[:1] == RECORD_FOLLOWS:
            return np.frombuffer(answer, RECORD, 1, 1)[0]  # type: ignore[no-any-return]
        return answer[1:].decode("utf-8", "surrogatepass")

    def end(self) -> int | None:
        """Make sure that the process has ended; give its exit code, below 0 for a signal."""
        self.connection.close()
        if self.silent:
            self.process.kill()
        self.process.join(ENDING)
        code: int | None = self.process.exitcode
        self.process.kill()
        self.process.join(ENDING)
        return code


class _Todo:
    """The tasks that no process has yet."""

    def __init__(self, splits: Sequence[Split]) -> None:
        self.fresh = ((part, i) for part, split in enumerate(splits) for i in range(len(split)))
        self.again: deque[Task] = deque()
        self.tries: Counter[Task] = Counter()

    def __bool__(self) -> bool:
        """Whether there is one; it is then the first in `again`."""
        if not self.again:
            self.again.extend(task for task in [next(self.fresh, None)] if task)
        return bool(self.again)

    def take(self) -> Task | None:
        """Take the next task, if there is one."""
        return self.again.popleft() if self else None

    def bury(self, worker: _Worker, limits: Limits) -> Iterator[Examined]:
        """End a process, take its tasks back, and give the one that it was at as examined.

        Where the end may have come from outside, that one is taken back too, up to TRIES times.
        """
        code = worker.end()
        task = worker.tasks.popleft()
        self.again.extend(worker.tasks)
        silent = worker.silent or code == OVERDUE
        self.tries[task] += 1
        if (silent or code in OUTSIDE) and self.tries[task] < TRIES:
            self.again.append(task)
        elif silent:
            yield (*task, f"gave no answer for {limits.patience:g} s")
        elif code == OUT_OF_TIME:
            yield (*task, f"took more than {limits.seconds:g} s")
        else:
            yield (*task, f"killed the decoder ({_name(code)})")


def _ready(crew: dict[Connection, _Worker], patience: float) -> list[_Worker]:
    """Wait until there are processes with an answer, an end or no patience left; give them."""
    first = min(worker.since for worker in crew.values())
    left = max(0.0, first + patience - time.monotonic())
    answering = [crew[each] for each in wait(list(crew), left) if isinstance(each, Connection)]
    late = time.monotonic() - patience
    return answering or [worker for worker in crew.values() if worker.since <= late]


def _name(code: int | None) -> str:
    """Name how a process ended."""
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"


def _new_process(arguments: tuple[Connection, Sequence[Split], Limits]) -> BaseProcess:
    """Prepare a process that works.

    A fork server has loaded the decoders once and has no threads, unlike a process that uses torch,
    so forking it is both quick and safe.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn").Process(
            target=work, args=arguments, daemon=True
        )
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.__module__])
    return context.Process(target=work, args=arguments, daemon=True)
