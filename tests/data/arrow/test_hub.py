"""Data sets of Hugging Face, made here with their own library; nothing is fetched."""

import os
import pickle
import sys
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value

from tests.data.images import save
from tests.data.parquets import NAMES, content
from tests.data.samples import photo
from vitrail.data.arrow.hub import list_hub, matches
from vitrail.data.dataset import LabelSets
from vitrail.data.loader import FileImages, train_batches
from vitrail.data.preprocess import Preprocess
from vitrail.data.sources import open_data, open_to_measure
from vitrail.errors import DataError, ImageError

LABEL = ClassLabel(names=list(NAMES))


@pytest.fixture(autouse=True)
def _caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_DATASETS_CACHE", "HF_MODULES_CACHE"):
        monkeypatch.setattr(datasets.config, name, tmp_path / name)


def make(n: int = 12, first: int = 0, **columns: tuple[list[Any], Any]) -> Dataset:
    """Give a data set of images, with labels unless other columns are given."""
    rows = range(first, first + n)
    columns = columns or {"label": ([i % 4 for i in rows], LABEL)}
    columns = {"image": ([{"bytes": content(i), "path": None} for i in rows], Image())} | columns
    values = {name: column for name, (column, _) in columns.items()}
    return Dataset.from_dict(values, Features({name: kind for name, (_, kind) in columns.items()}))


def saved(data: Dataset | DatasetDict, path: Path) -> str:
    data.save_to_disk(path)
    return str(path)


def test_a_saved_data_set(tmp_path: Path) -> None:
    source = saved(make(), tmp_path / "pets")
    assert matches(source)
    listing = list_hub(source)
    assert (listing.name, listing.classes, listing.splits) == ("pets", NAMES, {})
    assert list(listing.keys) == [f"all:{i}" for i in range(12)]
    assert listing.labels.tolist() == [i % 4 for i in range(12)]
    assert [listing.read(i) for i in (11, 0, 5)] == [content(i) for i in (11, 0, 5)]


def test_splits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = {"train": make(8), "validation": make(4, 8), "extra": make(4, 12), "test": make(4, 16)}
    source = saved(DatasetDict(parts), tmp_path / "pets")
    capsys.readouterr()
    data = open_data(source)
    assert capsys.readouterr() == ("", "")
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 8,
        "val": 4,
        "test": 4,
    }
    assert data.splits["val"].keys[3] == "validation:3"
    assert data.splits["val"].read(3) == content(11)
    assert data.splits["test"].read(0) == content(16)
    assert data.notes == ("splits 'extra' are left out",)


def test_a_test_split_without_labels(tmp_path: Path) -> None:
    hidden = make(4, label=([-1] * 4, LABEL))
    source = saved(DatasetDict({"train": make(8), "test": hidden}), tmp_path / "pets")
    listing = list_hub(source)
    assert list(listing.splits) == ["train"]
    assert listing.notes == ("test is left out: none of its 4 images has a label",)


@pytest.mark.parametrize(
    ("values", "kind", "classes", "labels"),
    [
        (["b", "a", "b"], Value("string"), ("a", "b"), [[1], [0], [1]]),
        ([10, 9, 10], Value("int32"), ("9", "10"), [[1], [0], [1]]),
        ([[3, 0], [], [2]], List(LABEL), NAMES, [[0, 3], [], [2]]),
        ([["b", "a"], ["b"], []], List(Value("string")), ("a", "b"), [[0, 1], [1], []]),
    ],
)
def test_kinds_of_labels(
    tmp_path: Path, values: list[Any], kind: Any, classes: tuple[str, ...], labels: list[list[int]]
) -> None:
    listing = list_hub(saved(make(3, label=(values, kind)), tmp_path / "x"))
    assert listing.classes == classes
    assert isinstance(listing.labels, LabelSets) == isinstance(values[0], list)
    assert [np.atleast_1d(each).tolist() for each in listing.labels] == labels


def test_weights_and_splits_of_rows(tmp_path: Path) -> None:
    columns = {
        "label": ([0, 1, 0], LABEL),
        "weight": ([1, 2, 3], Value("int8")),
        "split": (["train", "val", "train"], Value("string")),
    }
    listing = list_hub(saved(make(3, **columns), tmp_path / "x"))
    assert listing.weights.tolist() == [1, 2, 3]  # type: ignore[union-attr]
    assert listing.splits["train"].tolist() == [0, 2]


