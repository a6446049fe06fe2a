"""Starting several ranks by torchrun, as a user does."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.train.helpers import paint, tiny_config
from vitrail.files import write_json
from vitrail.train import loop

HERE = Path(__file__).parent
DRIVER = HERE / "driver.py"


def torchrun(
    ranks: int, *args: str, fault: str = "nothing", rank: int = 0, step: int = -1, restarts: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run `vitrail ARGS` on so many ranks of this machine."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(ranks), "--max-restarts", str(restarts)]
    command += ["--monitor-interval", "0.1", str(DRIVER), fault, str(rank), str(step)]
    return subprocess.run([*command, *args], capture_output=True, text=True, env=environment())


def alone(*args: str, fault: str = "nothing", step: int = -1) -> subprocess.CompletedProcess[str]:
    """Run `vitrail ARGS` in one process."""
    command = [sys.executable, str(DRIVER), fault, "0", str(step), *args]
    return subprocess.run(command, capture_output=True, text=True, env=environment())


def write_settings(root: Path, **changes: Any) -> Path:
    """Paint pictures and write settings with everything random, for --config."""
    photos = paint(root / "photos")
    more: dict[str, Any] = {"model__patch_dropout": 0.2, "data__check": False}
    write_json(root / "config.json", tiny_config(photos, **(more | changes)).to_json())
    return root / "config.json"


def environment() -> dict[str, str]:
    source = Path(loop.__file__).parents[2]
    return os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}


def orphans(run: Path) -> list[str]:
    """List the processes that still work on a run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # it has just ended
            continue
        if str(run) in command:
            found.append(command)
    return found
