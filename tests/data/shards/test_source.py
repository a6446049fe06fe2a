"""Shards as a source of images: samples, labels, splits, and how they are read."""

import json
import multiprocessing
import os
import pickle
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.data.tars import PNG, image, write_set, write_tar
from vitrail.data.dataset import LabelSets
from vitrail.data.listing import Listing
from vitrail.data.shards import source as module
from vitrail.data.shards.source import DESCRIPTORS, list_shards, matches
from vitrail.data.sources import list_source, open_data
from vitrail.errors import DataError, ImageError


def one(tmp_path: Path, members: Mapping[str, bytes | str], classes: str = "") -> Listing:
    """List one shard of these members."""
    if classes:
        (tmp_path / "classes.txt").write_text(classes)
    return list_shards(str(write_tar(tmp_path / "0.tar", members)))


def labels(listing: Listing) -> dict[str, list[str]]:
    """Give the class names of each member."""
    return {
        key.removeprefix("0.tar/"): [listing.classes[i] for i in np.atleast_1d(own).tolist()]
        for key, own in zip(listing.keys, listing.labels, strict=True)
    }


def test_a_folder_of_shards(tmp_path: Path) -> None:
    source = str(write_set(tmp_path / "pets"))
    assert matches(source)
    listing = list_source(source)
    assert (listing.name, listing.classes, listing.notes) == ("pets", ("0", "1"), ())
    assert listing.keys[0] == "train-0000.tar/0000.png"
    assert listing.keys[-1] == "val-0000.tar/1004.png"
    assert {name: len(places) for name, places in listing.splits.items()} == {"train": 15, "val": 5}
    assert isinstance(listing.labels, np.ndarray)
    for i, key in enumerate(listing.keys):
        number = int(key[-8:-4])
        assert listing.read(i) == image(f"image {number}")
        assert listing.labels[i] == number % 2
    assert listing.weights is None and listing.digest is None
    assert len(set(listing.keys)) == 20


def test_open_data(tmp_path: Path) -> None:
    data = open_data(str(write_set(tmp_path)))
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 15, "val": 5}
    assert data.splits["val"].keys[0] == "val-0000.tar/1000.png"
    assert data.splits["val"].read(0) == image("image 1000")


