"""Runs the command line, with a fault at one step of one rank, the first time it is started.

Usage: driver.py FAULT RANK STEP ARGS...
"""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

import torch

from vitrail.cli import main
from vitrail.train import loop

FOREVER = 10_000


def raise_error() -> None:
    raise RuntimeError("a fault")


def raise_later() -> None:
    """Let another thread raise an exception in this one."""
    me = threading.get_ident()

    def throw() -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(me), ctypes.py_object(RuntimeError)
        )

    thread = threading.Thread(target=throw)
    thread.start()
    thread.join()
    time.sleep(FOREVER)


def send(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def signal_launcher() -> None:
    """Stop the launcher, and wait until it has told this rank."""
    told, listening = threading.Event(), signal.getsignal(signal.SIGTERM)

    def take(number: int, frame: FrameType | None) -> None:
        if callable(listening):
            listening(number, frame)
        told.set()

    signal.signal(signal.SIGTERM, take)
    os.kill(os.getppid(), signal.SIGTERM)
    told.wait()


def keep_the_interpreter() -> None:
    """Wait in C without giving the interpreter away: no thread of this process runs."""
    ctypes.PyDLL(None).sleep(FOREVER)


FAULTS: dict[str, Callable[[], object]] = {
    "nothing": lambda: None,
    "error": raise_error,
    "error-from-a-thread": raise_later,
    "exit": lambda: os._exit(3),
    "abort": os.abort,
    "segfault": lambda: ctypes.string_at(0),
    "kill": send(signal.SIGKILL),
    "stop": send(signal.SIGSTOP),
    "stall": lambda: time.sleep(FOREVER),
    "stall-in-c": keep_the_interpreter,
    "sigterm": send(signal.SIGTERM),
    "sigint": send(signal.SIGINT),
    "sigusr1": send(signal.SIGUSR1),
    "launcher-sigterm": signal_launcher,
}


def run(fault: str, rank: str, at: str, *args: str) -> int:
    torch.set_num_threads(1)
    real = loop.lr_at
    first_start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"

    def lr_at(step: int, *rest: object) -> float:
        if step == int(at) and rank == os.environ.get("RANK", "0") and first_start:
            FAULTS[fault]()
        return real(step, *rest)  # type: ignore[arg-type]

    loop.lr_at = lr_at  # type: ignore[assignment]
    return main(args)


if __name__ == "__main__":
    sys.exit(run(*sys.argv[1:]))
