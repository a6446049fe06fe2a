"""What is planted is found, all of it and nothing else; copies are left out on the right side."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.check.pictures import Planted, encode, picture, plant, recoded
from tests.data.check.readers import data_of, multi_data, surveyed
from tests.data.images import noise, save
from vitrail.data.check.finding import Finding
from vitrail.data.check.report import CheckReport, conclude, split_figures
from vitrail.data.check.survey import Survey
from vitrail.data.sources import open_to_measure


def finding(report: CheckReport, kind: str) -> Finding:
    (found,) = [each for each in report.findings if each.kind == kind]
    return found


def pairs(report: CheckReport, kind: str) -> set[frozenset[str]]:
    return {frozenset(image.key for image in item.images) for item in finding(report, kind).items}


def require_all(report: CheckReport, planted: Planted) -> None:
    """Everything planted is found; false alarms stay under 0.1 % of the images."""
    broken = {item.images[0].key for item in finding(report, "broken").items}
    assert broken == planted.truncated
    assert pairs(report, "near_leak") == {frozenset(each) for each in planted.near.items()}
    assert pairs(report, "leak") == {frozenset(each) for each in planted.leaks.items()}
    assert pairs(report, "conflict") == {frozenset(each) for each in planted.conflicts.items()}
    named = {image.key for each in report.findings for item in each.items for image in item.images}
    assert len(named - planted.all) < 0.001 * planted.images
    assert report.left_out.keys() == (
        planted.truncated
        | set(planted.near)
        | set(planted.leaks)
        | set(planted.conflicts)
        | set(planted.conflicts.values())
    )


@pytest.mark.parametrize("images", [600, pytest.param(5000, marks=pytest.mark.slow)])
def test_everything_planted_is_found(images: int, tmp_path: Path) -> None:
    planted = plant(tmp_path / "photos", images)
    report = conclude(surveyed(open_to_measure(str(tmp_path / "photos"))))
    require_all(report, planted)


def test_the_order_of_answers_does_not_matter() -> None:
    data = data_of(train=[(encode(picture(i % 5)), i % 2) for i in range(9)])
    one, other = surveyed(data), Survey(data)
    for row in reversed(range(9)):
        other.add(*one.place(row), one.table[row])
    assert conclude(one).to_json() == conclude(other).to_json()


def test_copies_leave_the_training_side() -> None:
    """Test stays as it is, val loses what test has, train what either has."""
    a, b, c = (encode(picture(i)) for i in (1, 2, 3))
    data = data_of(
        test=[(a, 0), (b, 1)],
        val=[(a, 0), (c, 1)],
        train=[(a, 0), (a, 0), (c, 1), (recoded(picture(2)), 1), (encode(picture(4)), 0)],
    )
    report = conclude(surveyed(data))
    assert report.left_out == {
        "train/0.jpg": "also in test: test/0.jpg",
        "train/1.jpg": "also in test: test/0.jpg",
        "train/2.jpg": "also in val: val/1.jpg",
        "train/3.jpg": "nearly the same in test: test/1.jpg",
        "val/0.jpg": "also in test: test/0.jpg",
    }
    assert report.survey.names == ("train", "val", "test")
    assert finding(report, "leak").count == 2


def test_repetitions_within_a_split_and_blank_images_are_reported_only() -> None:
    one, blank = encode(picture(1)), encode(Image.new("RGB", (50, 40), "red"))
    train = [(one, 0), (one, 0), (recoded(picture(1)), 0), (blank, 1), (encode(picture(2)), 1)]
    report = conclude(surveyed(data_of(train=train)))
    kinds = [each.kind for each in report.findings if each.severity != "note"]
    assert {"duplicate", "blank"} <= set(kinds)
    assert finding(report, "near_duplicate").severity == "note"
    assert report.left_out == {}
    whole = conclude(surveyed(data_of(all=train)))  # no split yet: copies may be cut apart
    assert finding(whole, "near_duplicate").severity == "warning"


def test_conflicting_labels_are_found_exact_and_near() -> None:
    one, other = encode(picture(1)), recoded(picture(1))
    report = conclude(surveyed(data_of(train=[(one, 0), (one, 1), (encode(picture(2)), 0)])))
    assert finding(report, "conflict").count == 1
    assert report.left_out == {
        "train/0.jpg": "a here, b as train: train/1.jpg",
        "train/1.jpg": "b here, a as train: train/0.jpg",
    }
    assert not [each for each in report.findings if each.kind == "duplicate"]  # told already
    near = conclude(surveyed(data_of(train=[(one, 0), (other, 1)])))
    assert finding(near, "near_conflict").severity == "warning"
    assert near.left_out == {}  # pictures of one scene may rightly differ in their label


def test_measurements_of_a_small_range_are_told_apart() -> None:
    """Of 16 bits only the lowest 100 values are used: in 8 bits all would be black."""
    generator = np.random.default_rng(0)
    arrays = [generator.integers(0, 100, (40, 50)).astype(np.uint16) for _ in range(6)]
    files = [save(Image.fromarray(each), "PNG") for each in [*arrays, arrays[0]]]
    report = conclude(
        surveyed(data_of(train=[(f, 0) for f in files[:4]], val=[(f, 0) for f in files[4:]]))
    )
    assert finding(report, "leak").count == 1
    assert report.left_out.keys() == {"train/0.jpg"}
    assert {each.kind for each in report.findings if each.severity == "error"} == {
        "leak",
        "missing_class",
    }


def test_sets_of_labels_conflict_where_they_differ() -> None:
    one, other = encode(picture(1)), encode(picture(2))
    data = multi_data(("a", "b"), [one, one, other, other], [{0, 1}, {1, 0}, {0}, set()])
    report = conclude(surveyed(data))
    assert report.left_out.keys() == {"2.jpg", "3.jpg"}
    assert finding(report, "conflict").items[0].images[0].label == "a"
    assert report.survey.image(0).label == "a | b"


def test_many_near_copies_are_told_but_not_left_out() -> None:
    """Frames of one film, cut apart at random: leaving them out would leave little."""
    train = [(recoded(picture(i)), i % 2) for i in range(60)]
    val = [(encode(picture(i)), i % 2) for i in range(25)]
    report = conclude(surveyed(data_of(train=train, val=val)))
    assert finding(report, "near_leak").count == 25
    assert "split again" in finding(report, "near_leak").advice
    assert report.left_out == {}


def test_a_key_that_names_a_kept_image_too_is_not_listed() -> None:
    data = data_of(train=[(encode(picture(1)), 0), (b"broken", 1)], val=[(encode(picture(1)), 0)])
    names = {"train": ("same.jpg", "x.jpg"), "val": ("same.jpg",)}
    splits = {name: replace(data.splits[name], keys=keys) for name, keys in names.items()}
    report = conclude(surveyed(replace(data, splits=splits)))
    assert report.left_out.keys() == {"x.jpg"}


def test_json_has_stable_names_and_exact_counts() -> None:
    data = data_of(train=[(encode(picture(i)), i % 2) for i in range(4)], val=[(b"", 0)])
    value = json.loads(json.dumps(conclude(surveyed(data)).to_json()))
    assert list(value) == [
        *("format", "data", "images", "usable", "classes", "splits", "findings"),
        *("advice", "left_out"),
    ]
    assert (value["format"], value["images"], value["usable"]) == (1, 5, 4)
    broken = value["findings"][0]
    assert broken["kind"] == "broken" and broken["count"] == 1
    assert broken["items"] == [
        {
            "reason": "the file is empty",
            "images": [{"split": "val", "key": "val/0.jpg", "label": "a"}],
        }
    ]


def test_figures_of_a_split_are_those_of_its_pixels() -> None:
    images = [noise(20, 30, 3, seed=i) // (i + 1) for i in range(3)]
    files = [(save(Image.fromarray(image), "PNG"), 0) for image in images]
    (figures,) = split_figures(surveyed(data_of(train=files)))
    pixels = np.stack(images).reshape(-1, 3)
    assert figures["mean"] == pytest.approx(pixels.mean(0).tolist(), abs=0.01)
    assert figures["std"] == pytest.approx(pixels.std(0).tolist(), abs=0.01)
    assert (figures["height"], figures["width"]) == ([20, 20, 20], [30, 30, 30])
    assert figures["counts"] == [3, 0]


def test_nothing_usable_at_all() -> None:
    report = conclude(surveyed(data_of(train=[(b"", 0), (b"x", 1)])))
    assert finding(report, "broken").count == 2
    assert report.advice == () and len(report.left_out) == 2
    assert finding(report, "missing_class").count == 2
