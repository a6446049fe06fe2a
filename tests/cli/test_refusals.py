import json
import os
from pathlib import Path

import pytest

from tests.cli.helpers import SHORT, Captured, refused
from tests.train.helpers import disk_is_full, paint, paint_splits
from vitrail.cli import main

ESCAPES = "red\x1b[31m\nerror: all is well \u202e.png"


def test_commands_that_are_none(capsys: Captured) -> None:
    assert "'trian' is not a command; did you mean 'train'" in refused(capsys, "trian")
    assert "'--versoin' is not a command" in refused(capsys, "--versoin")


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ("train", "train: --data is missing"),
        ("train --data digits", "train: --out is missing; name a new folder for the run"),
        ("train --data", "a value is missing"),
        ("train --out", "train: --out needs a value"),
        ("train --resume x --seed 3", "train --resume RUN: takes only --device"),
        ("train --resume", "train: --resume needs a value"),
        ("evaluate", "missing; see --help"),
        ("predict", "missing; see --help"),
        ("explain", "missing; see --help"),
        ("evaluate x y", "'y' is one argument too many"),
        ("models --pattern x", "--pattern: unknown setting"),
        ("predict nothing x.png --top-k 0", "--top-k=0 must be at least 1"),
        ("predict nothing x.png --top-k many", "--top-k"),
        ("predict nothing --topk 3 x.png", "did you mean '--top-k'"),
        ("evaluate nothing", "nothing: no such folder; `vitrail train` makes one"),
        ("models nothing", "no name contains 'nothing'"),
        ("models deit --image-size 30 40", "image_size=30x40 must be a multiple of patch_size"),
        ("demo --epochs 0", "demo: --epochs=0 must be above 0"),
        ("demo --data nothing", "--data=nothing is not one of glyphs, digits"),
        ("train --data nothing --out x", "data='nothing': no such file or folder"),
        ("train --data digit --out x", "did you mean 'digits'"),
        ("train --data digits --out x --recipe digitz", "no such recipe; did you mean 'digits'"),
        (
            "train --data digits --out x --config y/config.json",
            "--config y/config.json: cannot be read",
        ),
        ("train --data digits --out x --config y --recipe digits", "exclude each other"),
        (
            "train --data digits --out x --model vit_tinny_patch16_224",
            "no such model; did you mean",
        ),
        ("train --data digits --out x --image-size 9 8", "must be a multiple of patch_size=2"),
        ("train --data digits --out x --train.lrr 3", "--train.lrr: unknown setting; did you mean"),
        ("train --data digits --out x --lr fast", "lr"),
        ("train --data digits --out x --lr 0", "--train.lr=0"),
        ("train --data digits --out x --train.ema 1", "--train.ema=1"),
        ("train --data digits --out x --precision fp8", "--precision=fp8: must be one of"),
        (
            "train --data digits --out x --train.warmup-epochs 90",
            "must be less than",
        ),
        ("train --data digits --out x --input.resize pad --input.crop-fraction 0.9", "resize=pad"),
        (
            "train --data digits --out x --augment.crop-area 0.5 0.2",
            "from the smaller",
        ),
        ("train --data digits --out x --seed 100000000000000000000000", "seed="),
        ("evaluate x --workers -1", "--workers=-1 must be at least 0"),
        ("train --data digits --out x --device tpu", "device='tpu' is not one of"),
        ("train --data digits --out x --keep-checkpoints 0", "keep_checkpoints=0"),
        ("train --data digits --out x y", "'y' is one argument too many"),
    ],
)
def test_command_lines_that_are_refused(
    args: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert reason in refused(capsys, *args.split())
    assert list(tmp_path.iterdir()) == []


def test_folders_that_are_refused(tmp_path: Path, capsys: Captured) -> None:
    def why(data: Path) -> str:
        return refused(capsys, "train", "--data", data, "--out", tmp_path / "run", *SHORT)

    one = paint(tmp_path / "one", classes=("red",))
    assert "1 class found ('red')" in why(one)
    (tmp_path / "empty").mkdir()
    assert "0 classes found" in why(tmp_path / "empty")
    missing = paint_splits(tmp_path / "missing")
    (missing / "train" / "red").rename(missing / "train" / ".red")
    assert "(val): class 'red' is not in train" in why(missing)
    strange = paint_splits(tmp_path / "strange")
    (strange / "train" / "rouge").mkdir()
    assert "(train): class 'rouge' has no image" in why(strange)
    assert "is no data set; allowed are" in why(strange / "val" / "red" / "0.png")
    garbage = paint(tmp_path / "garbage")
    for i, path in enumerate(garbage.rglob("*.png")):
        path.write_bytes(b"garbage %d" % i)
    assert "no readable image among" in why(garbage)
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_there_is_not_overwritten(run: Path, photos: Path, capsys: Captured) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    line = refused(capsys, "train", "--data", photos, "--out", run, *SHORT)
    assert f"{run}: exists and is not an empty folder" in line
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*")}


@pytest.mark.parametrize("command", ["evaluate", "predict", "explain", "train --resume"])
def test_folders_that_are_no_run(command: str, photos: Path, capsys: Captured) -> None:
    more = [photos / "red" / "0.png"] if command in ("predict", "explain") else []
    line = refused(capsys, *command.split(), photos, *more)
    assert f"{photos}: not a" in line


def test_a_run_without_final_weights(run: Path, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "config.json").write_text("{}")
    for args in (["evaluate", tmp_path], ["predict", tmp_path, run / "config.json"]):
        line = refused(capsys, *args)
        assert f"is not finished; go on with: vitrail train --resume {tmp_path}" in line


def test_a_split_that_is_not_there(run: Path, capsys: Captured) -> None:
    assert "no split 'tests'; did you mean 'test'" in refused(
        capsys, "evaluate", run, "--split=tests"
    )


def test_a_full_disk(
    photos: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(os, "fsync", disk_is_full)
    line = refused(capsys, "train", "--data", photos, "--out", tmp_path / "run", *SHORT)
    assert "no space left on the disk; free some or write elsewhere" in line
    image = photos / "red" / "0.png"
    line = refused(capsys, "explain", run, image, "--out", tmp_path / "pictures")
    assert "no space left on the disk" in line
    assert list((tmp_path / "pictures").iterdir()) == []


def test_images_that_cannot_be_read(
    run: Path, photos: Path, tmp_path: Path, capsys: Captured
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG")
    good = photos / "red" / "0.png"
    assert main(["predict", str(run), str(broken), str(good), "--json"]) == 2
    said = capsys.readouterr()
    first, second = (json.loads(line) for line in said.out.splitlines())
    assert first["image"] == str(broken) and "error" in first
    assert second["labels"][0]["label"] in ("blue", "green", "red")
    lines = said.err.splitlines()
    assert lines[0].startswith(f"not readable: {broken}: ")
    assert lines[1] == "error: 1 of 2 images cannot be read; they are named above"
    assert "nothing.png: no such file or folder" in refused(capsys, "predict", run, "nothing.png")
    (tmp_path / "empty").mkdir()
    assert "name at least one image file" in refused(capsys, "predict", run, tmp_path / "empty")
    out = tmp_path / "out"
    assert main(["explain", str(run), str(broken), str(good), "--out", str(out)]) == 2
    assert f"not readable: {broken}: " in capsys.readouterr().err
    assert len(list(out.iterdir())) == 2  # the good one is drawn all the same


@pytest.mark.parametrize(
    "name", [ESCAPES, "a:smile:[bold]b.png", os.fsdecode(b"not utf-8 \xff.png")]
)
def test_hostile_names_stay_one_printable_line(
    name: str, run: Path, photos: Path, tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / name
    assert "no such file" in refused(capsys, "predict", run, path)
    path.write_bytes(b"\x89PNG")
    assert main(["predict", str(run), str(path)]) == 2
    assert all(line.isprintable() for line in capsys.readouterr().err.split("\n"))
    path.write_bytes((photos / "red" / "0.png").read_bytes())
    assert main(["predict", str(run), str(path)]) == 0
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and said.rstrip("\n").isprintable()
    if ":" in name and name.isprintable():
        assert said.startswith(f"{path}: ")
    assert main(["predict", str(run), str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["image"] == str(path)
    assert main(["explain", str(run), str(path), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.replace("\n", "").isprintable()
    assert refused(capsys, "train", "--data", tmp_path / name, "--out", tmp_path / "run")


def test_hostile_class_names(tmp_path: Path, capsys: Captured) -> None:
    photos = paint(tmp_path / "photos")
    (photos / "red").rename(photos / "red\x1b[31m\n:smile:[bold]<b>")
    out = str(tmp_path / "run")
    assert main(["train", "--data", str(photos), "--out", out, *SHORT, "--batch-size=8"]) == 0
    assert main(["evaluate", out]) == 0
    capsys.readouterr()
    assert main(["predict", out, str(photos / "blue" / "0.png")]) == 0
    said = capsys.readouterr().out
    assert said.rstrip("\n").isprintable() and ":smile:[bold]<b>" in said
