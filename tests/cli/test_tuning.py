"""`vitrail tune`, from the command line to the training with what was found."""

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.helpers import SIZES, Captured, refused
from tests.report.page import Page
from tests.report.test_html import assert_inert
from tests.tune.helpers import assert_same_search
from vitrail.cli import main
from vitrail.cli.trials import newest_line
from vitrail.runs import Run
from vitrail.train import loop
from vitrail.tune.search import reopen

QUICK = ["--epochs", "3", "--batch-size", "8", "--device", "cpu", "--log-every", "1"]
SEARCH = ["--epochs-each", "1", "--trials", "3", "--search.halvings", "1"]  # of 4 steps each

# Runs the command line after arranging that the process is killed at one step.
DRIVER = """
import os, signal, sys, torch
from tests.cli.test_tuning import signal_at
from vitrail.cli import main
threads, step, *args = sys.argv[1:]
torch.set_num_threads(int(threads))
signal_at(int(step), signal.SIGKILL)
sys.exit(main(args))
"""


def signal_at(number: int, signum: int) -> None:
    """Let the process send itself a signal in one step, counted over all trials."""
    calls, real = itertools.count(), loop.lr_at

    def lr_at(*args: Any) -> float:
        if next(calls) == number:
            os.kill(os.getpid(), signum)
        return real(*args)

    loop.lr_at = lr_at  # type: ignore[attr-defined]


def command(photos: Path, out: Path) -> list[str]:
    return ["tune", "--data", str(photos), "--out", str(out), *SIZES, *QUICK, *SEARCH]


@pytest.fixture(scope="module")
def searched(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("searches") / "search"
    assert main(command(photos, out)) == 0
    return out


def test_a_search_says_what_it_found(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)  # it is found from any folder
    assert main(["tune", "--resume", str(searched)]) == 0
    said = capsys.readouterr()
    best = reopen(searched).best()
    assert best is not None and best.score is not None
    assert said.out.startswith(f"best: trial {best.number:04d}, {best.score:.1%}: lr ")
    rows = [line for line in said.err.splitlines() if line[:4] in ("0000", "0001", "0002")]
    assert len(rows) == 3
    assert f"vitrail train --config {searched / 'best.json'} --out runs/best" in said.err
    assert "val top-1" in (searched / "log.txt").read_text()
    assert "val top-1" not in said.err
    assert_inert(Page(searched / "tune.html"))


def test_a_training_begins_from_what_was_found(searched: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    assert main(["train", "--config", str(searched / "best.json"), "--out", out]) == 0
    best = json.loads((searched / "best.json").read_bytes())
    assert Run.open(out).read_json("config.json")["train"] == best["train"]
    assert best["train"]["epochs"] == 3


def test_a_trial_can_be_measured(searched: Path, capsys: Captured) -> None:
    assert main(["evaluate", str(searched / "trials" / "0000"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["split"] == "test"


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_is_answered_and_the_search_goes_on(
    signum: signal.Signals,
    code: int,
    photos: Path,
    searched: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    out = tmp_path / "search"
    monkeypatch.setattr(loop, "lr_at", loop.lr_at)  # put back afterwards
    signal_at(2, signum)
    assert main(command(photos, out)) == code
    line = (
        f"trial 0000 stopped by {signum.name} after step 3; go on with: vitrail tune --resume {out}"
    )
    assert capsys.readouterr().err.splitlines()[-1] == line
    checkpoint, damaged = Run.open(out / "trials" / "0000").newest_checkpoint()
    assert checkpoint is not None and checkpoint.step == 3 and damaged == []
    assert main(["tune", "--resume", str(out)]) == 0
    assert_same_search(reopen(out), reopen(searched))


def test_a_killed_search_goes_on(photos: Path, searched: Path, tmp_path: Path) -> None:
    out, root = tmp_path / "search", Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(torch.get_num_threads()), "6", *command(photos, out)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'src'}"},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [trial.end for trial in reopen(out).journal.trials.values()] == ["finished", None]
    assert main(["tune", "--resume", str(out)]) == 0
    assert_same_search(reopen(out), reopen(searched))


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ("", "tune: --data is missing; name a folder of images"),
        ("--data digits", "tune: --out is missing; name a new folder for the search"),
        ("--data digits --out x --trials 0", "--search.trials=0"),
        ("--data digits --out x --trials", "--search.trials: a value is missing"),
        ("--data digits --out x --search.lrr 1 2", "--search.lrr: unknown setting; did you mean"),
        ("--data digits --out x --search.lr 1 0.1", "must go from the smaller to the larger"),
        ("--data digits --out x --search.over lrr", "must be one of lr, layer_decay"),
        ("--data digits --out x --epochs-each 0", "--search.epochs_each=0"),
        ("--data digits --out x --recipe digitz", "no such recipe; did you mean 'digits'"),
        ("--data digits --out x --config y --recipe digits", "tune: --config and --recipe exclude"),
        ("--data nothing --out x", "data='nothing': no such file or folder"),
        ("--data digits --out x --model vit_tinny_patch16_224", "no such model; did you mean"),
        ("--resume x", "x: not a search (no search.json); `vitrail tune` makes one"),
        ("--resume x --lr 3", "tune --resume DIR: takes only --trials and --hours"),
        ("--resume x --device cpu", "tune --resume DIR: takes only --trials and --hours"),
        ("--resume x --trials many", "invalid literal"),
    ],
)
def test_command_lines_that_are_refused(
    args: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert reason in refused(capsys, "tune", *args.split())
    assert list(tmp_path.iterdir()) == []


def test_several_ranks_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "tune: searches in one process" in refused(capsys, "tune", "--data", "digits")


def test_the_help_names_what_is_special(capsys: Captured) -> None:
    assert main(["tune", "--help"]) == 0
    said = capsys.readouterr().out
    assert "vitrail tune --resume DIR" in said and "--search.over" in said


def test_the_newest_line_of_a_file_that_grows(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert newest_line(path) == {}
    lines = [json.dumps({"step": step, "train_loss": 1 / step}) for step in range(1, 300)]
    path.write_text("\n".join(lines))
    assert newest_line(path)["step"] == 298  # 299 has no end yet
    path.write_text('{"step": 1, "tra')
    assert newest_line(path) == {}
