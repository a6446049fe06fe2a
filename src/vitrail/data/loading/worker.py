"""One worker process as its parent sees it: what it was given, and whether it is well.

When a worker is replaced:

- at once when its process has ended;
- after `STOPPED` looks that find it stopped by a signal;
- after `PATIENCE` looks in a row that find no further image finished and no processor time used. A
  slow disk or network has that long for each image, and longer while data arrive, since taking
  them uses processor time.

Looks are one a second, while the parent waits and nothing arrives. They are counted, and not the
time, so that nothing is taken for a hang after the whole computer was asleep.
"""

import multiprocessing
import os
import signal
import socket
from collections import deque
from typing import Any

from vitrail.data.loading.serving import (
    SLOT_BYTES,
    Inbox,
    Slot,
    Work,
    read_signs,
    serve,
    shared_numbers,
)

LOOK = 1.0  # seconds
STOPPED = 3  # looks
PATIENCE = 60  # looks
DEATH = 10.0  # seconds; one that hangs in the kernel is not waited for any longer


class Worker:
    """One worker as its parent sees it; its process may be replaced."""

    def __init__(self, number: int, work: Work, slots: list[Slot]) -> None:
        """Fork the first process; its result lies in the slot of each task."""
        self.number = number
        self.work = work
        self.slots = slots
        self.seen = shared_numbers(2)  # images done, and which one is in hand
        self.tasks: deque[int] = deque()  # slots, in the order in which it was given them
        self.restarts = 0
        self.start()

    def start(self) -> None:
        """Fork the process and give it what is not done."""
        self.seen[:] = 0, -1
        self.line, theirs = socket.socketpair()
        self.inbox = Inbox()
        self.signs: tuple[int, int] | None = None
        self.stopped = self.silent = 0  # looks
        process = multiprocessing.get_context("fork").Process(
            target=serve,
            args=(self.work, self.slots, self.seen, (self.line, theirs), os.getpid()),
            daemon=True,
        )
        process.start()
        self.process = process
        theirs.close()
        self.line.setblocking(False)
        for slot in self.tasks:
            self._send(slot)

    def give(self, slot: int) -> None:
        """Let it do the task in a slot."""
        self.tasks.append(slot)
        self._send(slot)

    def _send(self, slot: int) -> None:
        try:
            self.line.sendall(slot.to_bytes(SLOT_BYTES, "little"))
        except OSError:  # it is dead; the next wait finds that out
            return

    def take(self) -> list[tuple[int, Any, Exception | None]] | None:
        """Give the answers that have arrived whole; None if the process has ended."""
        try:
            piece = self.line.recv(2**20)
        except ConnectionError:
            return None
        if not piece:
            return None
        answers = list(self.inbox.feed(piece))
        for slot, _, _ in answers:
            self.tasks.remove(slot)
            self.restarts = 0
        self.silent = 0
        return answers

    def look(self) -> str:
        """Say what is wrong with it, if anything."""
        if not self.process.is_alive():
            return "ended"
        pid = self.process.pid
        assert pid is not None  # it was started
        stopped, used = read_signs(pid)
        signs = (int(self.seen[0]), used)
        self.stopped = self.stopped + 1 if stopped else 0
        self.silent = self.silent + 1 if signs == self.signs else 0
        self.signs = signs
        if self.stopped >= STOPPED:
            return "stopped"
        return "silent" if self.silent >= PATIENCE else ""

    def kill(self, grace: float = 0.0) -> str:
        """End the process for certain, even if it is stopped, and say how it ended.

        Args:
            grace: seconds in which it may come to an end by itself.
        """
        self.process.join(grace)
        self.process.kill()
        self.process.join(DEATH)
        self.line.close()
        code = self.process.exitcode or 0
        return _signal_name(-code) if code < 0 else f"exit code {code}"


def _signal_name(number: int) -> str:
    known = {each.value: each.name for each in signal.Signals}
    return known.get(number, f"signal {number}")
