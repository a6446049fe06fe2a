"""`vitrail data show`."""

from pathlib import Path

import pytest
from PIL import Image

from tests.cli.helpers import Captured, refused
from tests.train.helpers import paint
from vitrail.cli import main


def test_show_draws_a_sheet(tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "sheet.png"
    args = ["--out", str(out), "--images", "2", "--epochs=3", "--image-size", "16", "24"]
    photos = paint(tmp_path / "photos")
    assert main(["data", "show", str(photos), *args, "--patch-size", "8"]) == 0
    said = capsys.readouterr()
    assert said.out == f"{out}\n" and "data: split by file content" in said.err
    with Image.open(out) as picture:
        assert picture.width > 4 * 112 and picture.height > 2 * 112


def test_help(capsys: Captured) -> None:
    assert main(["data", "show", "--help"]) == 0
    assert "usage: vitrail data show DATA" in capsys.readouterr().out
    assert main(["data"]) == 0
    assert "show" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ("data shw glyphs", "did you mean 'show'"),
        ("data show --images 3", "name the data first"),
        ("data show glyphs --images 0", "--images=0: must be a whole number from 1 to 100"),
        ("data show glyphs --epochs", "--epochs needs a value"),
        ("data show glyphs --augment.mixupp 1", "did you mean '--augment.mixup'"),
        (
            "data show glyphs --augreg medium",
            "--augreg=medium: no such level; did you mean 'medium",
        ),
        ("data show glyphs --out a.jpg", "--out=a.jpg: the sheet is a picture; its name ends in"),
        ("data show absent", "data='absent': no such file or folder"),
    ],
)
def test_what_is_refused(
    args: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert reason in refused(capsys, *args.split())
    assert list(tmp_path.iterdir()) == []
