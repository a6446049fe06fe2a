"""Splits that depend on the images alone."""

import hashlib
import random
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from vitrail.data.dataset import LabelSets
from vitrail.data.sources import open_data
from vitrail.data.splitting import Fractions, split_by_content
from vitrail.errors import DataError

CLASSES = ("cat", "dog")
Listed = dict[str, list[tuple[str, int]]]


def write(root: Path, contents: dict[str, list[str]], prefix: str = "") -> Listed:
    """One file for each content, listed in a random order; the content alone counts."""
    train = []
    for name, each in contents.items():
        (root / name).mkdir(parents=True)
        for place, content in enumerate(each):
            key = f"{name}/{prefix}{place}.png"
            (root / key).write_text(content)
            train.append((key, CLASSES.index(name)))
    random.Random(prefix).shuffle(train)
    return {"train": train}


def contents(n: int = 40) -> dict[str, list[str]]:
    return {name: [f"{name} {i}" for i in range(n)] for name in CLASSES}


def split(root: Path, listed: Listed, fractions: Fractions) -> tuple[Listed, str]:
    """Cut what is listed as train."""
    train = listed["train"]
    content = [(root / key).read_bytes() for key, _ in train]
    parts, note = split_by_content(
        str(root),
        np.arange(len(train)),
        [hashlib.sha256(f"{fractions.seed}:".encode() + each).digest() for each in content],
        np.array([label for _, label in train], np.int64),
        CLASSES,
        {"val": fractions.val} | ({"test": fractions.test} if fractions.test else {}),
    )
    return {name: [train[i] for i in places] for name, places in parts.items()}, note


def cut(root: Path, listed: Listed, **fractions: float) -> dict[str, set[str]]:
    """The contents in each split."""
    result, _ = split(root, listed, Fractions(**fractions))  # type: ignore[arg-type]
    return {
        name: {(root / key).read_text() for key, _ in listing} for name, listing in result.items()
    }


def test_names_and_order_do_not_matter(tmp_path: Path) -> None:
    one = cut(tmp_path / "a", write(tmp_path / "a", contents()))
    renamed = {name: each[::-1] for name, each in contents().items()}
    other = cut(tmp_path / "b", write(tmp_path / "b", renamed, prefix="photo-"))
    assert one == other


def test_every_image_is_in_one_split_in_the_order_of_the_listing(tmp_path: Path) -> None:
    listed = write(tmp_path, contents())
    result, _ = split(tmp_path, listed, Fractions())
    everything = [sample for listing in result.values() for sample in listing]
    assert sorted(everything) == sorted(listed["train"])
    for listing in result.values():
        for label in range(len(CLASSES)):
            mine = [sample for sample in listing if sample[1] == label]
            assert mine == [sample for sample in listed["train"] if sample in mine]


def test_sizes_and_note(tmp_path: Path) -> None:
    listed = write(tmp_path, contents(40))
    result, note = split(tmp_path, listed, Fractions(val=0.2, test=0.1, seed=3))
    for name, size in (("train", 28), ("val", 8), ("test", 4)):
        assert [label for _, label in result[name]].count(0) == size
        assert [label for _, label in result[name]].count(1) == size
    assert note == "train 56, val 16, test 8 images"


def test_another_seed_gives_another_split(tmp_path: Path) -> None:
    listed = write(tmp_path, contents())
    splits = [cut(tmp_path, listed, seed=seed)["val"] for seed in range(4)]
    assert len({frozenset(each) for each in splits}) == 4
    assert cut(tmp_path, listed, seed=0)["val"] == splits[0]


def test_adding_an_image_moves_few(tmp_path: Path) -> None:
    before = cut(tmp_path / "a", write(tmp_path / "a", contents(40)))
    after = cut(tmp_path / "b", write(tmp_path / "b", contents(41)))
    for split in before:
        assert len(before[split] - after[split]) <= 2 * len(CLASSES)


