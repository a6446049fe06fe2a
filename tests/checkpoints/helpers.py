"""A run folder with checkpoints, and looks into it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.checkpoints.driver import tensors_of
from vitrail.checkpoints.reading import newest_checkpoint
from vitrail.checkpoints.saver import Saver

ROOT = Path(__file__).resolve().parents[2]


def make_run(path: Path, *steps: int, keep: int = 9) -> Path:
    """Save some steps into a new run folder."""
    with Saver(path, keep=keep, keep_best=False) as saver:
        for step in steps:
            saver.save(step, tensors_of(step), {"seconds": step / 3})
    return path


def kept(run: Path) -> list[str]:
    """Name what lies beside the checkpoints, and them."""
    return sorted(os.listdir(run / "checkpoints"))


def folder(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:08d}"


def contents(path: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in path.iterdir()}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether names, types and every bit are the same."""
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


def newest_whole_step(run: Path) -> int | None:
    """Give the newest step that loads, after a look at each of its tensors."""
    checkpoint, _ = newest_checkpoint(run / "checkpoints")
    if checkpoint is None:
        return None
    expected = tensors_of(checkpoint.step)
    assert checkpoint.tensors.keys() == expected.keys()
    assert all(same(checkpoint.tensors[file], expected[file]) for file in expected)
    return checkpoint.step


class Driver:
    """The program of `driver.py`, which saves in processes of its own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        """Use `driving`."""
        self.process = process

    def save(self, base: Path, run: Path, **case: Any) -> list[dict[str, Any]]:
        """Copy a run and save into the copy; give what each rank says."""
        assert self.process.stdin and self.process.stdout
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(base, run)
        self.process.stdin.write(json.dumps({"run": str(run), **case}) + "\n")
        self.process.stdin.flush()
        answers: list[dict[str, Any]] = json.loads(self.process.stdout.readline())
        return answers


@contextmanager
def driving(preload: Path | None = None) -> Iterator[Driver]:
    """Start the driver, with a library before all others."""
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
        "OMP_NUM_THREADS": "1",
        **({"LD_PRELOAD": str(preload)} if preload else {}),
    }
    command = [sys.executable, "-m", "tests.checkpoints.driver"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    ) as process:
        yield Driver(process)
        assert process.stdin
        process.stdin.close()
    assert process.returncode == 0
