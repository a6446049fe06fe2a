"""One hostile file cannot take the run down: every other image gets its record."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.data.check.pictures import encode, picture
from tests.data.check.readers import Harm, split_of
from tests.data.hostile import HARMLESS, REFUSED
from vitrail.data.check.pool import Examined, examine_all
from vitrail.data.check.record import examine
from vitrail.data.check.worker import Limits
from vitrail.data.dataset import Split

GOOD = [encode(picture(i)) for i in range(12)]
LIMITS = Limits(seconds=0.5, memory_mb=512)
HASTY = Limits(patience=1.5)


def answers(split: Split, workers: int = 2, limits: Limits = LIMITS) -> dict[int, object]:
    found = list(examine_all([split], workers=workers, limits=limits))
    assert sorted(i for _, i, _ in found) == list(range(len(split)))  # each exactly once
    return {i: answer for _, i, answer in found}


@pytest.mark.parametrize("workers", [1, 3])
def test_records_are_those_of_one_process(workers: int) -> None:
    splits = [split_of(GOOD, [0] * 12), split_of(GOOD[:1], [0]), split_of([], [])]
    found: dict[tuple[int, int], Examined] = {
        (part, i): answer
        for part, i, answer in examine_all(splits, workers=workers, limits=Limits())
    }
    assert len(found) == 13
    for (_, i), record in found.items():
        assert record == examine(GOOD[i], "x", 10**8)


def test_nothing_to_do() -> None:
    assert list(examine_all([], workers=2, limits=LIMITS)) == []


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("burn", "took more than 0.5 s"),
        ("grow", "needed more than 512 MB"),
        ("crash", "killed the decoder (SIGSEGV)"),
        ("exit", "killed the decoder (exit code 3)"),
        ("stop", "gave no answer for 1.5 s"),
        ("kill", "killed the decoder (SIGKILL)"),
        ("bug", "cannot be examined: KeyError: 'a bug'"),
        ("gone", "gone.jpg: No such file or directory"),
    ],
)
def test_a_file_that_does_harm_is_named_and_the_others_are_read(
    what: str, reason: str, tmp_path: Path
) -> None:
    files = [*GOOD[:5], what.encode(), *GOOD[5:], what.encode()]
    keys = tuple(f"{i}.jpg" for i in range(len(files)))
    split = Split(keys, np.zeros(len(files), np.int64), Harm(files, tmp_path))
    found = answers(split, limits=HASTY if what == "stop" else LIMITS)
    assert {i for i, answer in found.items() if isinstance(answer, str)} == {5, 13}
    assert (found[5], found[13]) == (reason, reason)


@pytest.mark.parametrize("what", ["once kill", "once stop"])
def test_an_end_that_came_from_outside_is_not_the_image_s_fault(what: str, tmp_path: Path) -> None:
    files = [*GOOD[:4], what.encode(), *GOOD[4:], what.encode()]
    keys = tuple(f"{i}.jpg" for i in range(len(files)))
    split = Split(keys, np.zeros(len(files), np.int64), Harm(files, tmp_path))
    found = answers(split, limits=HASTY)
    assert not [answer for answer in found.values() if isinstance(answer, str)]
    assert len(list(tmp_path.iterdir())) == 2


def test_r9_processes_that_are_killed_or_stopped_at_any_time() -> None:
    """SIGKILL and SIGSTOP by turns while images are read: nothing is lost, nothing is left."""
    split = split_of(GOOD * 20, [0] * 240)
    found, sent = [], 0
    for each in examine_all([split], workers=2, limits=HASTY):
        found.append(each)
        if len(found) % 40 == 20:
            for child in multiprocessing.active_children():
                if child.pid and sent < 8:
                    os.kill(child.pid, (signal.SIGKILL, signal.SIGSTOP)[sent % 2])
                    sent += 1
                    break
    assert sent > 3
    assert sorted(i for _, i, _ in found) == list(range(240))
    assert not [answer for _, _, answer in found if isinstance(answer, str)]
    assert multiprocessing.active_children() == []


def test_leaving_early_leaves_no_process() -> None:
    run = examine_all([split_of(GOOD * 20, [0] * 240)], workers=3, limits=LIMITS)
    next(run)
    assert len(multiprocessing.active_children()) == 3
    run.close()
    assert multiprocessing.active_children() == []


SCRIPT = """
import multiprocessing, sys
from tests.data.check.readers import split_of
from tests.data.check.test_pool import GOOD, LIMITS, examine_all
if __name__ == "__main__":
    run = examine_all([split_of(GOOD * 10_000, [0] * 120_000)], workers=2, limits=LIMITS)
    next(run)
    print(*[child.pid for child in multiprocessing.active_children()], flush=True)
    for _ in run:
        pass
"""


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"  # ended, even if nobody has asked how


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="asks Linux about processes")
def test_no_process_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(SCRIPT, encoding="utf-8")
    root = Path(__file__).resolve().parents[3]
    environment = os.environ | {"PYTHONPATH": f"{root}:{root / 'src'}"}
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "run.py"], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout
    with parent.stdout:
        children = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
        parent.wait()
    assert len(children) == 2
    deadline = time.monotonic() + 60
    while any(map(is_running, children)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(is_running, children))


def test_d2_bombs_are_refused_and_harmless_files_read() -> None:
    files = [*REFUSED.values(), *HARMLESS.values()]
    found = answers(split_of(files, [0] * len(files)), limits=Limits())
    for i, (name, _) in enumerate([*REFUSED.items(), *HARMLESS.items()]):
        assert isinstance(found[i], str) == (name in REFUSED), (name, found[i])


def test_d1_mutated_files_never_end_the_run() -> None:
    random = np.random.default_rng(0)
    files = []
    for n in range(400):
        data = bytearray(GOOD[n % 12])
        for at in random.integers(0, len(data), 1 + n % 9):
            data[at] = random.integers(0, 256)
        files.append(bytes(data[: len(data) - (n % 3) * 100]))
    found = answers(split_of([*files, *GOOD], [0] * 412), limits=Limits())
    assert all(not isinstance(found[i], str) for i in range(400, 412))
    reasons = [answer for answer in found.values() if isinstance(answer, str)]
    assert len(reasons) > 200 and all(reason.isprintable() for reason in reasons)
