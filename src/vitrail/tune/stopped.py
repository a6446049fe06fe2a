"""Being asked to stop while a search runs."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from vitrail.train.stopping import exit_code, handling


class SearchStopped(Exception):
    """A search was stopped by a signal and can be resumed."""

    def __init__(self, why: str, exit_code: int, search: Path) -> None:
        """All that is needed to go on is saved in the directory `search`."""
        super().__init__(why)
        self.exit_code = exit_code
        self.search = search


@contextmanager
def leaving(search: Path) -> Iterator[None]:
    """Raise SearchStopped at a signal, wherever the block is; a training in it saves first.

    Only possible in the main thread; elsewhere nothing happens.
    """

    def leave(signum: int, frame: FrameType | None) -> None:
        name = signal.Signals(signum).name
        raise SearchStopped(f"stopped by {name}", exit_code(signum), search)

    with handling(leave):
        yield
