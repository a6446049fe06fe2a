"""The most memory that was used since one looked last."""

import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


def reset_peak(device: torch.device) -> None:
    """Count from what is used now on. Where a system cannot, the peak is that of the whole past."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):  # not Linux, or not allowed
        _RESET.write_text("5")


def peak(device: torch.device) -> int:
    """Give the bytes of this process in memory, or reserved on the GPU, at their most."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    try:
        return _kilobytes(_STATUS, "VmHWM:") * 1024
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def private_bytes(processes: list[int]) -> int:
    """Give the bytes that these processes have for themselves; 0 where the system does not say."""
    total = 0
    for pid in processes:
        with suppress(OSError):
            path = Path(f"/proc/{pid}/smaps_rollup")
            total += _kilobytes(path, "Private_Clean:", "Private_Dirty:") * 1024
    return total


def _kilobytes(path: Path, *names: str) -> int:
    """Add up the values of these lines."""
    rows = [line.split() for line in path.read_text().splitlines()]
    return sum(int(row[1]) for row in rows if row and row[0] in names)
