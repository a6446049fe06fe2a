import json
import os
from pathlib import Path

import pytest

from tests.train.helpers import disk_is_full
from vitrail.errors import RunError, StorageError
from vitrail.tune.journal import Journal, Trial


def filled(path: Path) -> Journal:
    journal = Journal(path)
    journal.begin(0, {"lr": 0.1, "augment": "base"})
    journal.measured(0, 4, 0.25, 1.5)
    journal.measured(0, 8, 0.5, 2.0)
    journal.end(0, "finished")
    journal.begin(1, {"lr": 0.2, "augment": "none"})
    journal.measured(1, 4, 0.125, 1.0)
    return journal


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    written = filled(tmp_path / "study.jsonl")
    read = Journal(tmp_path / "study.jsonl")
    first = Trial(0, {"lr": 0.1, "augment": "base"}, {4: 0.25, 8: 0.5}, "finished", 3.5)
    second = Trial(1, {"lr": 0.2, "augment": "none"}, {4: 0.125}, None, 1.0)
    assert read.trials == written.trials == {0: first, 1: second}
    assert read.ended() == [first]
    assert first.score == 0.5 and Trial(2, {}).score is None
    for line in (tmp_path / "study.jsonl").read_text().splitlines():
        assert "trial" in json.loads(line)


def test_a_trial_that_diverged_has_no_score(tmp_path: Path) -> None:
    journal = filled(tmp_path / "study.jsonl")
    trial = journal.end(1, "diverged", 2.0)
    assert trial == Journal(tmp_path / "study.jsonl").trials[1]
    assert (trial.score, trial.end, trial.seconds) == (None, "diverged", 3.0)


def test_a_crash_in_a_line_loses_one_line_at_most(tmp_path: Path) -> None:
    filled(tmp_path / "whole.jsonl")
    data, path = (tmp_path / "whole.jsonl").read_bytes(), tmp_path / "study.jsonl"
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        journal = Journal(path)
        assert path.read_bytes() == data[: data.rfind(b"\n", 0, length) + 1]
        if length % 49 == 0:
            assert journal.begin(7, {"lr": 1.0}) == Journal(path).trials[7]


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"trial": 4}', '{"end": "finished"}'])
def test_a_damaged_line_is_named(line: str, tmp_path: Path) -> None:
    filled(tmp_path / "study.jsonl")
    text = (tmp_path / "study.jsonl").read_text()
    (tmp_path / "study.jsonl").write_text(f"{line}\n{text}")
    with pytest.raises(RunError, match=r"study.jsonl, line 1: damaged"):
        Journal(tmp_path / "study.jsonl")


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = filled(tmp_path / "study.jsonl")
    monkeypatch.setattr(os, "fsync", disk_is_full)
    with pytest.raises(StorageError, match="no space left"):
        journal.end(1, "stopped early")
    assert journal.trials[1].end is None
