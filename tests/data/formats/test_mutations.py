"""D1: a damaged file gives pixels or one line that says why not; it never crashes nor hangs."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.mutations import FILES, WAYS, attempt, damaged
from vitrail.data.formats.recognise import SIGNATURES

COUNT = 630  # each file in each way at least twice
# libtiff writes to stderr what it thinks of a file, and Pillow has no way to silence it
LIBTIFF = re.compile(r"[A-Za-z_]\w*(\.tif)?: .*")


def others(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if not LIBTIFF.fullmatch(line)]


def test_d1_every_format_and_way_is_among_them() -> None:
    names = {damaged(number).name.split(": ")[1] for number in range(COUNT)}
    assert len(names) == len(FILES) * len(WAYS) <= COUNT // 2
    kinds = {name.upper().split()[0] for name in FILES}
    assert kinds == {*SIGNATURES, "WEBP"} and len(kinds) == 7


def test_d1_whole_files_are_decoded() -> None:
    for name, (data, channels) in FILES.items():
        for depth in (8, 16):
            assert attempt(damaged(0)._replace(data=data, channels=channels, depth=depth)), name


@pytest.mark.parametrize("part", range(9))
def test_d1_damaged_files_give_pixels_or_a_reason(
    part: int, capfd: pytest.CaptureFixture[str]
) -> None:
    outcomes = [attempt(damaged(number)) for number in range(part, COUNT, 9)]
    assert 0 < sum(outcomes) < len(outcomes)  # some damage is of no account
    said = capfd.readouterr()
    assert said.out == "" and others(said.err) == []


def run_in_children(count: int) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.data.mutations", str(count)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    assert others(done.stderr) == []
    outcomes: dict[str, int] = json.loads(done.stdout)["outcomes"]
    return outcomes


@pytest.mark.parametrize("count", [pytest.param(60), pytest.param(10_000, marks=pytest.mark.slow)])
def test_d1_no_child_process_crashes_or_hangs(count: int) -> None:
    outcomes = run_in_children(count)
    assert set(outcomes) == {"pixels", "refused"} and sum(outcomes.values()) == count
