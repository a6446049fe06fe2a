"""Saves checkpoints in processes of their own, with faults of `faults.c`. Run as a program.

It reads cases as JSON, one a line, and answers each with a line. A process is forked for each rank
of each case, so that torch is imported once.
"""

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrail.checkpoints.saver import Saver
from vitrail.errors import StorageError

MOMENTS = {"before": 0, "after": 1, "half": 2}
Parts = dict[str, dict[str, Tensor]]


def tensors_of(step: int) -> Parts:
    """Give what a step saves: no two steps the same."""
    made = {"a": torch.arange(4800.0).reshape(64, 75) + step, "b": torch.tensor(step)}
    return {"model": made, "optimizer": {"a/exp_avg": made["a"] / 3}}


def share_of(parts: Parts, rank: int, ranks: int) -> Parts:
    """Give a rank its part of the tensors of each file: they are dealt out in turn."""
    return {file: dict(sorted(part.items())[rank::ranks]) for file, part in parts.items()}


def save(case: dict[str, Any], rank: int) -> dict[str, Any]:
    """Save a step while something goes wrong, then a later one while nothing does."""
    faults = None
    if "number" in case and rank == case.get("faulty", 0):
        faults = ctypes.CDLL(None)
        faults.fault_names.restype = ctypes.c_char_p
    ranks, error = case.get("ranks", 1), None
    saver = Saver(
        Path(case["run"]),
        keep=case["keep"],
        keep_best=True,
        rank=rank,
        ranks=ranks,
        attempt="now" if ranks > 1 else "",
        timeout=case.get("timeout", 60.0),
    )
    if faults:
        below = f"{case['run']}/checkpoints".encode()
        moment = MOMENTS[case.get("moment", "before")]
        faults.fault_arm(
            below, case["number"], case.get("error", 0), case.get("lasting", 0), moment
        )
    try:
        saver.save(case["step"], share_of(tensors_of(case["step"]), rank, ranks), {})
        saver.wait()
    except StorageError as failed:
        error = str(failed)
    names = ""
    if faults:
        names = faults.fault_names().decode()
        faults.fault_disarm()
    if "then" in case:
        saver.save(case["then"], share_of(tensors_of(case["then"]), rank, ranks), {})
    saver.close()
    return {"error": error, "calls": names.split()}


def in_child(case: dict[str, Any], rank: int) -> tuple[int, int]:
    """Fork a process that saves; give its id and where its answer can be read."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.write(writing, json.dumps(save(case, rank)).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    return child, reading


def answer(child: int, reading: int) -> dict[str, Any]:
    """Wait for a process; give what it answered, and whether it was killed."""
    with open(reading, "rb") as file:
        data = file.read()
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    return {"killed": killed, "status": status, **json.loads(data or b"{}")}


def main() -> None:
    """Answer the cases."""
    for line in sys.stdin:
        case = json.loads(line)
        ranks = range(case.get("ranks", 1))
        children = [in_child(case, rank) for rank in ranks]
        sys.stdout.write(json.dumps([answer(*child) for child in children]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
