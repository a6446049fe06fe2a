"""Workers that are killed, stopped or fail: same results, no hang, nothing left behind."""

import faulthandler
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.data.samples import digest, make_split
from vitrail.data.augment import AugmentConfig
from vitrail.data.loader import train_batches
from vitrail.data.loading import worker as limits
from vitrail.data.loading.images import FileImages
from vitrail.data.loading.workers import Result, run_tasks
from vitrail.data.preprocess import Preprocess
from vitrail.errors import DataError, ImageError

Room = NDArray[np.uint8] | None
Numbers = NDArray[np.int64]
NAMES = tuple(f"image {i}" for i in range(100))


def run(
    work: Callable[[Numbers, Room, Numbers], object],
    count: int,
    workers: int,
    tell: Callable[[str], None] = lambda message: None,
) -> Iterator[Result]:
    """Run tasks 0, 1 … of one number each."""
    return run_tasks(
        work,
        (np.array([i]) for i in range(count)),
        workers=workers,
        longest=1,
        room=8,
        names=NAMES,
        tell=tell,
    )


def square(task: Numbers, room: Room, seen: Numbers) -> int:
    seen[:] = seen[0] + 1, task[0]
    if room is not None:
        room[:] = task[0]
    return int(task[0]) ** 2


def children() -> set[multiprocessing.process.BaseProcess]:
    return set(multiprocessing.active_children())


@pytest.mark.parametrize("count", [0, 1, 50])
@pytest.mark.parametrize("workers", [0, 1, 4])
def test_answers_come_in_order(count: int, workers: int) -> None:
    before = children()
    for i, (task, room, answer) in enumerate(run(square, count, workers)):
        assert task.tolist() == [i] and answer == i * i
        assert room is None if workers == 0 else room.tolist() == [i] * 8
        assert len(children() - before) == workers
    assert children() == before


def test_large_answers_arrive_whole() -> None:
    def work(task: Numbers, room: Room, seen: Numbers) -> NDArray[np.uint8]:
        return np.full(3_000_000, task[0], np.uint8)

    for i, (_, _, answer) in enumerate(run(work, 5, 2)):
        assert len(answer) == 3_000_000 and (answer == i).all()


# --- exceptions ---


class OddError(ValueError):
    """Cannot be made again from its arguments."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("error", [MemoryError("no more"), ImageError("a.png: bad"), KeyError(3)])
def test_an_exception_comes_as_it_is_in_its_turn(error: Exception, workers: int) -> None:
    def work(task: Numbers, room: Room, seen: Numbers) -> int:
        if task[0] == 5:
            raise error
        return int(task[0])

    before, results = children(), run(work, 20, workers)
    assert [next(results)[2] for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(type(error)) as caught:
        next(results)
    assert type(caught.value) is type(error) and str(caught.value) == str(error)
    if workers:
        assert "in a data worker:\nTraceback" in caught.value.__notes__[0]
        assert "raise error" in caught.value.__notes__[0]
    assert children() == before


def test_an_exception_that_cannot_be_sent_is_told() -> None:
    def work(task: Numbers, room: Room, seen: Numbers) -> int:
        raise OddError(1, 2)

    with pytest.raises(RuntimeError, match=r"^OddError: 1 and 2\n") as caught:
        next(run(work, 1, 1))
    assert "raise OddError" in caught.value.__notes__[0]


# --- killed, stopped, silent ---


def kill_at(task: int, signum: int, marks: Path, times: int) -> Callable[..., int]:
    """Work that sends its own process a signal in one task, the first `times` times."""

    def work(numbers: Numbers, room: Room, seen: Numbers) -> int:
        seen[1] = numbers[0]
        if numbers[0] == task and len(list(marks.iterdir())) < times:
            (marks / str(time.monotonic_ns())).touch()
            faulthandler.disable()  # pytest's would write to the terminal
            os.kill(os.getpid(), signum)
        return square(numbers, room, seen)

    return work


@pytest.mark.parametrize("times", [1, 3])
def test_a_killed_worker_is_replaced(tmp_path: Path, times: int) -> None:
    told: list[str] = []
    work = kill_at(7, signal.SIGKILL, tmp_path, times)
    answers = [answer for _, _, answer in run(work, 20, 2, told.append)]
    assert answers == [i * i for i in range(20)]
    assert len(told) == times
    assert all("was killed by SIGKILL while reading image 7; it is started" in t for t in told)


@pytest.mark.parametrize(
    ("signum", "reason"), [(signal.SIGKILL, "memory runs out"), (signal.SIGSEGV, "decoder")]
)
def test_a_worker_that_always_dies_ends_the_run(tmp_path: Path, signum: int, reason: str) -> None:
    before, told = children(), list[str]()
    results = run(kill_at(7, signum, tmp_path, 99), 20, 2, told.append)
    taken = [next(results)[2] for _ in range(7)]
    name = signal.Signals(signum).name
    line = rf"data worker [01] \(process \d+\) was killed by {name} while reading image 7, "
    with pytest.raises(DataError, match=f"^{line}for the 4th time in a row; .*{reason}"):
        next(results)
    assert taken == [i * i for i in range(7)] and len(told) == 3
    assert children() == before


def test_a_worker_that_leaves_is_told_with_its_code() -> None:
    def work(task: Numbers, room: Room, seen: Numbers) -> int:
        os._exit(3)

    with pytest.raises(DataError, match=r"ended with exit code 3, for the 4th time"):
        next(run(work, 1, 1))


def test_a_stopped_worker_is_replaced(tmp_path: Path) -> None:
    told: list[str] = []
    work = kill_at(7, signal.SIGSTOP, tmp_path, 1)
    assert [answer for _, _, answer in run(work, 20, 2, told.append)] == [i * i for i in range(20)]
    (line,) = told
    assert "was stopped by a signal while reading image 7" in line


def test_a_silent_worker_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PATIENCE", 2)

    def work(task: Numbers, room: Room, seen: Numbers) -> int:
        seen[1] = task[0]
        if task[0] == 3 and not (tmp_path / "once").exists():
            (tmp_path / "once").touch()
            threading.Event().wait()  # forever, as a read from storage that hangs
        return square(task, room, seen)

    told: list[str] = []
    assert [answer for _, _, answer in run(work, 6, 2, told.append)] == [i * i for i in range(6)]
    (line,) = told
    assert "gave no sign of life for 2 seconds while reading image 3" in line


def test_slow_work_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One task takes several times the patience, but uses the processor or finishes images."""
    monkeypatch.setattr(limits, "PATIENCE", 1)

    def work(task: Numbers, room: Room, seen: Numbers) -> int:
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            if task[0]:
                seen[0] += 1
                threading.Event().wait(0.05)
        return 0

    told: list[str] = []
    assert len(list(run(work, 2, 2, told.append))) == 2
    assert told == []


