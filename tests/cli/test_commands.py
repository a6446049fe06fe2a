import json
from pathlib import Path

import pytest
from PIL import Image

import vitrail
from tests.cli.helpers import SHORT, Captured
from tests.train.helpers import paint
from vitrail.cli import COMMANDS, main
from vitrail.runs import Run


def test_train(photos: Path, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "deep" / "run"
    assert main(["train", "--data", str(photos), f"--out={out}", *SHORT, "--batch-size=8"]) == 0
    said = capsys.readouterr()
    assert said.out == "" and f"trained: {out}" in said.err
    config = Run.open(out).read_json("config.json")
    assert config["data"]["source"] == str(photos)
    assert config["model"]["image_size"] == [16, 24] and config["train"]["batch_size"] == 8
    assert main(["train", "--resume", str(out)]) == 0  # finished: nothing to do


def test_train_from_the_settings_of_another_run(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    args = ["train", "--config", str(run / "config.json"), "--out", str(out), "--seed", "8"]
    assert main(args) == 0
    mine, theirs = (Run.open(path).read_json("config.json") for path in (out, run))
    assert mine == theirs | {"seed": 8}


def test_evaluate(run: Path, capsys: Captured) -> None:
    assert main(["evaluate", str(run)]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("3 images of test, 3 classes\ntop-1 ")
    assert f"report: {run / 'reports' / 'report.html'}" in said.err
    assert (run / "reports" / "report.html").read_text().startswith("<!")
    assert main(["evaluate", str(run), "--split", "train", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["split"], summary["images"]) == ("train", 30)
    assert summary == Run.open(run).read_json("reports/summary-train.json")


def test_evaluate_on_other_images(run: Path, tmp_path: Path, capsys: Captured) -> None:
    other = paint(tmp_path / "other", each=5, classes=("green", "red"))
    (other / "red" / "broken.png").write_bytes(b"\x89PNG")
    own = {path: path.read_bytes() for path in (run / "predictions").iterdir()}
    assert main(["evaluate", str(run), "--data", str(other), "--json"]) == 0
    said = capsys.readouterr()
    summary = json.loads(said.out)
    assert summary["classes"] == ["blue", "green", "red"]
    assert summary["split"] == "other-all"
    assert summary["images"] == 10  # every image of the folder, nothing cut off
    assert [key for key, _ in summary["unreadable"]] == ["red/broken.png"]
    assert "not counted: " in said.err
    assert (run / "reports" / "report-other-all.html").exists()
    assert {path: path.read_bytes() for path in own} == own  # the run's own stay as they were


def test_predict(run: Path, photos: Path, capsys: Captured) -> None:
    image = photos / "red" / "0.png"
    assert main(["predict", str(run), str(image), "--top-k", "2"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"{image}: ") and said.out.count("%") == 2
    assert main(["predict", str(run), str(photos), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 36
    assert lines[0]["image"] == str(photos / "blue" / "0.png")
    for line in lines:
        assert sorted(each["label"] for each in line["labels"]) == ["blue", "green", "red"]
        assert sum(each["score"] for each in line["labels"]) == pytest.approx(1, abs=1e-5)


def test_explain(run: Path, photos: Path, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "pictures"
    files = [str(photos / "red" / "0.png"), str(photos / "blue" / "0.png")]
    assert main(["explain", str(run), *files, "--out", str(out)]) == 0
    written = capsys.readouterr().out.splitlines()
    assert sorted(written) == sorted(str(path) for path in out.iterdir())
    assert len(written) == 4
    for path in written:
        with Image.open(path) as picture:
            picture.load()
            assert picture.format == "PNG" and min(picture.size) > 100


def test_models(capsys: Captured) -> None:
    assert main(["models", "resnet1"]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in vitrail.list_models() if name.startswith("resnet1"))
    assert main(["models", "small", "--image-size", "32", "64", "--json"]) == 0
    said = capsys.readouterr()
    entries = json.loads(said.out)
    sizes = {entry["name"]: entry["tokens"] for entry in entries}
    small = {name for name in vitrail.list_models() if "small" in name}
    impossible = {name for name in small if "patch14" in name}
    assert set(sizes) == small - impossible
    assert f"{len(impossible)} models cannot have this image size and are left out" in said.err
    assert sizes["vit_small_patch16_224"] == 2 * 4 + 1
    small = next(entry for entry in entries if entry["name"] == "vit_small_patch16_224")
    assert small["image_size"] == [32, 64] and small["parameters"] > 21e6


def test_demo(tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "demo"
    args = ["demo", "--data", "digits", "--epochs", "1", "--out", str(out)]
    assert main(args) == 0
    said = capsys.readouterr().err
    assert "images are right" in said and "5. Your turn" in said
    assert (out / "reports" / "report.html").exists()
    assert main([*args[:3], "--epochs", "0.2", "--out", str(out)]) == 0
    assert (tmp_path / "demo-2" / "finished.json").exists()


def test_version_and_help(capsys: Captured) -> None:
    for args in (["--version"], ["-V"]):
        assert main(args) == 0
        assert capsys.readouterr().out == f"{vitrail.__version__}\n"
    for args in ([], ["--help"], ["-h"]):
        assert main(args) == 0
        said = capsys.readouterr().out
        assert all(name in said for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command(name: str, capsys: Captured) -> None:
    assert main([name, "--help"]) == 0
    said = capsys.readouterr().out
    assert "usage: " in said
    if name == "train":
        for flag in ("--out", "--resume", "--recipe", "--config", "--data", "--augment.mixup"):
            assert flag in said
