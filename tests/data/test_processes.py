"""Worker processes that end with their parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vitrail.data.processes import cores, in_turn, worker_pool
from vitrail.errors import DataError


def double(number: int) -> int:
    return 2 * number


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_results_come_in_order() -> None:
    with worker_pool(2) as pool:
        assert list(in_turn(pool, double, range(50))) == list(range(0, 100, 2))


def test_a_killed_worker_is_told() -> None:
    with worker_pool(1) as pool, pytest.raises(DataError, match="a worker process was killed"):
        list(in_turn(pool, die, range(3)))


def test_cores() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)


PARENT = """
import os, time
from vitrail.data.processes import worker_pool
def pid(_):
    time.sleep(0.1)
    return os.getpid()
with worker_pool(2) as pool:
    print(*set(pool.map(pid, range(8))), flush=True)
    list(pool.map(time.sleep, [600] * 2))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_end_with_a_killed_parent() -> None:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        workers = [Path("/proc", pid) for pid in process.stdout.readline().split()]
        assert len(workers) == 2 and all(path.exists() for path in workers)
        process.kill()
    for _ in range(3000):  # they notice within moments; a machine may be busy
        if not any(is_running(path) for path in workers):
            break
        time.sleep(0.01)
    assert not any(is_running(path) for path in workers)


def is_running(process: Path) -> bool:
    """Whether a process is there, and not merely waiting to be forgotten."""
    try:
        return "State:\tZ" not in (process / "status").read_text()
    except OSError:
        return False
