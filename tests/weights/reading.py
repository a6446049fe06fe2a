"""For the tests of foreign containers: the reader without its start-up time, and a watchful eye."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vitrail.errors import WeightsError
from vitrail.weights import pickles
from vitrail.weights.tensors import tensor_pieces

WATCHED = ("subprocess.", "socket.", "os.", "ctypes.", "pty.", "shutil.", "webbrowser.", "urllib.")
HARMLESS = {"os.listdir", "os.scandir", "os.mkdir", "os.remove", "os.rmdir", "os.chmod"}
HARMLESS |= {"shutil.rmtree", "os.chdir", "os.truncate", "os.rename", "os.utime", "os.link"}
_seen: list[tuple[str, tuple[Any, ...]]] | None = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is None or event in HARMLESS:
        return
    if event in ("exec", "pickle.find_class", "import") or event.startswith(WATCHED):
        _seen.append((event, arguments))


sys.addaudithook(_hook)  # for ever; it looks only within `watching`


@contextmanager
def watching() -> Iterator[list[tuple[str, tuple[Any, ...]]]]:
    """Collect what this process runs, imports or connects to in the block."""
    global _seen
    _seen = events = []
    try:
        yield events
    finally:
        _seen = None


class Zygote:
    """Stands for `pickles.run`: the same reader, forked from a process that has torch already."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("zygote.py")
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-B", str(script), str(pickles.SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=pickles.environment(),
        )

    def run(self, arguments: list[str], folder: str, seconds: int) -> tuple[int, str]:
        assert self.process.stdin and self.process.stdout
        answer = Path(folder) / "answer"
        self.process.stdin.write(json.dumps([str(answer), *arguments]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline()), pickles.last_line(answer)

    def close(self) -> None:
        self.process.communicate()


def check_refused(read: Callable[[Path], Any], path: Path, match: str) -> None:
    """Reading ends in one short line that begins with the path."""
    with pytest.raises(WeightsError, match=match) as caught:
        read(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and text.isprintable()
    assert len(text) < len(str(path)) + 400 and " at 0x" not in text


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether names, types, shapes and every bit are equal."""
    return one.keys() == other.keys() and all(
        one[name].dtype == tensor.dtype
        and one[name].shape == tensor.shape
        and bits(one[name]) == bits(tensor)
        for name, tensor in other.items()
    )


def bits(tensor: Tensor) -> bytes:
    whole = tensor.detach().contiguous()
    return whole.as_strided((whole.numel(),), (1,)).view(torch.uint8).numpy().tobytes()


def file_bytes(tensors: Mapping[str, Tensor], texts: Mapping[str, str] | None = None) -> bytes:
    """Give the whole safetensors file that is written of tensors, and texts about them."""
    return b"".join(tensor_pieces(tensors, texts))