def test_one_that_dies_idle_is_replaced_when_it_is_needed() -> None:
    before, told = children(), list[str]()
    results = run(square, 20, 2, told.append)
    first = next(results)[2]
    for each in children() - before:
        each.kill()
        each.join()
    assert [first, *(answer for _, _, answer in results)] == [i * i for i in range(20)]
    assert len(told) == 2


def test_signals_to_the_whole_group_are_for_the_parent() -> None:
    before, told = children(), list[str]()
    results = run(square, 20, 2, told.append)
    answers = [next(results)[2] for _ in range(6)]  # both have worked, so both are set up
    for each in children() - before:
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            os.kill(each.pid, signum)
    assert [*answers, *(answer for _, _, answer in results)] == [i * i for i in range(20)]
    assert told == []


# --- nothing is left behind ---


def test_closing_or_losing_the_iterator_ends_the_workers() -> None:
    before, results = children(), run(square, 50, 2)
    next(results)
    assert len(children() - before) == 2
    results.close()
    assert children() == before
    results = run(square, 50, 2)
    next(results)
    os.kill((children() - before).pop().pid, signal.SIGSTOP)
    del results
    assert children() == before


SCRIPT = """
import multiprocessing, os, signal, sys
import numpy as np
from vitrail.data.loading.workers import run_tasks

results = run_tasks(
    lambda task, room, seen: 0, (np.array([i]) for i in range(50)),
    workers=2, longest=1, room=8, names=("x",) * 50, tell=lambda message: None,
)
for _ in range(6):  # both have worked, so both are set up
    next(results)
pids = [each.pid for each in multiprocessing.active_children()]
os.kill(pids[0], signal.SIGSTOP)
sys.stdout.write(" ".join(map(str, pids)) + "\\n")
sys.stdout.flush()
if sys.argv[1] == "killed":
    signal.pause()
"""


@pytest.mark.parametrize("end", ["killed", "left"])
def test_workers_end_with_their_parent(end: str) -> None:
    """One of them is stopped. `left`: the parent comes to its end with the iterator open."""
    source = Path(limits.__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, end],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(source)},
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        if end == "killed":
            parent.kill()
        parent.wait()
    assert len(pids) == 2
    while any(alive(pid) for pid in pids):  # ends, or the time limit of all tests does
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"  # nobody may be there to bury it


# --- a whole training order under fire (R9) ---


def under_fire(root: Path, signum: int, times: int, seed: int) -> None:
    """Send a signal to a worker at random moments; the batches are those of an unbroken run."""
    images = FileImages(
        make_split(root, broken=(3, 4)),
        Preprocess(size=(6, 10)),
        AugmentConfig(crop_area=(0.3, 1.0)),
    )
    steps = 24 * times
    unbroken = digest(train_batches(images, seed=5, batch_size=4, steps=range(steps), workers=0))
    before, told, chance = children(), list[str](), random.Random(seed)
    timers: list[threading.Timer] = []

    def hit() -> None:
        victim = chance.choice(sorted(each.pid for each in children() - before))
        timer = threading.Timer(chance.uniform(0, 0.01), os.kill, (victim, signum))
        timer.start()
        timers.append(timer)

    def taken() -> Iterator[object]:
        batches = train_batches(
            images, seed=5, batch_size=4, steps=range(steps), workers=2, tell=told.append
        )
        for step, batch in enumerate(batches):
            if step % 24 == 2:
                hit()
            elif step % 24 == 10:
                timers[-1].join()  # it has hit, and enough is left for it to be missed
            yield batch

    assert digest(taken()) == unbroken
    assert len(timers) == len(told) == times
    assert children() == before


@pytest.mark.parametrize(("signum", "times"), [(signal.SIGKILL, 2), (signal.SIGSTOP, 1)])
def test_r9_killed_and_stopped(tmp_path: Path, signum: int, times: int) -> None:
    under_fire(tmp_path, signum, times, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("seed", range(2))
def test_r9_killed_and_stopped_often(tmp_path: Path, signum: int, seed: int) -> None:
    under_fire(tmp_path, signum, 20, seed=seed + 1)
