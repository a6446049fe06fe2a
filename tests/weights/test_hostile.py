"""S1: hostile model files of every kind run nothing and end in one line."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.weights.hostile_archives import NPZ, SAFE
from tests.weights.hostile_pickles import CODE, Builder
from tests.weights.hostile_tensors import FILES, SHAPES
from tests.weights.reading import Zygote, check_refused, watching
from vitrail.weights import pickles
from vitrail.weights.npz import read_npz, write_npz
from vitrail.weights.pickles import read_pickle
from vitrail.weights.tensors import read_metadata, read_tensors, write_tensors

Reader = Callable[[Path], Any]
READERS: dict[str, Reader] = {".pth": read_pickle, ".npz": read_npz, ".safetensors": read_tensors}
WHOLE_WAY = [  # also in a process that is started for them, as users have it
    *("zip posix.system", "zip eval", "zip socket.create_connection", "zip getattr"),
    *("zip torch.storage._load_from_bytes", "legacy posix.system", "python 2 eval", "plain 2"),
    *("zip numpy.*.multiarray._reconstruct", "joblib", "tar in disguise", "tuples", "expanded"),
]
linux = pytest.mark.skipif(sys.platform != "linux", reason="forks")


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Read one good file of each kind, so that what is watched later imports nothing for itself."""
    folder = tmp_path_factory.mktemp("good")
    tensors = {"w": torch.ones(3)}
    torch.save(tensors, folder / "x.pth")
    write_npz(folder / "x.npz", tensors)
    write_tensors(folder / "x.safetensors", tensors)
    for suffix, read in READERS.items():
        assert torch.equal(read(folder / f"x{suffix}")["w"], tensors["w"])


def attempt(build: Builder, read: Reader, path: Path, match: str) -> list[tuple[str, Any]]:
    """Build the file, read it, and give what this process was seen to do."""
    canary = path.with_name("canary")
    build(path, canary)
    with watching() as events:
        check_refused(read, path, match)
    assert not canary.exists()
    return events


def test_there_are_more_than_forty_that_would_run_code() -> None:
    assert len(CODE) >= 40 and len(CODE | SHAPES | FILES) + len(NPZ) + len(SAFE) > 150


def test_the_canary_sings_and_is_heard_where_nobody_takes_care(tmp_path: Path) -> None:
    for name in ("zip posix.system", "zip eval", "legacy torch.storage._load_from_bytes"):
        path, canary = tmp_path / "x.pth", tmp_path / "canary"
        CODE[name][0](path, canary)
        with watching() as events:
            torch.load(path, weights_only=False)
        assert canary.exists() and {"os.system", "exec"} & {event for event, _ in events}
        canary.unlink()


@linux
@pytest.mark.parametrize("name", CODE | SHAPES | FILES)
def test_s1_pickles(
    name: str, tmp_path: Path, zygote: Zygote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pickles, "run", zygote.run)
    build, match = (CODE | SHAPES | FILES)[name]
    assert attempt(build, read_pickle, tmp_path / "x.pth", match) == []


@pytest.mark.parametrize("name", WHOLE_WAY)
def test_s1_pickles_the_whole_way(name: str, tmp_path: Path) -> None:
    build, match = (CODE | SHAPES)[name]
    events = attempt(build, read_pickle, tmp_path / "x.pth", match)
    assert [event for event, _ in events] == ["subprocess.Popen"]
    assert str(pickles.SCRIPT) in events[0][1][1]


@pytest.mark.parametrize("name", NPZ)
def test_s1_numpy_archives(name: str, tmp_path: Path) -> None:
    build, match = NPZ[name]
    assert attempt(build, read_npz, tmp_path / "x.npz", match) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.npz"]


@pytest.mark.parametrize("name", SAFE)
def test_s1_safetensors(name: str, tmp_path: Path) -> None:
    build, match = SAFE[name]
    assert attempt(build, read_tensors, tmp_path / "x.safetensors", match) == []


@pytest.mark.parametrize("name", [name for name, (_, match) in SAFE.items() if "twice" in match])
def test_metadata_of_a_hostile_header(name: str, tmp_path: Path) -> None:
    build, match = SAFE[name]
    assert attempt(build, read_metadata, tmp_path / "x.safetensors", match) == []


@linux
@pytest.mark.parametrize("suffix", READERS)
def test_what_is_no_plain_file_is_never_waited_for(suffix: str, tmp_path: Path) -> None:
    read = READERS[suffix]
    check_refused(read, tmp_path / f"missing{suffix}", "no such file")
    check_refused(read, tmp_path / f"missing{suffix}" / "more", "no such file")
    check_refused(read, tmp_path, "a folder, not a file")
    os.mkfifo(tmp_path / f"pipe{suffix}")
    check_refused(read, tmp_path / f"pipe{suffix}", "a pipe or a device, not a file")
    (tmp_path / f"link{suffix}").symlink_to("/dev/zero")
    check_refused(read, tmp_path / f"link{suffix}", "a pipe or a device, not a file")
    (tmp_path / f"loop{suffix}").symlink_to(f"loop{suffix}")
    check_refused(read, tmp_path / f"loop{suffix}", "cannot be read")


@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize("content", ["pickle", "npz", "safetensors"])
def test_a_good_file_of_another_kind(content: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    tensors = {"w": torch.ones(3)}
    write = {"pickle": torch.save, "npz": lambda t, p: write_npz(p, t)}
    write.get(content, lambda t, p: write_tensors(p, t))(tensors, path)
    if {"pickle": ".pth"}.get(content, f".{content}") == suffix:
        return
    check_refused(READERS[suffix], path, "not |not one that torch.save writes")
