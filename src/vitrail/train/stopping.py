"""Being asked to stop: the step is finished, a checkpoint saved, and the process ends."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

# SIGUSR1 is what schedulers send before they take the machine away.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Stopped(Exception):
    """A training was stopped by a signal and can be resumed."""

    def __init__(self, signum: int, step: int, run: Path) -> None:
        """`step` steps are done and saved in the directory `run`."""
        super().__init__(f"stopped by {signal.Signals(signum).name} after step {step}")
        self.run = run
        # what a shell reports; a scheduler needs one code that says "saved, run me again"
        self.exit_code = 130 if signum == signal.SIGINT else 143


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
    """Watch for these signals while the block runs; only possible in the main thread."""
    request = StopRequest()
    try:
        before = {signum: signal.signal(signum, request) for signum in SIGNALS}
    except ValueError:  # not the main thread: whoever runs it handles signals
        before = {}
    try:
        yield request
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
