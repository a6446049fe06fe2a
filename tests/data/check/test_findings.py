"""Findings about single images, classes and names: what is named, and what is not."""

import numpy as np
import pytest
from PIL import Image

from tests.data.check.pictures import encode, picture
from tests.data.check.readers import data_of, multi_data, split_of
from tests.data.images import save
from vitrail.data.check.class_findings import class_findings, effective, imbalance
from vitrail.data.check.finding import LISTED, Finding, Item, listed, plural
from vitrail.data.check.image_findings import image_findings
from vitrail.data.check.record import examine
from vitrail.data.check.survey import Survey
from vitrail.data.dataset import Data, Split


def seen(files: list[bytes], size: int = 32) -> dict[str, Finding]:
    survey = Survey(data_of(train=[(file, 0) for file in files]))
    for i, file in enumerate(files):
        survey.add(0, i, examine(file, "x", 10**8) if file else "the file is empty")
    return {each.kind: each for each in image_findings(survey, size)}


def keys(finding: Finding) -> list[str]:
    return [image.key for item in finding.items for image in item.images]


ORDINARY = [encode(picture(i)) for i in range(8)]


def test_ordinary_photographs_have_no_findings() -> None:
    assert seen(ORDINARY) == {}


def test_each_oddity_is_named_alone() -> None:
    grey = picture(20).convert("L")
    odd = {
        "broken": b"",
        "blank": encode(Image.new("RGB", (60, 50), "green")),
        "extreme_shape": encode(picture(21).resize((330, 30))),
        "rotated": save(picture(22), "JPEG", 6),
        "grey_as_colour": encode(grey.convert("RGB")),
        "mixed_modes": save(grey, "PNG"),
    }
    found = seen([*ORDINARY, *odd.values()])
    assert found.keys() == odd.keys()
    for number, kind in enumerate(odd):
        assert keys(found[kind]) == [f"train/{8 + number}.jpg"], kind
        assert found[kind].count == 1
    assert found["extreme_shape"].items[0].reason == "30x330 pixels"
    assert found["rotated"].items[0].reason == "EXIF orientation 6"
    assert found["mixed_modes"].summary == "several kinds of pixels: RGB 12, L 1"
    assert {kind for kind, each in found.items() if each.severity == "error"} == {"broken"}


def test_a_side_of_one_pixel_is_extreme() -> None:
    found = seen([*ORDINARY, save(Image.new("RGB", (3, 1)), "PNG")])
    assert keys(found["extreme_shape"]) == ["train/8.jpg"]


@pytest.mark.parametrize(("outliers", "told"), [(1, True), (3, False)])
def test_few_that_are_far_larger_are_outliers_and_many_are_not(outliers: int, told: bool) -> None:
    large = [encode(picture(50 + i).resize((640, 480))) for i in range(outliers)]
    assert ("size_outlier" in seen([*ORDINARY * 15, *large])) is told


def test_small_is_less_than_half_of_the_input() -> None:
    small = encode(picture(30).resize((40, 31)))
    assert keys(seen([*ORDINARY, small], 64)["small"]) == ["train/8.jpg"]
    assert "small" not in seen([*ORDINARY, small], 62)


# --- classes ---


def told(data: Data, **counts: list[int]) -> dict[str, Finding]:
    found = class_findings(data, {name: np.array(each) for name, each in counts.items()})
    return {f"{each.kind} {each.severity}": each for each in found}


def classes(*names: str, splits: tuple[str, ...] = ("train", "val"), keys: tuple = ()) -> Data:
    split = Split(keys, np.zeros(len(keys), np.int64), split_of([], []).read)
    return Data("made", names, dict.fromkeys(splits, split))


def test_even_classes_have_no_findings() -> None:
    assert told(classes("cat", "dog"), train=[50, 60], val=[9, 5]) == {}