def test_copies_stay_together(tmp_path: Path) -> None:
    copied = {name: [f"{name} {i // 3}" for i in range(60)] for name in CLASSES}
    listed = write(tmp_path, copied)
    result = cut(tmp_path, listed)
    assert not result["train"] & result["val"]
    assert not result["train"] & result["test"]
    assert not result["val"] & result["test"]
    keys, _ = split(tmp_path, listed, Fractions())
    assert sum(len(listing) for listing in keys.values()) == 120


def test_no_test_split_where_none_is_wanted(tmp_path: Path) -> None:
    result = cut(tmp_path, write(tmp_path, contents(10)), test=0.0)
    assert set(result) == {"train", "val"}


@pytest.mark.parametrize(
    ("n", "val", "test"),
    [(3, 0.15, 0.15), (3, 0.9, 0.05), (4, 0.6, 0.39), (10, 0.9, 0.09), (7, 0.01, 0.98)],
)
def test_every_class_is_in_every_split(tmp_path: Path, n: int, val: float, test: float) -> None:
    listed = write(tmp_path, contents(n))
    result, _ = split(tmp_path, listed, Fractions(val=val, test=test))
    for listing in result.values():
        assert {label for _, label in listing} == {0, 1}


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    few = contents(3) | {"dog": ["a", "a", "b", "b"]}
    listed = write(tmp_path, few)
    message = "class 'dog' has 2 different images; 3 are needed to cut val, test"
    with pytest.raises(DataError, match=message):
        split(tmp_path, listed, Fractions())
    split(tmp_path, listed, Fractions(test=0.0))


def test_a_file_that_cannot_be_read_stays_in_train(tmp_path: Path) -> None:
    write(tmp_path, contents(6))
    lost = tmp_path / "dog" / "2.png"
    for seed in range(4):
        lost.unlink(missing_ok=True)
        lost.symlink_to(tmp_path / "nowhere.png")
        data = open_data(str(tmp_path), Fractions(seed=seed))
        assert "dog/2.png" in data.splits["train"].keys
        assert [len(part) for part in data.splits.values()] == [8, 2, 2]


def test_images_of_several_classes_are_cut_as_one_group() -> None:
    sets = LabelSets.of(([i % 3] if i % 4 else [] for i in range(40)), 3)
    digests = [hashlib.sha256(str(i % 38).encode()).digest() for i in range(40)]  # two copies
    parts, note = split_by_content("x", np.arange(40), digests, sets, CLASSES, {"val": 0.25})
    assert note.startswith("train ") and set(parts) == {"train", "val"}
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(40))
    assert len(parts["val"]) == 9  # of 38 less those whose copy has other labels
    assert {0, 1, 38, 39} <= set(parts["train"].tolist())  # 0 and 38, 1 and 39 disagree


@pytest.mark.parametrize(("val", "test"), [(0.5, 0.5), (0.0, 0.2), (0.9, 0.3)])
def test_fractions_must_leave_images(val: float, test: float) -> None:
    with pytest.raises(ValidationError, match="must leave images for training"):
        Fractions(val=val, test=test)


def test_an_image_in_two_classes_stays_in_train(tmp_path: Path) -> None:
    for name, first in (("cat", 0), ("dog", 100)):
        (tmp_path / name).mkdir()
        for i in range(12):
            (tmp_path / name / f"{i}.png").write_bytes(bytes([first + i]))
        (tmp_path / name / "both.png").write_bytes(b"in both")
    for seed in range(5):
        data = open_data(str(tmp_path), Fractions(seed=seed))
        assert {"cat/both.png", "dog/both.png"} <= set(data.splits["train"].keys)


def test_the_last_image_of_a_class_stays_in_train() -> None:
    sets = LabelSets.of([[i % 2] if i < 30 else [2 + i] for i in range(40)], 42)
    digests = [hashlib.sha256(str(i).encode()).digest() for i in range(40)]
    for seed in range(5):
        keyed = [hashlib.sha256(bytes([seed]) + each).digest() for each in digests]
        parts, _ = split_by_content("x", np.arange(40), keyed, sets, CLASSES, {"val": 0.4})
        assert set(range(30, 40)) <= set(parts["train"].tolist())
        assert len(parts["val"]) > 5
