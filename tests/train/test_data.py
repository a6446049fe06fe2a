"""Which images a run learns from: lists, parts, several labels, other bands, and going on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train.helpers import assert_same_run, curve, paint, tiny_config
from vitrail.data.loading.sampling import SamplingConfig
from vitrail.data.quarantine import write_quarantine
from vitrail.errors import ConfigError, DataError, RunError
from vitrail.evaluate.measure import final_split
from vitrail.evaluate.run import evaluate_run, open_run_data
from vitrail.runs import Run
from vitrail.serve.predictor import Predictor
from vitrail.train import loop
from vitrail.train.data import reopen_training
from vitrail.train.loop import resume, train
from vitrail.weights.load import load_model

BROKEN = ("red/broken0.png", "blue/broken1.png")


def manifest(root: Path, label: Any = lambda name, i: name) -> Path:
    """A table of painted pictures; `label` gives the text for each."""
    paint(root / "photos")
    lines = ["path,label"]
    paths = (root / "photos").rglob("*.png")
    for path in sorted(paths, key=lambda path: (path.parent.name, int(path.stem))):
        i = int(path.stem)
        lines.append(f"{path.relative_to(root).as_posix()},{label(path.parent.name, i)}")
    (root / "photos.csv").write_text("\n".join(lines))
    return root / "photos.csv"


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = loop.lr_at

    def lr(now: int, *rest: Any) -> float:
        if now == step:
            raise KeyboardInterrupt
        return real(now, *rest)

    monkeypatch.setattr(loop, "lr_at", lr)


# --- what is left out ---


def test_d1_the_rest_trains_as_if_broken_images_were_not_there(tmp_path: Path) -> None:
    for name in ("clean", "broken"):
        paint(tmp_path / name / "photos")
    for key in BROKEN:
        (tmp_path / "broken" / "photos" / key).write_bytes(b"\x89PNG" + key.encode())
    found = dict.fromkeys(BROKEN, "cannot be decoded")
    write_quarantine(tmp_path / "broken" / "photos" / "quarantine.csv", found)
    runs = [
        train(tiny_config(tmp_path / name / "photos"), tmp_path / name / "run")
        for name in ("clean", "broken")
    ]
    assert_same_run(*runs)
    recorded = runs[1].read_json("data.json")
    assert recorded["left_out"] == found
    assert "2 images are left out by the quarantine list" in recorded["notes"]
    assert runs[1].read_json("finished.json")["unreadable"] == 0


def test_a_list_of_ones_own_and_none(photos: Path, tmp_path: Path) -> None:
    write_quarantine(tmp_path / "mine.csv", {"red/0.png": "ugly"})
    config = tiny_config(photos, data__quarantine=str(tmp_path / "mine.csv"))
    assert train(config, tmp_path / "run").read_json("data.json")["left_out"] == {
        "red/0.png": "ugly"
    }
    config = tiny_config(photos, data__quarantine=str(tmp_path / "absent.csv"))
    with pytest.raises(DataError, match=r"absent\.csv: No such file"):
        train(config, tmp_path / "other")


def test_a_list_that_comes_later_changes_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = paint(tmp_path / "photos")
    whole = train(tiny_config(photos), tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_at(9, patch)
        with pytest.raises(KeyboardInterrupt):
            train(tiny_config(photos), tmp_path / "run")
    write_quarantine(photos / "quarantine.csv", {"red/0.png": "found later"})
    assert_same_run(whole, resume(tmp_path / "run"))
    write_quarantine(photos / "quarantine.csv", {})


def test_images_that_break_later_are_counted(tmp_path: Path) -> None:
    photos = paint(tmp_path / "photos")
    for key in BROKEN:
        (photos / key).write_bytes(b"\x89PNG" + key.encode())
    run = train(tiny_config(photos), tmp_path / "run")
    trained = set(run.read_json("data.json")["splits"]["train"])
    assert run.read_json("finished.json")["unreadable"] == len(trained & set(BROKEN)) > 0


def test_mistakes_are_said_before_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = paint(tmp_path / "photos")
    for key in BROKEN:
        (photos / key).write_bytes(b"\x89PNG" + key.encode())
    train(tiny_config(photos), tmp_path / "run")
    said = capsys.readouterr().err
    assert "error: 2 of 38 images looked at: " in said
    assert "data: split by file content with seed 0" in said
    train(tiny_config(photos, data__check=False), tmp_path / "quiet")
    assert "looked at" not in capsys.readouterr().err


# --- parts and samples ---


@pytest.mark.parametrize(
    ("changes", "images"),
    [({"data__fraction": 0.5}, 15), ({"data__per_class": 2}, 6)],
)
def test_a_part_of_the_training_images(
    changes: dict[str, Any], images: int, photos: Path, tmp_path: Path
) -> None:
    run = train(tiny_config(photos, **changes), tmp_path / "run")
    recorded = run.read_json("data.json")
    assert [len(keys) for keys in recorded["splits"].values()] == [images, 3, 3]
    assert f"{images} of 30 training images are used" in recorded["notes"]
    assert resume(run.path).path == run.path


def test_balanced_and_repeated_runs_go_on_to_the_same_bits(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(photos, data__sampling=SamplingConfig(balance="class", repeats=2))
    whole = train(config, tmp_path / "whole")
    assert curve(whole) != curve(train(tiny_config(photos), tmp_path / "plain"))
    with monkeypatch.context() as patch:
        stop_at(9, patch)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "run")
    assert_same_run(whole, resume(tmp_path / "run"))


@pytest.mark.parametrize("cache", ["none", "ram", "disk"])
def test_the_cache_changes_nothing(
    cache: str, unbroken: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run = train(tiny_config(photos, data__cache=cache), tmp_path / "run")
    assert_same_run(unbroken, run)
    assert (tmp_path / "cache").exists() == (cache == "disk")


# --- other kinds of data ---


def test_a_manifest_trains_like_its_folder(unbroken: Run, tmp_path: Path) -> None:
    listed = manifest(tmp_path)
    run = train(tiny_config(listed), tmp_path / "run")
    assert_same_run(unbroken, run)  # the splits are cut by content
    data = open_run_data(run)
    model = load_model(run.path, quiet=True)
    summary = evaluate_run(run, model, data, final_split(data))
    assert summary.images == 3 and summary.classes == ("blue", "green", "red")


def test_several_labels(tmp_path: Path) -> None:
    def label(name: str, i: int) -> str:
        return {"blue": "cold", "green": "cold|leaf", "red": ""}[name]

    run = train(tiny_config(manifest(tmp_path, label), train__epochs=20), tmp_path / "run")
    last = run.history()[-1]
    assert last["val_map"] > 0.9 and last["val_loss"] < 0.6
    predictor = Predictor(run.path)
    assert predictor.model.multi_label and predictor.classes == ("cold", "leaf")
    for name, expected in (("blue", {"cold"}), ("green", {"cold", "leaf"}), ("red", set())):
        guesses = predictor.predict([tmp_path / "photos" / name / "5.png"])[0]
        assert {guess.label for guess in guesses if guess.probability > 0.5} == expected
    with pytest.raises(DataError, match="any number of classes; only models of one"):
        evaluate_run(run, predictor.model, open_run_data(run), "test")


def test_many_bands_of_16_bits_with_their_own_statistics(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    centre = np.array([300, 2000, 4000, 900, 60])[:, None, None]
    for name, scale in (("dry", 1.0), ("wet", 1.6)):
        (tmp_path / "fields" / name).mkdir(parents=True)
        for i in range(12):
            bands = centre * scale + generator.normal(0, 20, (5, 20, 28))
            np.save(tmp_path / "fields" / name / f"{i}.npy", bands.clip(0).astype(np.uint16))
    config = tiny_config(tmp_path / "fields", input__channels=5, train__epochs=6)
    config = config.replace(input=config.input.replace(depth=16, normalise="data"))
    run = train(config, tmp_path / "run")
    measured = run.read_json("config.json")["input"]
    assert measured["normalise"] == "given"
    expected = centre[:, 0, 0] * 1.3 / 65535
    assert np.allclose(measured["mean"], expected, rtol=0.05)
    assert run.history()[-1]["val_top1"] == 1.0
    assert Predictor(run.path).predict([tmp_path / "fields/wet/0.npy"])[0][0].label == "wet"
    colour = tiny_config(paint(tmp_path / "photos"), input__channels=5)
    with pytest.raises(DataError, match="no readable image"):
        train(colour, tmp_path / "other")


def test_a_channel_without_variation_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "flat" / name).mkdir(parents=True)
        for i in range(4):
            bands = np.stack([np.full((20, 28), 7), np.arange(560).reshape(20, 28) % (i + 40)])
            np.save(
                tmp_path / "flat" / name / f"{i}{name}.npy",
                (bands + ord(name) % 2).astype(np.uint8)
                * np.array([0, 1], np.uint8)[:, None, None],
            )
    config = tiny_config(tmp_path / "flat", input__channels=2, input__normalise="data")
    with pytest.raises(ConfigError, match=r"normalise=data: channel 0 \(from 0\) has the same"):
        train(config, tmp_path / "run")


# --- going on ---


def test_labels_that_changed_are_refused(tmp_path: Path) -> None:
    listed = manifest(tmp_path)
    lines = listed.read_text().split("\n")
    text = "\n".join(
        f"{line},{'split' if not i else 'val' if i % 4 == 1 else 'train'}"
        for i, line in enumerate(lines)
    )
    listed.write_text(text)
    run = train(tiny_config(listed), tmp_path / "run")
    listed.write_text(text.replace("photos/red/3.png,red", "photos/red/3.png,blue"))
    with pytest.raises(RunError, match="labels of the images have changed"):
        reopen_training(run, tiny_config(listed))


def test_runs_of_before_go_on(unbroken: Run, tmp_path: Path) -> None:
    """A data.json without labels and list, as it was written before they were recorded."""
    old = unbroken.read_json("data.json")
    for name in ("labels", "left_out"):
        del old[name]
    run = Run.create(tmp_path / "run")
    run.write_json("data.json", old)
    run.write_json("config.json", unbroken.read_json("config.json"))
    assert json.loads((run.path / "data.json").read_text()) == old
    assert_same_run(unbroken, resume(run.path))


def test_weights_that_changed_are_refused(tmp_path: Path) -> None:
    listed = manifest(tmp_path)
    lines = listed.read_text().split("\n")
    weighted = [f"{line},{i if i else 'weight'}" for i, line in enumerate(lines)]
    listed.write_text("\n".join(weighted))
    config = tiny_config(listed, data__sampling=SamplingConfig(weighted=True))
    run = train(config, tmp_path / "run")
    reopen_training(run, config)
    listed.write_text("\n".join(weighted).replace("red,30", "red,31"))
    with pytest.raises(RunError, match="weights of the images have changed"):
        reopen_training(run, config)


def test_an_evaluation_sees_what_changed_after_the_training(tmp_path: Path) -> None:
    listed = manifest(tmp_path)
    run = train(tiny_config(listed), tmp_path / "run")
    key = run.read_json("data.json")["splits"]["test"][0]
    write_quarantine(tmp_path / "photos.csv.quarantine.csv", {key: "ugly"})
    data = open_run_data(run, "test")
    assert len(data.splits["test"]) == 2 and key not in data.splits["test"].keys
    assert data.notes == ("1 images are left out by the quarantine list",)
    text = listed.read_text()
    listed.write_text(text.replace(",red", ",x").replace(",blue", ",red").replace(",x", ",blue"))
    with pytest.raises(RunError, match="classes or labels of the images have changed"):
        open_run_data(run, "test")


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        (SamplingConfig(weighted=True), "the data have no weights"),
        (SamplingConfig(repeats=3), "batch_size=8 must be a multiple of sampling.repeats=3"),
    ],
)
def test_what_cannot_be_drawn_leaves_no_run(
    sampling: SamplingConfig, message: str, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(tiny_config(photos, data__sampling=sampling), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_list_is_found_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = paint(tmp_path / "photos")
    write_quarantine(tmp_path / "mine.csv", {"red/0.png": "ugly"})
    monkeypatch.chdir(tmp_path)
    run = train(tiny_config(photos, data__quarantine="mine.csv"), tmp_path / "run")
    assert run.read_json("config.json")["data"]["quarantine"] == str(tmp_path / "mine.csv")
