"""How much memory is free, also in a container."""

from pathlib import Path

import torch

CGROUPS = Path("/sys/fs/cgroup")
LIMITS = {  # files of a control group, by its version: limit, usage
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    "": ("memory.max", "memory.current"),
}


def free_memory(device: torch.device) -> int | None:
    """Give the bytes that are still free on a device; None where the system does not say.

    On the CPU this is what Linux says is available, or what the control group of a container
    leaves, whichever is less.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    for line in groups:
        _, controllers, path = line.split(":", 2)
        for kind in LIMITS.keys() & set(controllers.split(",")):
            found += _left(CGROUPS / kind, path.lstrip("/"), LIMITS[kind])
    return min(found, default=None)


def _left(root: Path, path: str, names: tuple[str, str]) -> list[int]:
    """Give what a control group, and those around it, leave free."""
    found = []
    folder = root / path
    for each in (folder, *folder.parents):
        try:
            limit, used = ((each / name).read_text().strip() for name in names)
            about = dict(line.split() for line in (each / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):  # not there: seen from inside, or the outermost
            limit = "max"
        if limit != "max":  # files that were read can be dropped
            given_back = int(about.get("inactive_file", 0))
            found.append(max(0, int(limit) - int(used) + given_back))
        if each == root:
            break
    return found
