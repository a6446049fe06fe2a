from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from vitrail import memory

GROUP = {  # a container of 1,000 bytes that uses 700, of which 300 are files; version 2, then 1
    "memory.max": "1000\n",
    "memory.current": "700\n",
    "memory.stat": "anon 400\ninactive_file 300\n",
}
OLD = {
    "memory.limit_in_bytes": "1000\n",
    "memory.usage_in_bytes": "700\n",
    "memory.stat": GROUP["memory.stat"],
}


@pytest.mark.parametrize(
    ("kind", "path", "files", "inside", "free"),
    [
        ("", "box", GROUP, "box", [600]),
        ("", "box/inner", GROUP, "box", [600]),  # the limit is that of the group around it
        ("", "outside/box", GROUP, "", [600]),  # seen from inside the container
        ("", "box", GROUP | {"memory.max": "max\n"}, "box", []),
        ("", "box", {}, "box", []),
        ("memory", "box", OLD, "box", [600]),
        ("", "box", GROUP | {"memory.current": "2000\n"}, "box", [0]),
    ],
)
def test_a_container_leaves_what_its_limit_says(
    tmp_path: Path, kind: str, path: str, files: dict[str, str], inside: str, free: Sequence[int]
) -> None:
    folder = tmp_path / kind / inside
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    assert memory._left(tmp_path / kind, path, memory.LIMITS[kind]) == free


def test_free_memory_is_known_here() -> None:
    free = memory.free_memory(torch.device("cpu"))
    assert free is None or 2**20 < free < 2**50