def test_without_splits_they_are_cut_by_content(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", {f"{c}/{i}.png": f"{c}{i}" for c in "ab" for i in range(20)})
    listing = list_source(str(tmp_path))
    assert listing.splits == {}
    assert list(open_data(str(tmp_path)).splits) == ["train", "val", "test"]


def test_names_of_one_shard(tmp_path: Path) -> None:
    assert one(tmp_path, {"a/0.png": "", "b/0.png": ""}).name == "0"


# --- samples and labels ---


def test_labels_of_folders(tmp_path: Path) -> None:
    listing = one(
        tmp_path, {"x/cat/1.png": "", "x/dog/1.png": "", "./cat/2.JPEG": "", "10/a.gif": ""}
    )
    assert listing.classes == ("10", "cat", "dog")
    assert labels(listing) == {
        "x/cat/1.png": ["cat"],
        "x/dog/1.png": ["dog"],
        "cat/2.JPEG": ["cat"],
        "10/a.gif": ["10"],
    }


def test_labels_beside_the_image(tmp_path: Path) -> None:
    members = {
        "f/a.png": "",
        "f/a.cls": b"dog\n",  # before the folder
        "f/b.cls": b"cat",
        "f/b.json": b'{"label": "dog"}',  # .cls comes first
        "f/b.png": "",
        "f/c.json": b'{"label": "cow", "caption": "moo"}',
        "f/c.png": "",
        "f/d.json": b'{"caption": "no label"}',
        "f/d.txt": b"a caption is no label",
        "f/d.png": "",
    }
    found = labels(one(tmp_path, members))
    assert found == {"f/a.png": ["dog"], "f/b.png": ["cat"], "f/c.png": ["cow"], "f/d.png": ["f"]}


def test_members_of_a_sample_may_lie_apart(tmp_path: Path) -> None:
    members = {"a.png": "", "b.png": "", "b.cls": b"1", "a.cls": b"0"}
    assert labels(one(tmp_path, members)) == {"a.png": ["0"], "b.png": ["1"]}


def test_a_sample_ends_at_the_first_dot(tmp_path: Path) -> None:
    members = {"d.1/a.left.png": "", "d.1/a.cls": b"x", "d.1/b.png": "", "d.1/b.cls": b"y"}
    assert labels(one(tmp_path, members)) == {"d.1/a.left.png": ["x"], "d.1/b.png": ["y"]}


def test_numbers_with_and_without_names(tmp_path: Path) -> None:
    members = {f"{i}.png": "" for i in (2, 10)} | {f"{i}.cls": b"%03d" % i for i in (2, 10)}
    assert one(tmp_path, members).classes == ("2", "10")
    names = "".join(f"name {9 - i}\n" for i in range(11))
    listing = one(tmp_path, members, classes=names)
    assert listing.classes == tuple(names.split("\n")[:-1])  # the order of the file
    assert labels(listing) == {"2.png": ["name 7"], "10.png": ["name -1"]}


def test_classes_of_windows(tmp_path: Path) -> None:
    listing = one(tmp_path, {"a.png": "", "a.cls": b"1"}, classes="\ufeffcat\r\ndog\r\n")
    assert (listing.classes, labels(listing)) == (("cat", "dog"), {"a.png": ["dog"]})


def test_several_labels(tmp_path: Path) -> None:
    members = {
        "a.png": "",
        "a.cls": b"dog|cat",
        "b.png": "",
        "b.json": b'{"label": ["cat", "cow"]}',
        "c.png": "",
        "c.json": b'{"label": []}',
        "d.png": "",
        "d.cls": b"cow",
    }
    listing = one(tmp_path, members)
    assert isinstance(listing.labels, LabelSets)
    assert labels(listing) == {
        "a.png": ["cat", "dog"],
        "b.png": ["cat", "cow"],
        "c.png": [],
        "d.png": ["cow"],
    }


def test_weights(tmp_path: Path) -> None:
    members = {f"{c}.png": "" for c in "abc"} | {f"{c}.cls": c.encode() for c in "abc"}
    members |= {"a.json": b'{"weight": 2.5}', "b.json": b'{"weight": 0}'}
    listing = one(tmp_path, members)
    assert listing.weights is not None and listing.weights.tolist() == [2.5, 0.0, 1.0]


def test_labels_without_an_image_are_told(tmp_path: Path) -> None:
    members = {"a/1.png": "", "b.ppm": b"P6", "b.cls": b"1", "c.json": b"{}", "readme.txt": b""}
    listing = one(tmp_path, members)
    assert list(listing.keys) == ["0.tar/a/1.png"]
    (note,) = listing.notes
    assert "2 members are left out (no image beside the label), the first 'b' in 0.tar" in note


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"a.png": ""}, "'a.png' has no label; add a.cls or a.json beside it, or a folder"),
        ({"c/a.png": "", "c/a.seg.png": ""}, "'c/a.seg.png' is a second image of the sample"),
        ({"c/a.png": "", "c/a.cls": b""}, "'c/a.cls' holds ''; it must be a class number or name"),
        ({"c/a.png": "", "c/a.cls": b"x|"}, "must be a class number or name"),
        ({"c/a.png": "", "c/a.cls": b"-1"}, "'c/a.cls' holds -1; class numbers begin with 0"),
        ({"c/a.png": "", "c/a.cls": b"\xff"}, "'c/a.cls' is no UTF-8 text"),
        ({"c/a.png": "", "c/a.cls": b"x\ny"}, r"holds 'x\\ny'"),
        ({"c/a.png": "", "c/a.cls": b"1", "c/a.CLS": b"1"}, "is a second label of its sample"),
        ({"c/a.png": "", "c/a.json": b"["}, "'c/a.json' is no JSON"),
        ({"c/a.png": "", "c/a.json": b"[]"}, "'c/a.json' must be an object"),
        ({"c/a.png": "", "c/a.json": b'{"label": true}'}, "label=True must be a class name"),
        ({"c/a.png": "", "c/a.json": b'{"label": -1}'}, "label=-1 must be a class name"),
        ({"c/a.png": "", "c/a.json": b'{"label": 1.5}'}, "label=1.5 must be a class name"),
        ({"c/a.png": "", "c/a.json": b'{"label": [null]}'}, "label=None must be a class name"),
        ({"c/a.png": "", "c/a.json": b'{"weight": -1}'}, "weight=-1 must be a number of at"),
        ({"c/a.png": "", "c/a.json": b'{"weight": NaN}'}, "weight=nan must be a number"),
        ({"c/a.png": "", "c/a.json": b'{"weight": 1e999}'}, "weight=inf must be a number"),
        ({"c/a.png": "", "c/a.json": b'{"weight": 1' + b"0" * 400 + b"}"}, "weight=1000"),
    ],
)
def test_labels_that_are_refused(
    tmp_path: Path, members: Mapping[str, bytes | str], why: str
) -> None:
    with pytest.raises(DataError, match=why) as caught:
        one(tmp_path, members)
    assert str(caught.value).startswith(str(tmp_path / "0.tar"))


