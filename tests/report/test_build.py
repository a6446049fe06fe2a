import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.train.helpers import paint, tiny_config
from vitrail.data.sources import open_data
from vitrail.evaluate.run import evaluate_run, open_run_data
from vitrail.models import Backbone
from vitrail.report.build import build_report, describe_model, repeat_commands
from vitrail.runs import Run
from vitrail.train.loop import train
from vitrail.weights.load import load_model


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("report")
    return train(tiny_config(paint(folder / "photos")), folder / "run")


def always(model: Backbone, label: int) -> Backbone:
    """Make a model that gives one answer to everything."""
    with torch.no_grad():
        model.head.weight.zero_()  # type: ignore[union-attr,operator]
        model.head.bias.copy_(torch.eye(len(model.classes))[label])  # type: ignore[union-attr,operator]
    return model


def report_of(run: Run, model: Backbone, split: str = "val") -> str:
    images = open_run_data(run)
    summary = evaluate_run(run, model, images, split)
    path = build_report(run, model, images, summary)
    assert path == run.path / "reports" / "report.html"
    return path.read_text(encoding="utf-8")


def test_a_report_of_a_run(run: Run) -> None:
    html = report_of(run, load_model(run.path), "train")
    assert html.count("data:image/") > 5
    assert f"vitrail train --config {run.path}/config.json" in html
    assert repeat_commands(run)[0].endswith("--out NEW_RUN")


@pytest.mark.parametrize("label", [0, 1, 2])
def test_a_model_that_gives_one_answer(label: int, run: Run) -> None:
    html = report_of(run, always(load_model(run.path), label))
    assert "33.3" in html


@pytest.mark.parametrize("right", [True, False])
def test_no_right_answer_or_no_mistake(right: bool, run: Run, tmp_path: Path) -> None:
    data = open_data(str(paint(tmp_path / "both", each=4)))
    model = always(load_model(run.path), 2)
    names = [key.startswith("red") for key in data.splits["train"].keys]
    keep = [i for i, is_red in enumerate(names) if is_red is right]
    whole = data.splits["train"]
    part = whole.take(np.array(keep))
    data = type(data)("part", data.classes, {"test": part})
    summary = evaluate_run(run, model, data, "test")
    assert summary.top1.value == float(right)
    assert (len(summary.worst) == 0) is right and (len(summary.right) == 0) is not right
    assert build_report(run, model, data, summary).stat().st_size > 10_000


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    photos = paint(tmp_path / "photos")
    for i, path in enumerate(sorted(photos.rglob("*.png"))):
        path.rename(path.with_name(os.fsdecode(b"\xff\xfe %d \xe9.png" % i)))
    for i in range(3):
        for name in ("red", "blue"):
            (photos / name / os.fsdecode(b"broken \xff%d.png" % i)).write_bytes(
                b"%s %d" % (name.encode(), i)
            )
    run = train(tiny_config(photos, train__epochs=2), tmp_path / "run")
    model = load_model(run.path)
    for split in ("train", "val", "test"):
        html = report_of(run, model, split)
        assert r"\xff" in html or r"\udcff" in html or "�" in html
        assert not re.search("[\ud800-\udfff]", html)
    assert run.read_predictions("val").keys[0].encode("utf-8", "surrogateescape")


def test_the_facts_about_a_model(run: Run) -> None:
    facts = describe_model(load_model(run.path))
    assert (facts["image size"], facts["patch size"]) == ("16×24", 8)
    assert (facts["tokens"], facts["width"], facts["depth"], facts["heads"]) == (7, 32, 2, 2)
    assert int(str(facts["FLOPs an image"])) > 100_000
