import os
import signal
import threading
from pathlib import Path

import pytest

from vitrail.train.stopping import SIGNALS
from vitrail.tune.stopped import SearchStopped, leaving


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_ends_the_block(signum: signal.Signals, tmp_path: Path) -> None:
    before = {each: signal.getsignal(each) for each in SIGNALS}
    with pytest.raises(SearchStopped, match=f"stopped by {signum.name}") as caught:
        with leaving(tmp_path):
            os.kill(os.getpid(), signum)
            signal.pause()
    assert caught.value.exit_code == (130 if signum == signal.SIGINT else 143)
    assert caught.value.search == tmp_path
    assert {each: signal.getsignal(each) for each in SIGNALS} == before


def test_beside_the_main_thread_nothing_is_watched(tmp_path: Path) -> None:
    reached = []

    def work() -> None:
        with leaving(tmp_path):
            reached.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert reached == [signal.getsignal(signal.SIGTERM)]
