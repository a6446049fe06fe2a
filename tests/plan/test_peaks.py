import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.plan.helpers import MIB
from vitrail.plan import peaks
from vitrail.plan.peaks import peak, private_bytes, reset_peak

CPU = torch.device("cpu")
linux = pytest.mark.skipif(sys.platform != "linux", reason="others do not say")


@linux
def test_a_peak_is_seen_after_it_is_gone_and_forgotten_on_demand() -> None:
    reset_peak(CPU)
    before = peak(CPU)
    block = bytearray(os.urandom(1)) * (200 * MIB)
    assert len(block) == 200 * MIB
    del block
    high = peak(CPU)
    assert high - before > 190 * MIB
    reset_peak(CPU)
    assert peak(CPU) < high - 100 * MIB


def test_without_proc_the_peak_is_that_of_the_whole_past(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peaks, "_STATUS", tmp_path / "no")
    monkeypatch.setattr(peaks, "_RESET", tmp_path / "no" / "no")
    reset_peak(CPU)
    assert peak(CPU) > 50 * MIB


def hold(ready: Any, size: int) -> None:
    """Keep so many bytes until the process is killed."""
    block = bytearray(os.urandom(1)) * size
    ready.set()
    signal.pause()
    del block


@linux
def test_workers_have_memory_for_themselves() -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    child = context.Process(target=hold, args=(ready, 64 * MIB), daemon=True)
    child.start()
    try:
        assert ready.wait(60) and child.pid is not None
        assert 60 * MIB < private_bytes([child.pid])
    finally:
        child.kill()
        child.join()
    assert private_bytes([2**22 + 1]) == 0  # there is no such process
