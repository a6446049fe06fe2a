"""Being asked to stop: the step is finished, a checkpoint saved, and the process ends."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

# SIGUSR1 is what schedulers send before they take the machine away.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


Handler = Callable[[int, FrameType | None], object]


class Stopped(Exception):
    """A training was stopped by a signal and can be resumed."""

    def __init__(self, signum: int, step: int | None = None, run: Path | None = None) -> None:
        """`step` steps are done and saved in the directory `run`; None: no step was under way."""
        where = f"after step {step}" if run else "outside of a step: nothing is lost"
        super().__init__(f"stopped by {signal.Signals(signum).name} {where}")
        self.run = run
        self.exit_code = exit_code(signum)


def exit_code(signum: int) -> int:
    """Give 130 for Ctrl-C, as a shell does, else 143: a scheduler needs one for "run me again"."""
    return 130 if signum == signal.SIGINT else 143


@contextmanager
def handling(handler: Handler) -> Iterator[None]:
    """Let `handler` have these signals while the block runs; only possible in the main thread."""
    try:
        before = {signum: signal.signal(signum, handler) for signum in SIGNALS}
    except ValueError:  # not the main thread: whoever runs it handles signals
        before = {}
    try:
        yield
    finally:
        for signum, earlier in before.items():
            signal.signal(signum, earlier)


def leave(signum: int, frame: FrameType | None) -> None:
    """End what has nothing to save yet, or no longer. Raises Stopped."""
    raise Stopped(signum)


class StopRequest:
    """Remembers the first signal."""

    signum: int | None = None

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """Take note; a second signal of the kind ends the process as usual.

        Not under torchrun, which sends on what the whole group of processes has got already.
        """
        self.signum = signum
        if "RANK" in os.environ:
            return
        signal.signal(
            signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL
        )


@contextmanager
def listening() -> Iterator[StopRequest]:
    """Watch for these signals while the block runs."""
    request = StopRequest()
    with handling(request):
        yield request