@pytest.mark.parametrize(
    ("train", "val", "kinds"),
    [
        ([50, 0], [9, 9], {"missing_class error"}),
        ([50, 50], [9, 0], {"missing_class warning"}),
        ([50, 20], [9, 9], set()),
        ([50, 12], [9, 9], {"imbalance note"}),
        ([501, 50], [9, 9], {"imbalance warning"}),
        ([20, 1], [9, 9], {"tiny_class warning", "imbalance warning"}),
        ([20, 9], [9, 9], {"small_class warning"}),
        ([0, 0], [0, 0], {"missing_class error", "missing_class warning"}),
    ],
)
def test_counts_decide(train: list[int], val: list[int], kinds: set[str]) -> None:
    assert told(classes("cat", "dog"), train=train, val=val).keys() == kinds


def test_the_smallest_classes_are_named_first() -> None:
    found = told(classes("cat", "dog", "eel"), train=[2000, 10, 100], val=[9, 9, 9])
    finding = found["imbalance warning"]
    assert finding.items[0].reason == "'dog' has 10 images"
    assert finding.summary.startswith("the largest class of train has 200.0 times")


def test_imbalance_in_numbers() -> None:
    assert imbalance(np.array([30, 0, 3])) == 10 and imbalance(np.array([0, 0])) == 1
    assert effective(np.array([7, 7, 7, 0])) == pytest.approx(3)
    assert effective(np.array([9, 1])) == pytest.approx(1.384, abs=1e-3)


def test_several_labels_are_uneven_by_nature() -> None:
    data = multi_data(("a", "b"), [b""] * 40, [{0}] * 40)
    assert told(data, all=[400, 20]).keys() == {"imbalance note"}


def test_one_class_is_nothing_to_tell_apart() -> None:
    assert "one_class error" in told(classes("cat"), train=[50], val=[9])


@pytest.mark.parametrize(
    ("names", "told_names"),
    [
        (("Cat", "cat"), ["'Cat' and 'cat'"]),
        (("caf\u00e9", "cafe\u0301"), ["'cafe\u0301' and 'caf\u00e9'"]),
        (("STRASSE", "straße"), ["'STRASSE' and 'straße'"]),
        (("cat", "cats"), []),
    ],
)
def test_names_that_some_take_for_one(names: tuple[str, ...], told_names: list[str]) -> None:
    found = told(classes(*names), train=[50, 50], val=[9, 9])
    shown = found["class_names warning"].items if found else ()
    assert [item.reason for item in shown] == told_names


def test_files_that_differ_in_case_only() -> None:
    data = classes("cat", "dog", splits=("train",), keys=("cat/A.jpg", "cat/a.JPG", "cat/b.jpg"))
    found = told(data, train=[50, 50])
    assert found["file_names warning"].items == (Item("'cat/A.jpg' and 'cat/a.JPG'"),)


STRANGE = [".ipynb_checkpoints", "__MACOSX", "New Folder (2)", "cat - Copy", "tmp", ".hidden"]


@pytest.mark.parametrize("name", STRANGE)
def test_folders_that_programs_make(name: str) -> None:
    found = told(classes("cat", name), train=[50, 50], val=[9, 9])
    assert [item.reason for item in found["strange_class warning"].items] == [repr(name)]


@pytest.mark.parametrize("name", ["old", "copycat", "new york", "folder", "attempt", "1", "a.b"])
def test_ordinary_names_are_not_strange(name: str) -> None:
    assert told(classes("cat", name), train=[50, 50], val=[9, 9]) == {}


def test_a_finding_keeps_so_many_cases_and_counts_all() -> None:
    found = seen([*ORDINARY, *[b""] * (LISTED + 5)])["broken"]
    assert (found.count, len(found.items)) == (LISTED + 5, LISTED)
    assert len(listed(Item("") for _ in range(LISTED + 1))) == LISTED
    assert (plural(1, "class", "classes"), plural(2000, "image")) == ("1 class", "2,000 images")
