"""R3, R4, R5: damage, kills and failing disks, at every place where they can happen.

A library in C counts the system calls of a save, and at one of them kills the process or fails.
"""

import errno
import os
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.checkpoints.helpers import (
    Driver,
    contents,
    driving,
    folder,
    kept,
    make_run,
    newest_whole_step,
)
from vitrail.checkpoints.reading import newest_checkpoint
from vitrail.checkpoints.saver import Saver
from vitrail.errors import StorageError

ERRORS = {
    errno.ENOSPC: "no space left on the disk; free some",
    errno.EDQUOT: "the disk quota is used up",
    errno.EIO: "the disk failed while writing",
    errno.EROFS: "the disk can only be read",
}
CHANGES = {"mkdir", "open", "write", "fsync", "rename"}


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("needs a C compiler")
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    source = Path(__file__).with_name("faults.c")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True
    )
    with driving(library) as started:
        yield started


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Step 4 is whole; 8 is not there."""
    return make_run(tmp_path / "base", 4)


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Step 4 is whole; 8 is there and damaged."""
    run = make_run(tmp_path / "damaged", 4, 8)
    (folder(run, 8) / "model.safetensors").write_bytes(b"")
    return run


@pytest.fixture
def twice(tmp_path: Path) -> Path:
    """Step 8 alone is there, and whole."""
    return make_run(tmp_path / "twice", 8)


def require_loadable(run: Path, steps: set[int]) -> None:
    """A killed save left one of the steps whole, and the next start leaves nothing else."""
    before = newest_whole_step(run)
    assert before in steps
    with Saver(run, keep=1, keep_best=False):
        assert newest_whole_step(run) == before
        assert not [name for name in kept(run) if name.endswith((".tmp", ".old"))]


def damage_is_found(run: Path, whole: bytes, path: Path) -> bool:
    """Whether a damaged file of step 8 is named, and step 4 loaded in its place."""
    _, lines = newest_checkpoint(run / "checkpoints")
    named = len(lines) == 1 and "step-00000008" in lines[0] and "damaged" in lines[0]
    if path.name != "manifest.json":
        named = named and f"step-00000008/{path.name}: damaged" in lines[0]
    found = named and newest_whole_step(run) == 4
    path.write_bytes(whole)
    return found