def test_columns_that_the_user_names(tmp_path: Path) -> None:
    other = [{"bytes": content(i + 50), "path": None} for i in range(4)]
    columns = {
        "back": (other, Image()),
        "a": ([0, 1, 2, 3], LABEL),
        "b": (list("xyxy"), Value("string")),
    }
    data = make(4, **columns).rename_column("image", "front")
    source = saved(data, tmp_path / "x")
    with pytest.raises(DataError, match=r"x: several image columns: 'front', 'back'; .*#image=f"):
        list_hub(source)
    listing = list_hub(f"{source}#image=back,label=b")
    assert (listing.read(1), listing.classes) == (content(51), ("x", "y"))
    assert list_hub(f"{source}#image=back").classes == NAMES  # the only one with names
    with pytest.raises(DataError, match="column 'c' is not there"):
        list_hub(f"{source}#image=back,label=c")


def test_chosen_and_shuffled_rows_are_saved_in_their_order(tmp_path: Path) -> None:
    data = make(12).shuffle(seed=3)
    labels = data["label"][:]
    listing = list_hub(saved(data, tmp_path / "x"))
    assert listing.labels.tolist() == labels
    order = [content(i) for i in range(12)]
    assert [order.index(listing.read(i)) % 4 for i in range(12)] == labels


