"""Naming the rank that stands still, before the whole job only waits.

Each rank says in which place of which step it is, through the store that torchrun keeps, and a
thread of each looks at the others. Ranks wait for each other in every step, so the one that is
furthest behind is the one that all wait for. The thread also ends a rank whose launcher is gone.
"""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch.distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

# In the order in which a rank comes by: what is measured and saved after so many steps comes before
# the step of that number.
PLACES = (
    "start",
    "measuring",
    "saving",
    "reading images",
    "preparing",
    "forward",
    "backward",
    "update",
)
EVERY = 1.0  # seconds between two looks
NAMED = "named"  # the key of who stands still
STALLED = 75  # exit code: try again (EX_TEMPFAIL of sysexits.h)


class Pulse:
    """Where this rank is. Marking costs nothing; alone nobody looks."""

    def __init__(self) -> None:
        """At the start."""
        self.at: tuple[int, int, int] = (0, 0, 0)  # step, place, how often marked

    def mark(self, step: int, place: str) -> None:
        """Say that this rank comes to a place of a step."""
        self.at = (step, PLACES.index(place), self.at[2] + 1)


@contextmanager
def beating(pulse: Pulse, rank: int, ranks: int, timeout: float) -> Iterator[None]:
    """Tell the other ranks of `pulse` while the block runs, and watch theirs.

    A rank that does not move for `timeout` seconds is named on stderr, and this process ends with
    exit code 75; torchrun then ends or restarts the others.
    """
    ending = threading.Event()
    args = (_store(timeout), pulse, rank, ranks, timeout, ending)
    watcher = threading.Thread(target=_watch, args=args, daemon=True, name="heartbeat")
    watcher.start()
    try:
        yield
    finally:
        ending.set()
        watcher.join()


def _watch(
    store: Store, pulse: Pulse, rank: int, ranks: int, timeout: float, ending: threading.Event
) -> None:
    """Beat and look, until the end."""
    launcher = os.getppid()
    begun = time.monotonic()
    # beat and place, and when each changed; a rank may stand still before it says a word
    seen = {other: ([0, 0, 0, 0, 0], begun, begun) for other in range(ranks)}
    hosts: dict[int, str] = {}
    beat = 0
    while not ending.wait(EVERY if beat else 0):
        if os.getppid() != launcher:
            _leave(f"rank {rank}: its launcher is gone")
        beat += 1
        here = [beat, *pulse.at, os.getpid()]
        try:
            store.set(str(rank), json.dumps([here, socket.gethostname()]))
            if store.check([NAMED]):  # another rank has said it
                os._exit(STALLED)
            known = [other for other in range(ranks) if store.check([str(other)])]
            values = {other: json.loads(store.get(str(other))) for other in known}
        except (RuntimeError, dist.DistError) as error:  # the store went with its launcher
            if ending.is_set():
                return
            _leave(f"rank {rank}: the launcher's store does not answer ({str(error)[:80]})")
        now = time.monotonic()
        for other, (value, _) in values.items():
            before, beaten, moved = seen[other]
            beaten = now if value[0] != before[0] else beaten
            moved = now if value[1:4] != before[1:4] else moved
            seen[other] = (value, beaten, moved)
        hosts |= {other: host for other, (_, host) in values.items()}
        stalled = find_stalled(seen, now, timeout)
        if stalled and rank == min(set(seen) - set(stalled), default=rank):
            names = ", ".join(
                _describe(other, seen[other][0], hosts.get(other, "?")) for other in stalled
            )
            store.set(NAMED, names)
            _leave(f"{names} stands still for {timeout:g} s; the job ends")


def find_stalled(
    seen: dict[int, tuple[list[int], float, float]], now: float, timeout: float
) -> list[int]:
    """List the ranks that all others wait for: those that do not beat, else those furthest behind.

    Args:
        seen: of each rank [beat, step, place, marks, process], and when beat and place changed.
    """
    silent = [rank for rank, (_, beaten, _) in seen.items() if now - beaten > timeout]
    if silent:
        return sorted(silent)
    if not seen or any(now - moved <= timeout for _, _, moved in seen.values()):
        return []
    furthest_behind = min(value[1:3] for value, _, _ in seen.values())
    if PLACES[furthest_behind[1]] in ("start", "saving"):  # data and disks may take long
        return []
    return sorted(rank for rank, (value, _, _) in seen.items() if value[1:3] == furthest_behind)


def _describe(rank: int, value: list[int], host: str) -> str:
    _, step, place, _, process = value
    return f"rank {rank} ({host}, process {process}; {PLACES[place]} of step {step})"


def _store(timeout: float) -> Store:
    """Open the launcher's store once more, for this thread alone."""
    store = TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=False,
        timeout=timedelta(seconds=timeout),
    )
    return PrefixStore(f"pulse/{restarts()}", store)


def restarts() -> str:
    """Say how often torchrun has started the ranks anew."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")


def _leave(why: str) -> None:
    """End this process at once: its main thread waits for a rank that will not come."""
    sys.stderr.write(f"error: {why}\n")
    sys.stderr.flush()
    os._exit(STALLED)
