import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.plan.helpers import measured, settings
from tests.train.helpers import tiny_config
from vitrail.errors import ConfigError, DataError, ModelError
from vitrail.plan import measured as module
from vitrail.plan.measured import Measured, measure, parse_answer


def answering(monkeypatch: pytest.MonkeyPatch, code: int, out: str = "", err: str = "") -> None:
    """Let the child answer so."""

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, code, out, err)

    monkeypatch.setattr(module.subprocess, "run", run)


def test_what_is_measured_survives_json() -> None:
    found = measured()
    assert Measured.parse(json.loads(json.dumps(found.to_json())), "x") == found


def test_the_last_line_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, 0, "a library says hello\n" + json.dumps(measured().to_json()) + "\n")
    assert measure(settings()) == measured()


def test_an_error_of_the_child_is_raised_here() -> None:
    with pytest.raises(ModelError, match=r"^no such model$"):
        parse_answer({"error": "ModelError", "message": "no such model"})


def test_a_child_that_the_system_kills_is_for_want_of_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answering(monkeypatch, -9)
    with pytest.raises(ConfigError, match=r"signal 9, mostly for want of memory; lower train"):
        measure(settings())


def test_a_bug_of_the_child_keeps_its_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, 1, err="Traceback: ZeroDivisionError")
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        measure(settings())


def test_a_real_child_says_what_is_wrong_with_the_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        measure(tiny_config(tmp_path / "nothing"))
