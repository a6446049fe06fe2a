"""From what a source holds to a data set, whatever the source."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from vitrail.data.dataset import LabelSets, Names
from vitrail.data.listing import Listing, arrange, measure_all, number_classes
from vitrail.data.splitting import Fractions
from vitrail.errors import DataError

LABELS = [0, 1, 2] * 10


def listing(
    labels: Sequence[int] = LABELS, splits: Mapping[str, Sequence[int]] | None = None
) -> Listing:
    keys = Names.of(f"{i}.png" for i in range(len(labels)))
    return Listing(
        name="pets",
        where="here/pets",
        keys=keys,
        classes=("cat", "dog", "emu"),
        labels=np.array(labels, np.int64),
        read=lambda i: keys[i].encode(),
        splits={name: np.array(each, np.int64) for name, each in (splits or {}).items()},
        weights=np.arange(len(labels)) + 0.5,
    )


def test_splits_that_are_told_are_kept() -> None:
    data = arrange(
        listing(splits={"test": [27, 1, 5], "train": range(6, 20), "val": [3]}), Fractions(), {}
    )
    assert list(data.splits) == ["train", "val", "test"]
    assert list(data.splits["test"].keys) == ["27.png", "1.png", "5.png"]
    assert data.splits["test"].labels.tolist() == [0, 1, 2]
    assert data.splits["test"].weights.tolist() == [27.5, 1.5, 5.5]  # type: ignore[union-attr]
    assert [data.splits["test"].read(i) for i in range(3)] == [b"27.png", b"1.png", b"5.png"]
    assert data.notes == ("val has no image of 2 classes: 'dog', 'emu'",)


def test_missing_splits_are_cut_and_said() -> None:
    data = arrange(listing(), Fractions(val=0.2, test=0.1, seed=4), {})
    assert data.notes == ("split by file content with seed 4: train 21, val 6, test 3 images",)
    keys = [key for split in data.splits.values() for key in split.keys]
    assert sorted(keys) == sorted(f"{i}.png" for i in range(30))
    again = arrange(listing(), Fractions(val=0.2, test=0.1, seed=4), {})
    assert all(again.splits[name].keys == split.keys for name, split in data.splits.items())


def test_a_known_digest_spares_reading() -> None:
    def refuse(i: int) -> bytes:
        raise AssertionError("read")

    known = replace(listing(), read=refuse, digest=lambda i: bytes([i]) * 32)
    assert len(arrange(known, Fractions(), {}).splits["train"]) > 0


@pytest.mark.parametrize("splits", [None, {"train": range(20), "val": range(20, 30)}])
def test_what_is_left_out_is_in_no_split(splits: Mapping[str, Sequence[int]] | None) -> None:
    left_out = {"3.png": "cut off", "25.png": "leak", "absent.png": "gone already"}
    for data in (
        arrange(listing(splits=splits), Fractions(), left_out),
        measure_all(listing(splits=splits), left_out),
    ):
        keys = [key for split in data.splits.values() for key in split.keys]
        assert sorted(keys) == sorted(f"{i}.png" for i in range(30) if i not in (3, 25))
        assert "2 images are left out by the quarantine list" in data.notes
        for split in data.splits.values():
            for i, key in enumerate(split.keys):
                assert split.read(i) == key.encode()
                assert split.labels[i] == LABELS[int(key.removesuffix(".png"))]
                assert split.weights is not None
                assert split.weights[i] == int(key.removesuffix(".png")) + 0.5


def test_to_measure_nothing_is_cut() -> None:
    assert list(measure_all(listing(), {}).splits) == ["all"]
    lacking = measure_all(listing(splits={"val": [0, 3]}), {})
    assert list(lacking.splits) == ["val"] and lacking.splits["val"].labels.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"val": [0, 1, 2], "test": [3]}, "there is val and test but no train split"),
        ({"train": range(9), "val": []}, r"\(val\): no images found"),
        ({"train": [0, 1, 3], "val": [4]}, r"\(train\): class 'emu' has no image"),
        ({"train": [0, 1, 3], "val": [2]}, r"\(val\): class 'emu' is not in train"),
    ],
)
def test_what_cannot_be_trained_on(splits: dict[str, Sequence[int]], message: str) -> None:
    with pytest.raises(DataError, match=f"^here/pets.*{message}"):
        arrange(listing(splits=splits), Fractions(), {})


def test_an_empty_split_cannot_be_measured() -> None:
    with pytest.raises(DataError, match=r"here/pets \(val\): no images found"):
        measure_all(listing(splits={"val": []}), {})


def test_several_labels_may_be_one_class() -> None:
    sets = replace(listing(), classes=("wet",), labels=LabelSets.of([[0], []] * 15, 1))
    data = arrange(sets, Fractions(), {})
    assert data.multi_label and data.splits["train"].counts(1)[0] > 0


def test_classes_are_numbered_in_natural_order() -> None:
    assert number_classes(["10", "9", "a", "9"], "x") == ("9", "10", "a")


@pytest.mark.parametrize("name", ["", "  ", "x" * 1001])
def test_a_class_needs_a_name(name: str) -> None:
    with pytest.raises(DataError, match=r"^here: class name .* is empty or longer than 1000"):
        number_classes(["a", name], "here")


def test_lines_of_the_list_that_name_nothing_are_said() -> None:
    data = arrange(listing(), Fractions(), {"3.png": "x", "./4.png": "y", "nowhere": "z"})
    assert data.notes[:2] == (
        "1 images are left out by the quarantine list",
        "2 lines of the quarantine list name no image here",
    )


def test_a_list_that_takes_all_is_named() -> None:
    everything = {f"{i}.png": "bad" for i in range(0, 30, 3)}  # all of class 0
    message = r"class 'cat' has no image \(10 are left out by the quarantine list\)"
    with pytest.raises(DataError, match=message):
        arrange(listing(), Fractions(), everything)
    with pytest.raises(DataError, match=r"\(val\): no images found \(1 are left out"):
        measure_all(listing(splits={"val": [5]}), {"5.png": "bad"})


def test_several_labels_need_one_class() -> None:
    sets = replace(listing(), classes=(), labels=LabelSets.of([[]] * 30, 0))
    with pytest.raises(DataError, match="0 classes found; a classifier needs one or more"):
        arrange(sets, Fractions(), {})
