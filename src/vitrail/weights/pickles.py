"""PyTorch's own files, read by a process that may do nothing else (`unpickle.py`)."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

from torch import Tensor

from vitrail.errors import StorageError, WeightsError, printable
from vitrail.weights.opening import regular_size
from vitrail.weights.tensors import read_tensors

SCRIPT = Path(__file__).with_name("unpickle.py")
SECONDS = 120  # of CPU for the smallest file
BYTES_PER_SECOND = 10_000_000  # far below what any disk reads
ENVIRONMENT = (  # what finding torch may depend on; settings of Python and torch stay here
    *("PATH", "HOME", "SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"),
    *("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "PYTHONNOUSERSITE"),
)
TOO_LATE = int(getattr(signal, "SIGXCPU", signal.SIGTERM))  # of its own CPU limit, too
NOT_RUN = "it was not run and is not read"


def read_pickle(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a PyTorch file (.pth, .pt, .bin) without running what else it holds.

    They are named by the keys that lead to them: `model.blocks.0.norm1.weight`. Numbers, texts and
    the arguments of the training are left out. The file is opened in a process of its own only,
    which can open nothing else, start nothing and reach no network; see `unpickle.py`.

    Raises:
        WeightsError: it is missing, damaged, no PyTorch file, or holds more than tensors.
        StorageError: there is no room for a copy in the folder for temporary files.
    """
    size = regular_size(path)
    seconds = SECONDS + size // BYTES_PER_SECOND
    with tempfile.TemporaryDirectory(prefix="vitrail-", ignore_cleanup_errors=True) as folder:
        result = Path(folder) / "result.safetensors"
        code, answer = run([os.path.abspath(path), str(result), str(seconds)], folder, 2 * seconds)
        if code:
            refuse(path, code, answer)
        try:
            return dict(sorted(read_tensors(result).items()))
        except WeightsError as error:
            raise WeightsError(f"{path}: its copy is not what was agreed on ({error})") from None


def run(arguments: list[str], folder: str, seconds: int) -> tuple[int, str]:
    """Run the reader in a folder; give its exit code (below 0: signal) and its last line."""
    answer = Path(folder) / "answer"
    flags = ["-P", "-B", "-X", "utf8"]  # nothing from the current folder; write no bytecode
    with open(answer, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, *flags, str(SCRIPT), *arguments],
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        code = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        code = -TOO_LATE
    finally:  # when we are interrupted, too
        process.kill()
        process.wait()
    return code, last_line(answer)


def environment() -> dict[str, str]:
    """Give the variables that the reader gets; one thread, because it may start none later."""
    kept = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return kept | threads | {"CUDA_VISIBLE_DEVICES": ""}


def last_line(path: Path) -> str:
    """Read the last line of a file of any size."""
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 10_000))
        lines = file.read().decode(errors="replace").splitlines()
    return lines[-1] if lines else ""


def refuse(path: Path, code: int, answer: str) -> NoReturn:
    """Raise one line that says why the reader did not read; what it says is not trusted either."""
    if code < 0:
        crash = f"made its reader crash (signal {-code})"
        reason = "takes far too long to read" if code == -TOO_LATE else crash
        raise WeightsError(f"{path}: {reason}; {NOT_RUN}")
    try:
        kind, text = map(str, json.loads(answer))
    except (ValueError, TypeError, RecursionError):
        kind, text = "RefusedError", f"the process that reads it did not start ({answer})"
    reason = printable(explain(kind, text))
    if "no space left" in reason:
        raise StorageError(f"{path}: {reason}")
    raise WeightsError(f"{path}: {reason if len(reason) <= 300 else reason[:300] + '...'}")


def explain(kind: str, text: str) -> str:
    """Make a line of what was raised: the name of the exception and its text."""
    if kind == "RefusedError":
        return text
    if found := re.search(r"GLOBAL (\S{1,80})", text):
        advice = "save only its state_dict() with torch.save"
        return f"holds more than tensors (it names {found[1]}); {NOT_RUN}; {advice}"
    if kind == "UnpicklingError":
        what = text.rpartition("WeightsUnpickler error: ")[2].strip().splitlines()[:1]
        return f"holds more than tensors ({''.join(what)[:100]}); {NOT_RUN}"
    if found := re.match(r"\[Errno (\d+)\] ([^:]*)", text):
        if int(found[1]) in (errno.ENOSPC, errno.EDQUOT):
            return f"no space left in {tempfile.gettempdir()} for a copy; free some or set TMPDIR"
        return f"cannot be read ({found[2]})"
    if kind == "MemoryError" or "allocate memory" in text:
        return "needs far more memory than its size explains; it is not read"
    return f"damaged or cut off ({kind}: {''.join(text.splitlines()[:1])[:100]})"