@pytest.mark.parametrize(
    ("label", "classes", "why"),
    [
        (b"2", "cat\ndog\n", "class number 2 is not among the 2 of classes.txt"),
        (b"cow", "cat\ndog\n", "class 'cow' is not among the 2 of classes.txt"),
        (b"0", "cat\ndog\ncat\n", "class 'cat' stands there twice"),
        (b"0", "cat\n\ndog\n", "class name '' is empty"),
    ],
)
def test_classes_that_are_refused(tmp_path: Path, label: bytes, classes: str, why: str) -> None:
    with pytest.raises(DataError, match=why):
        one(tmp_path, {"a.png": "", "a.cls": label}, classes=classes)


def test_a_shard_without_a_split_beside_others(tmp_path: Path) -> None:
    write_set(tmp_path)
    write_tar(tmp_path / "more-0000.tar", {"a/1.png": ""})
    with pytest.raises(DataError, match=r"shard 'more-0000\.tar' stands beside shards of splits"):
        list_shards(str(tmp_path))


def test_an_empty_shard_beside_others(tmp_path: Path) -> None:
    write_set(tmp_path, shards=2)
    write_tar(tmp_path / "train-0000.tar", {})
    listing = list_shards(str(tmp_path))
    assert [len(places) for places in listing.splits.values()] == [5, 5]
    assert listing.read(0) == image("image 5")


# --- reading ---


def read_all(listing: Listing) -> list[bytes]:
    return [listing.read(i) for i in range(len(listing.keys))]


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_other_processes_read_the_same(tmp_path: Path, start: str) -> None:
    listing = list_shards(str(write_set(tmp_path)))
    here = read_all(listing)  # opens descriptors that a child must not share
    context = multiprocessing.get_context(start)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        assert list(pool.map(listing.read, range(len(here)))) == here


def test_threads_read_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = list_shards(str(write_set(tmp_path, shards=30, each=2)))
    here = read_all(listing)
    module._open.cache_clear()
    order = [i for _ in range(20) for i in range(len(here))]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(listing.read, order)) == [here[i] for i in order]


def test_few_descriptors_stay_open(tmp_path: Path) -> None:
    listing = list_shards(str(write_set(tmp_path, shards=DESCRIPTORS + 30, each=1)))
    module._open.cache_clear()
    before = len(os.listdir("/proc/self/fd"))
    read_all(listing)
    assert len(os.listdir("/proc/self/fd")) - before == DESCRIPTORS


def test_the_reader_can_be_pickled(tmp_path: Path) -> None:
    listing = list_shards(str(write_set(tmp_path)))
    again = pickle.loads(pickle.dumps(listing.read))
    assert [again(i) for i in range(len(listing.keys))] == read_all(listing)
    with pytest.raises(IndexError):
        again(len(listing.keys))


def test_a_shard_that_changes_or_vanishes_is_named(tmp_path: Path) -> None:
    listing = list_shards(str(write_set(tmp_path)))
    path = tmp_path / "train-0001.tar"
    path.write_bytes(path.read_bytes() + bytes(512))
    os.utime(path, ns=(1, 1))
    with pytest.raises(ImageError, match=r"train-0001\.tar/0005\.png: its shard changed since"):
        listing.read(5)
    path.unlink()
    with pytest.raises(ImageError, match=r"train-0001\.tar/0005\.png: No such file"):
        listing.read(5)
    assert listing.read(0) == image("image 0")


def test_a_shard_that_is_cut_off_later_is_named(tmp_path: Path) -> None:
    listing = list_shards(str(write_set(tmp_path)))
    assert listing.read(4) == image("image 4")  # its descriptor is open
    os.truncate(tmp_path / "train-0000.tar", 600)
    with pytest.raises(ImageError, match=r"0004\.png: its shard is cut off"):
        listing.read(4)


def test_samples_written_by_another_library(tmp_path: Path) -> None:
    """The layout that img2dataset and timm's sets have."""
    about = json.dumps({"caption": "a cat", "url": "https://…", "key": "0", "status": "success"})
    members = {
        "000000000.jpg": PNG + b"0",
        "000000000.json": about.encode(),
        "000000000.cls": b"281",
    }
    listing = one(tmp_path, members)
    assert (listing.classes, listing.read(0)) == (("281",), PNG + b"0")
