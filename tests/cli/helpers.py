import pytest

from vitrail.cli import main

SIZES = "--image-size 16 24 --patch-size 8 --model.width 32 --model.depth 2 --model.heads 2".split()
SHORT = [*SIZES, "--epochs", "1", "--train.warmup-epochs", "0.5", "--device", "cpu"]
Captured = pytest.CaptureFixture[str]


def refused(capsys: Captured, *args: object) -> str:
    """Run a command that must fail: give its one line."""
    capsys.readouterr()
    code = main([str(arg) for arg in args])
    said = capsys.readouterr()
    assert (code, said.out) == (2, "")
    line = said.err.removesuffix("\n")
    assert line.startswith("error: ")
    assert line.isprintable(), line  # one line, no terminal control
    return line