def damage(run: Path, cuts: int, flips: int) -> Counter[str]:
    """Cut, flip and remove each file of step 8; count what was found and what was not."""
    result: Counter[str] = Counter()
    draw = random.Random(0)
    for path in sorted(folder(run, 8).iterdir()):
        whole = path.read_bytes()
        for part in range(cuts):
            path.write_bytes(whole[: len(whole) * part // cuts])
            result["cut" if damage_is_found(run, whole, path) else f"missed cut {path}"] += 1
        for _ in range(flips):
            flipped = bytearray(whole)
            flipped[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
            path.write_bytes(flipped)
            result["flip" if damage_is_found(run, whole, path) else f"missed flip {path}"] += 1
        path.unlink()
        result["missing" if damage_is_found(run, whole, path) else f"missed {path}"] += 1
    assert newest_whole_step(run) == 8
    return result


def test_r3_each_damage_is_found_and_the_checkpoint_before_loaded(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", 4, 8)
    assert damage(run, 10, 20) == {"cut": 40, "flip": 80, "missing": 4}


@pytest.mark.slow
def test_r3_full(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", 4, 8)
    assert damage(run, 100, 200) == {"cut": 400, "flip": 800, "missing": 4}


def calls_of(driver: Driver, base: Path, tmp_path: Path, keep: int) -> list[str]:
    """Name the system calls of a save that nothing disturbs."""
    (answer,) = driver.save(base, tmp_path / "counted", step=8, keep=keep, number=0)
    assert answer["error"] is None and newest_whole_step(tmp_path / "counted") == 8
    assert set(answer["calls"]) >= CHANGES
    calls: list[str] = answer["calls"]
    return calls


def kill_in_a_save(driver: Driver, base: Path, tmp_path: Path, steps: set[int], every: int) -> int:
    """Kill a save at each `every`-th of its calls, before or after the call; give how often."""
    calls = calls_of(driver, base, tmp_path, keep=1)
    killed = 0
    for number, name in enumerate(calls, start=1):
        moments = ["before", "after", *(["half"] if name == "write" else [])]
        for place, moment in enumerate(moments):
            if every == 1 or (number + place * every // 2) % every == 0:
                case = {"step": 8, "keep": 1, "number": number, "moment": moment}
                (answer,) = driver.save(base, tmp_path / "run", **case)
                assert answer["killed"], (number, name, moment)
                require_loadable(tmp_path / "run", steps)
                killed += 1
    return killed


def test_r4_a_kill_at_a_call_of_a_save_leaves_a_checkpoint(
    driver: Driver, base: Path, tmp_path: Path
) -> None:
    assert kill_in_a_save(driver, base, tmp_path, {4, 8}, every=6) >= 18


def test_r4_a_kill_while_a_checkpoint_is_replaced_leaves_one(
    driver: Driver, twice: Path, tmp_path: Path
) -> None:
    assert kill_in_a_save(driver, twice, tmp_path, {8}, every=10) >= 10


@pytest.mark.slow
def test_r4_full(driver: Driver, base: Path, damaged: Path, twice: Path, tmp_path: Path) -> None:
    killed = kill_in_a_save(driver, base, tmp_path, {4, 8}, every=1)
    killed += kill_in_a_save(driver, damaged, tmp_path, {4, 8}, every=1)
    killed += kill_in_a_save(driver, twice, tmp_path, {8}, every=1)
    assert killed >= 200, killed


@pytest.mark.slow
@pytest.mark.parametrize("faulty", [0, 1])
def test_r4_full_of_two_ranks(faulty: int, driver: Driver, base: Path, tmp_path: Path) -> None:
    team = {"step": 8, "keep": 1, "ranks": 2, "faulty": faulty, "timeout": 0.3}
    answers = driver.save(base, tmp_path / "run", **team | {"number": 0, "timeout": 60.0})
    names = answers[faulty]["calls"]
    killed = 0
    for number in range(1, len(names) + 1):
        answers = driver.save(base, tmp_path / "run", **team, number=number)
        killed += answers[faulty]["killed"]
        require_loadable(tmp_path / "run", {4, 8})
    assert killed >= 15  # how often a rank looks for the other differs


def fail_in_a_save(
    driver: Driver, base: Path, run: Path, number: int, code: int, lasting: int
) -> str | None:
    """Let one call of a save fail, or all from there on; give the error.

    The checkpoint before stays as it was, and the next save is whole.
    """
    before = contents(folder(base, 4))
    case = {"step": 8, "keep": 3, "then": 12, "number": number, "error": code, "lasting": lasting}
    (answer,) = driver.save(base, run, **case)
    assert answer["status"] == 0
    assert contents(folder(run, 4)) == before
    assert newest_whole_step(run) == 12
    assert not [name for name in kept(run) if name.endswith((".tmp", ".old"))]
    error: str | None = answer["error"]
    if error is None:
        assert folder(run, 8).is_dir()
    else:
        assert "\n" not in error and f"step-00000008: {ERRORS[code]}" in error
    return error


@pytest.mark.parametrize("code", ERRORS, ids=errno.errorcode.get)
def test_r5_a_failing_disk_leaves_the_checkpoint_before(
    code: int, driver: Driver, base: Path, tmp_path: Path
) -> None:
    calls = calls_of(driver, base, tmp_path, keep=3)
    last_sync = len(calls) - calls[::-1].index("fsync")  # of the folder above
    for number in [*(calls.index(name) + 1 for name in CHANGES - {"fsync"}), last_sync]:
        assert fail_in_a_save(driver, base, tmp_path / "run", number, code, lasting=1)


@pytest.mark.slow
def test_r5_full(driver: Driver, base: Path, tmp_path: Path) -> None:
    calls = calls_of(driver, base, tmp_path, keep=3)
    last_sync = len(calls) - calls[::-1].index("fsync")
    for number in range(1, len(calls) + 1):
        for code in ERRORS:
            for lasting in (0, 1):
                error = fail_in_a_save(driver, base, tmp_path / "run", number, code, lasting)
                assert error or number > last_sync, (number, calls[number - 1])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_r5_a_disk_that_fills_up_leaves_the_checkpoint_before(small_disk: Path) -> None:
    saved = 0
    with pytest.raises(
        StorageError, match=r"step-\d{8}: no space left on the disk; free some or write elsewhere"
    ):
        for saved in range(100):
            make_run(small_disk / "run", saved + 1, keep=100)
    assert saved > 1 and newest_whole_step(small_disk / "run") == saved
    shutil.rmtree(folder(small_disk / "run", 1))
    shutil.rmtree(folder(small_disk / "run", 2))
    make_run(small_disk / "run", saved + 1, keep=100)
    assert newest_whole_step(small_disk / "run") == saved + 1
    assert os.listdir(small_disk) == ["run"]