def test_images_that_lie_beside(tmp_path: Path) -> None:
    for i in range(4):
        file = tmp_path / "pets" / "train" / "ab"[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(save(photo(5, 7, i), "PNG"))
    listing = list_hub(f"hf://{tmp_path}/pets")
    assert (listing.name, listing.classes) == ("pets", ("a", "b"))
    assert list(listing.keys) == [f"train:{i}" for i in range(4)]
    files = {save(photo(5, 7, i), "PNG"): i % 2 for i in range(4)}
    assert [files[listing.read(i)] for i in range(4)] == listing.labels.tolist()
    for file in (tmp_path / "pets").rglob("*.png"):
        file.unlink()
    with pytest.raises(ImageError, match=r"train:2: .*\.png: no such file"):
        listing.read(2)


def test_a_folder_in_the_layout_of_the_hub(tmp_path: Path) -> None:
    (tmp_path / "pets" / "data").mkdir(parents=True)
    for name in ("train", "test"):
        make(8).to_parquet(tmp_path / "pets" / "data" / f"{name}-00000-of-00001.parquet")
    by_library = open_to_measure(f"hf://{tmp_path}/pets")
    by_us = open_to_measure(str(tmp_path / "pets"))
    assert by_library.classes == by_us.classes == NAMES
    for name, split in by_us.splits.items():
        there = by_library.splits[name]
        assert [split.read(i) for i in range(8)] == [there.read(i) for i in range(8)]
        assert split.labels.tolist() == there.labels.tolist()


def test_a_row_without_image(tmp_path: Path) -> None:
    rows = [{"bytes": b"1", "path": None}, None, {"bytes": None, "path": "near.png"}]
    data = Dataset.from_dict({"img": rows, "label": [0, 1, 0]}).cast_column("label", LABEL)
    listing = list_hub(saved(data, tmp_path / "x"))
    assert listing.read(0) == b"1"
    for i in (1, 2):
        with pytest.raises(ImageError, match=rf"x: all:{i}: the row has no image \(null\)"):
            listing.read(i)


@pytest.mark.parametrize("source", ["hf://no/such", "hf://no/such@main", "hf://no/such:config"])
def test_without_network(source: str) -> None:
    assert matches(source)
    with pytest.raises(DataError) as error:
        list_hub(source)
    assert str(error.value).startswith(f"{source}: cannot be loaded (")
    assert "check the name, your access and the network" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("source", ["hf://", "hf://a@", "hf://a:", "hf://@b"])
def test_names_that_cannot_be(source: str) -> None:
    with pytest.raises(DataError, match=r"allowed is hf://NAME\[@REVISION\]\[:CONFIG\]"):
        list_hub(source)


def test_code_of_a_data_set_is_not_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets" / "pets.py").write_text(f"open({str(ran)!r}, 'w').close()")
    with pytest.raises(DataError, match="cannot be loaded"):
        list_hub(f"hf://{tmp_path}/pets")
    assert not ran.exists()


def test_splits_that_have_no_use(tmp_path: Path) -> None:
    source = saved(DatasetDict({"left": make(), "right": make()}), tmp_path / "x")
    with pytest.raises(DataError, match="its splits are 'left', 'right'; allowed are train, val"):
        list_hub(source)
    source = saved(DatasetDict({"val": make(), "validation": make()}), tmp_path / "y")
    with pytest.raises(DataError, match="two of its splits val, validation have the same meaning"):
        list_hub(source)


def test_splits_that_disagree(tmp_path: Path) -> None:
    parts = {"train": make(), "test": make(2, label=(["a", "b"], Value("string")))}
    with pytest.raises(DataError, match="columns or class names of test are not those of train"):
        list_hub(saved(DatasetDict(parts), tmp_path / "x"))


@pytest.mark.parametrize("name", ["state.json", "dataset_info.json", "data-00000-of-00001.arrow"])
def test_damaged_folders(tmp_path: Path, name: str) -> None:
    source = saved(make(), tmp_path / "x")
    whole = (tmp_path / "x" / name).read_bytes()
    for size in range(0, len(whole) - 1, len(whole) // 17):
        (tmp_path / "x" / name).write_bytes(whole[:size])
        try:
            listing = list_hub(source)
            assert [listing.read(i) for i in range(12)] == [content(i) for i in range(12)]
            assert name.endswith("arrow") and size > len(whole) - 400  # only its end mark is gone
        except DataError as error:
            assert str(error).startswith(f"{source}: ") and "\n" not in str(error)


def test_lengths_in_a_file_may_lie(tmp_path: Path) -> None:
    """The offsets of values are used as addresses; wrong ones must not be followed."""
    source = saved(make(3), tmp_path / "x")
    path = tmp_path / "x" / "data-00000-of-00001.arrow"
    ends = np.cumsum([0, *(len(content(i)) for i in range(3))]).astype(np.int32)
    whole = path.read_bytes()
    assert whole.count(ends.tobytes()) == 1
    path.write_bytes(whole.replace(ends.tobytes(), ends[:-1].tobytes() + b"\xff\xff\xff\x7f"))
    listing = list_hub(source)
    assert listing.read(0) == content(0)
    with pytest.raises(ImageError, match="x: all:2: cannot be read"):
        listing.read(2)


def test_without_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = saved(make(), tmp_path / "x")
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert matches(source)
    with pytest.raises(DataError, match=r"x: needs the extra hub: pip install 'vitrail\[hub\]'"):
        list_hub(source)


def test_what_is_no_source(tmp_path: Path) -> None:
    assert (
        not matches(str(tmp_path)) and not matches(str(tmp_path / "no")) and not matches("glyphs")
    )
    (tmp_path / "state.json").write_text("{}")
    assert not matches(str(tmp_path))


# --- worker processes ---


def forked(read: Any, i: int) -> None:
    os._exit(0 if read(i) == content(i) else 1)


def test_in_another_process(tmp_path: Path) -> None:
    read = list_hub(saved(make(), tmp_path / "x")).read
    assert read(11) == content(11)  # mapped here already
    process = get_context("fork").Process(target=forked, args=(read, 5))
    process.start()
    process.join()
    assert process.exitcode == 0
    sent = pickle.dumps(read)
    assert pickle.loads(sent)(7) == read(7) == content(7)
    assert len(sent) < 5000  # the rows are mapped there again


def test_batches_from_workers(tmp_path: Path) -> None:
    rows = [{"bytes": save(photo(9, 13, i), "PNG"), "path": None} for i in range(11)]
    data = Dataset.from_dict({"image": rows, "label": [i % 4 for i in range(11)]})
    features = Features({"image": Image(), "label": LABEL})
    split = open_to_measure(saved(data.cast(features), tmp_path / "x")).splits["all"]
    found = FileImages(split, Preprocess(size=(6, 10)))
    alone, together = (
        list(train_batches(found, seed=1, batch_size=4, steps=range(6), workers=w)) for w in (0, 2)
    )
    for a, b in zip(alone, together, strict=True):
        assert (a.images == b.images).all() and (a.labels == b.labels).all()
        assert not a.failures
