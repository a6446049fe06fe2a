"""`vitrail check`, end to end."""

import json
from pathlib import Path

import pytest

from tests.cli.helpers import Captured, refused
from tests.data.check.pictures import CLASSES, encode, picture, recoded
from vitrail.cli import main
from vitrail.cli.flags import parse
from vitrail.cli.training import SHORT_FLAGS
from vitrail.data.quarantine import read_quarantine
from vitrail.train.config import RunConfig


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three classes in two splits, with one broken file and one leak."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "photos"
    for i in range(45):
        split = "val" if i % 3 == 2 else "train"
        folder = root / split / CLASSES[i // 3 % 3]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}.jpg").write_bytes(encode(picture(i)))
    (root / "train/ash/0.jpg").write_bytes(b"\xff\xd8\xff broken")
    (root / "train/ash/copy.jpg").write_bytes(recoded(picture(2)))
    return root


LEFT_OUT = {
    "train/ash/0.jpg": "JPEG is cut off in its header",
    "train/ash/copy.jpg": "nearly the same in val: val/ash/2.jpg",
}


def test_a_check_tells_writes_a_page_and_a_list(photos: Path, capsys: Captured) -> None:
    assert main(["check", str(photos), "--workers", "2"]) == 0
    said = capsys.readouterr()
    assert "photos: 46 images (train 31, val 15), 3 classes" in said.out
    assert "1 image cannot be used" in said.out and "nearly the same" in said.out
    assert f"vitrail train --data {photos} --out runs/mine --image-size " in said.out
    assert "page: photos-check.html" in said.err
    assert f"left out in training and evaluation: {photos}/quarantine.csv" in said.err
    assert read_quarantine(photos / "quarantine.csv") == LEFT_OUT
    assert Path("photos-check.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_second_check_looks_at_what_the_list_leaves_out(photos: Path, capsys: Captured) -> None:
    (photos / "quarantine.csv").write_text("path,reason\ntrain/birch/3.jpg,mine\n", "utf-8")
    for _ in range(2):
        assert main(["check", str(photos)]) == 0
        assert (
            read_quarantine(photos / "quarantine.csv") == {"train/birch/3.jpg": "mine"} | LEFT_OUT
        )
    (photos / "train/ash/0.jpg").write_bytes(encode(picture(0)))
    (photos / "train/ash/copy.jpg").unlink()
    assert main(["check", str(photos)]) == 0
    assert read_quarantine(photos / "quarantine.csv") == {"train/birch/3.jpg": "mine"}
    capsys.readouterr()


def test_json_is_all_of_stdout(photos: Path, capsys: Captured) -> None:
    args = ["check", str(photos), "--json", "--page", "my.html", "--quarantine", "my.csv"]
    assert main(args) == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["images"], value["usable"]) == (46, 45)
    assert {each["key"]: each["reason"] for each in value["left_out"]} == LEFT_OUT
    assert (value["page"], value["quarantine"]) == ("my.html", "my.csv")
    assert Path("my.html").exists() and read_quarantine(Path("my.csv")) == LEFT_OUT
    assert not (photos / "quarantine.csv").exists()


def test_nothing_is_written_where_nothing_shall_be(photos: Path, capsys: Captured) -> None:
    before = sorted(photos.parent.rglob("*"))
    assert main(["check", str(photos), "--no-write", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["page"], value["quarantine"]) == (None, None)
    assert sorted(photos.parent.rglob("*")) == before


def test_strict_ends_with_2_if_there_is_an_error(photos: Path, capsys: Captured) -> None:
    assert main(["check", str(photos), "--strict"]) == 2
    said = capsys.readouterr()
    assert said.err.endswith(f"error: {photos}: near_leak, broken; see the findings above\n")
    for name in ("0.jpg", "copy.jpg"):
        (photos / "train/ash" / name).unlink()
    assert main(["check", str(photos), "--strict"]) == 0
    assert "left out" not in capsys.readouterr().out


def test_what_has_no_place_for_a_list(photos: Path, capsys: Captured) -> None:
    assert main(["check", "digits", "--no-write"]) == 0
    assert "digits: 1,797 images" in capsys.readouterr().out
    Path("all.csv").write_text(
        "path,label,split\nphotos/train/ash/0.jpg,ash,train\nphotos/train/birch/3.jpg,birch,train\n"
        "photos/val/ash/2.jpg,ash,val\n"
    )
    assert main(["check", "all.csv"]) == 0
    assert len(read_quarantine(Path("all.csv.quarantine.csv"))) == 1
    capsys.readouterr()


def test_the_advice_can_be_pasted(photos: Path, capsys: Captured) -> None:
    """Every flag is one of `vitrail train`, and the settings fit each other."""
    for path in photos.rglob("*.jpg"):
        wide = picture(len(path.name)).resize((120, 50)).convert("L")
        path.write_bytes(encode(wide))
    assert main(["check", str(photos), "--no-write", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    flags = " ".join(each["flags"] for each in value["advice"]).split()
    assert {"--image-size", "--input.channels", "--input.resize"} <= set(flags)
    config = parse(RunConfig, [SHORT_FLAGS.get(flag, flag) for flag in flags], "train")
    assert config.model.image_size == (48, 48) and config.input.channels == 1


def test_names_cannot_act_on_the_terminal(photos: Path, capsys: Captured) -> None:
    name = "=1+\x1b[31mred.jpg"
    (photos / "train/ash" / name).write_bytes(b"")
    assert main(["check", str(photos)]) == 0
    said = capsys.readouterr()
    assert "\x1b[31m" not in said.out + said.err
    assert f"train/ash/{name}" in read_quarantine(photos / "quarantine.csv")


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--workers", "0"], "--workers=0 must be at least 1"),
        (["--seconds-per-image", "nan"], "--seconds-per-image=nan must be at least 0.01"),
        (["--memory-mb", "3"], "--memory-mb=3 must be at least 64"),
        (["--worker", "2"], "--worker: unknown setting; did you mean '--workers'"),
    ],
)
def test_flags_that_cannot_be_meant(flags: list[str], line: str, capsys: Captured) -> None:
    assert line in refused(capsys, "check", "digits", *flags)


def test_data_that_is_not_there(capsys: Captured) -> None:
    assert "no such file or folder" in refused(capsys, "check", "/nowhere")
