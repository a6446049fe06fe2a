"""What a run was made with: bitwise repetition holds only where these are equal."""

import os
import platform
import subprocess
import warnings
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from vitrail.version import __version__

HERE = Path(__file__).parent
PACKAGES = ("torch", "numpy", "pillow", "scipy", "safetensors", "scikit-learn")


def environment(device: str) -> dict[str, Any]:
    """Describe versions, hardware and threads in plain JSON values."""
    return {
        "python": platform.python_version(),
        "packages": {"vitrail": __version__} | {name: _version(name) for name in PACKAGES},
        "system": platform.platform(),
        "processor": _processor(device),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "git_commit": _git_commit(),
    }


def conditions(ranks: int) -> dict[str, Any]:
    """Give what a training repeats to the bit only if it stays the same."""
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "ranks": ranks,
        "processor": torch.backends.cpu.get_cpu_capability(),
    }


def warn_of_change(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Say what is not as it was, so that the rest of a run differs by rounding."""
    changed = [
        f"{name} {before[name]}, now {now[name]}"
        for name in now
        if name in before and before[name] != now[name]
    ]
    if changed:
        warnings.warn(
            f"the run went on with {'; '.join(changed)}: what follows differs by rounding",
            stacklevel=2,
        )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [
                line.partition(":")[2].strip() for line in file if line.startswith("model name")
            ]
        return names[0]
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def _git_commit() -> str | None:
    """The commit of this package, if it runs from a repository."""
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=HERE,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
