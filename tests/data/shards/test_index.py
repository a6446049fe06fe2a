"""The stored index: what is taken from it, what is indexed anew, and lies in it."""

import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

from tests.data.tars import image, numbered, write_set, write_tar
from vitrail.data.listing import Listing
from vitrail.data.shards import index as shard_index
from vitrail.data.shards.index import INDEX_NAME, open_index
from vitrail.data.shards.names import find_shards
from vitrail.data.shards.samples import Job, index_shard
from vitrail.data.shards.source import list_shards
from vitrail.data.shards.table import ShardIndex, read_index, write_index
from vitrail.errors import DataError
from vitrail.files import cache_folder

Arrays = dict[str, NDArray[Any]]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def indexed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names the shards that are indexed from now on."""
    names: list[str] = []

    def spy(job: Job) -> ShardIndex:
        names.append(job.name)
        return index_shard(job)

    monkeypatch.setattr(shard_index, "index_shard", spy)
    return names


def contents(listing: Listing) -> list[tuple[str, int, bytes]]:
    return [
        (key, int(label), listing.read(i))
        for i, (key, label) in enumerate(zip(listing.keys, listing.labels, strict=True))
    ]


ALL = ["train-0000.tar", "train-0001.tar", "train-0002.tar", "val-0000.tar"]


def test_a_second_time_nothing_is_indexed(tmp_path: Path, indexed: list[str]) -> None:
    root = str(write_set(tmp_path / "set"))
    first = contents(list_shards(root))
    assert sorted(indexed) == ALL
    assert (tmp_path / "set" / INDEX_NAME).is_file() and not cache_folder().exists()
    indexed.clear()
    assert contents(list_shards(root)) == first
    assert indexed == []


def test_a_changed_shard_alone_is_indexed_anew(tmp_path: Path, indexed: list[str]) -> None:
    root = write_set(tmp_path / "set")
    list_shards(str(root))
    indexed.clear()
    write_tar(root / "train-0001.tar", numbered(500, 7))
    write_tar(root / "train-0003.tar", numbered(600, 1))
    (root / "train-0000.tar").unlink()
    listing = list_shards(str(root))
    assert sorted(indexed) == ["train-0001.tar", "train-0003.tar"]
    numbers = [*range(500, 507), *range(10, 15), 600, *range(1000, 1005)]
    assert [text for _, _, text in contents(listing)] == [image(f"image {i}") for i in numbers]
    assert [label for _, label, _ in contents(listing)] == [i % 2 for i in numbers]
    stored = read_index(root / INDEX_NAME)
    assert stored is not None  # what is gone is forgotten
    assert [entry.name for entry in stored.entries] == [*ALL[1:3], "train-0003.tar", "val-0000.tar"]


def test_the_same_size_and_another_time_is_a_change(tmp_path: Path, indexed: list[str]) -> None:
    root = write_set(tmp_path / "set", shards=1)
    list_shards(str(root))
    indexed.clear()
    os.utime(root / "train-0000.tar", ns=(5, 5))
    list_shards(str(root))
    assert indexed == ["train-0000.tar"]


def test_some_of_the_shards(tmp_path: Path, indexed: list[str]) -> None:
    root = write_set(tmp_path / "set")
    whole = contents(list_shards(str(root)))
    indexed.clear()
    assert contents(list_shards(f"{root}/train-000{{0,2}}.tar")) == whole[:5] + whole[10:15]
    assert contents(list_shards(f"{root}/val-*.tar")) == whole[15:]
    assert contents(list_shards(str(root))) == whole
    assert indexed == []


def test_an_index_grows(tmp_path: Path, indexed: list[str]) -> None:
    root = write_set(tmp_path / "set")
    list_shards(f"{root}/val-*.tar")
    list_shards(f"{root}/train-*.tar")
    list_shards(str(root))
    assert sorted(indexed) == ALL


def test_classes_are_those_of_the_shards_that_are_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", {"cat/0.png": "", "dog/0.png": ""})
    write_tar(tmp_path / "1.tar", {"cow/0.png": "", "cat/1.png": ""})
    assert list_shards(str(tmp_path)).classes == ("cat", "cow", "dog")
    listing = list_shards(f"{tmp_path}/1.tar")
    assert listing.classes == ("cat", "cow")
    assert contents(listing) == [
        ("1.tar/cow/0.png", 1, image("")),
        ("1.tar/cat/1.png", 0, image("")),
    ]


def test_what_was_left_out_is_still_told(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", {"cat/0.png": "", "../evil.png": ""})
    notes = [list_shards(str(tmp_path)).notes for _ in range(2)]
    assert notes[0] == notes[1] and "'../evil.png' in 0.tar" in notes[0][0]


def test_the_cache_is_used_where_no_index_fits_beside(tmp_path: Path, indexed: list[str]) -> None:
    root = write_set(tmp_path / "set")
    (root / INDEX_NAME).mkdir()  # no file can be written here
    first = contents(list_shards(f"{root}/*.tar"))
    assert len(list(cache_folder().rglob("*.safetensors"))) == 1
    indexed.clear()
    assert contents(list_shards(f"{root}/*.tar")) == first
    assert indexed == []


def test_many_shards_are_indexed_by_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_set(tmp_path / "set")
    few = contents(list_shards(str(root)))
    (root / INDEX_NAME).unlink()
    monkeypatch.setattr(shard_index, "PROCESSES_FROM", 2)
    monkeypatch.setattr(shard_index, "cores", lambda: 2)
    assert contents(list_shards(str(root))) == few


def test_a_damaged_shard_among_many_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_set(tmp_path / "set")
    os.truncate(root / "train-0001.tar", 3000)
    for processes_from in (2, 64):
        monkeypatch.setattr(shard_index, "PROCESSES_FROM", processes_from)
        monkeypatch.setattr(shard_index, "cores", lambda: 2)
        with pytest.raises(DataError, match=r"train-0001\.tar: at byte 3072: it is cut off"):
            list_shards(str(root))


# --- shards with a mark keep their index wherever they are copied ---


def marked(path: Path, mark: str, first: int) -> None:
    comment = tarfile.TarInfo.create_pax_global_header({"comment": mark})
    write_tar(path, numbered(first, 3))
    path.write_bytes(comment + path.read_bytes())


def test_a_copy_of_marked_shards_keeps_its_index(tmp_path: Path, indexed: list[str]) -> None:
    marked(tmp_path / "set" / "0.tar", "a" * 64, 0)
    marked(tmp_path / "set" / "1.tar", "b" * 64, 10)
    write_tar(tmp_path / "set" / "2.tar", numbered(20, 3))
    first = contents(list_shards(str(tmp_path / "set")))
    shutil.copytree(tmp_path / "set", tmp_path / "copy", copy_function=shutil.copyfile)
    indexed.clear()
    assert contents(list_shards(str(tmp_path / "copy"))) == first
    assert indexed == ["2.tar"]  # it has no mark
    indexed.clear()
    assert contents(list_shards(str(tmp_path / "copy"))) == first
    assert indexed == []


def test_another_mark_is_a_change(tmp_path: Path, indexed: list[str]) -> None:
    marked(tmp_path / "set" / "0.tar", "a" * 64, 0)
    list_shards(str(tmp_path / "set"))
    indexed.clear()
    marked(tmp_path / "set" / "0.tar", "b" * 64, 4)
    os.utime(tmp_path / "set" / "0.tar", ns=(5, 5))
    assert contents(list_shards(str(tmp_path / "set")))[0][0] == "0.tar/0004.png"
    assert indexed == ["0.tar"]


def test_a_mark_that_is_no_text(tmp_path: Path, indexed: list[str]) -> None:
    root = write_set(tmp_path / "set")
    truth = contents(list_shards(str(root)))
    entry(3, "\ud800")(root / INDEX_NAME)
    entry(2, "another time")(root / INDEX_NAME)
    indexed.clear()
    assert contents(list_shards(str(root))) == truth
    assert indexed == ["train-0000.tar"]


# --- lies ---


def edit(change: Callable[[Arrays, dict[str, Any]], object]) -> Callable[[Path], None]:
    """Change arrays and metadata of an index."""

    def build(path: Path) -> None:
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        about = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["vitrail"])
        arrays = {name: array.copy() for name, array in safetensors.numpy.load(data).items()}
        change(arrays, about)
        path.write_bytes(safetensors.numpy.save(arrays, {"vitrail": json.dumps(about)}))

    return build


def put(name: str, place: int, value: int) -> Callable[[Path], None]:
    return edit(lambda arrays, _: arrays[name].__setitem__(place, value))


def entry(place: int, value: object) -> Callable[[Path], None]:
    return edit(lambda _, about: about["shards"][0].__setitem__(place, value))


def replaced(data: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(data) and None


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


LIES: dict[str, Callable[[Path], None]] = {
    "beyond the shard": put("starts", 2, 1 << 40),
    "before the shard": put("starts", 2, -512),
    "in its header": put("starts", 2, 0),
    "huge size": put("sizes", 2, 1 << 62),
    "sum that overflows": edit(
        lambda arrays, _: (put_all(arrays["starts"], 2**63 - 10), put_all(arrays["sizes"], 1 << 30))
    ),
    "negative size": put("sizes", 2, -1),
    "names that fall": put("key_ends", 2, 1),
    "names beyond their block": put("key_ends", -1, 1 << 40),
    "labels beyond the words": put("labels", 2, 1000),
    "negative label": put("labels", 2, -1),
    "label ends that fall": put("label_ends", 2, 0),
    "word ends": put("word_ends", 0, 1 << 40),
    "fewer starts": edit(lambda arrays, _: arrays.update(starts=arrays["starts"][:-1])),
    "other type": edit(lambda arrays, _: arrays.update(starts=arrays["starts"].astype(np.float64))),
    "other shape": edit(lambda arrays, _: arrays.update(starts=arrays["starts"].reshape(2, -1))),
    "array missing": edit(lambda arrays, _: arrays.pop("labels")),
    "hashes of another width": edit(
        lambda arrays, _: arrays.update(sha256=np.zeros((20, 31), np.uint8))
    ),
    "hashes of fewer": edit(lambda arrays, _: arrays.update(sha256=np.zeros((3, 32), np.uint8))),
    "weights of fewer": edit(lambda arrays, _: arrays.update(weights=np.ones(3))),
    "negative weights": edit(lambda arrays, _: arrays.update(weights=-np.ones(20))),
    "infinite weights": edit(lambda arrays, _: arrays.update(weights=np.full(20, np.inf))),
    "a number that is none": edit(lambda arrays, _: put_all(arrays["words"], ord("x"))),
    "another version": edit(lambda _, about: about.update(version=2)),
    "no shards": edit(lambda _, about: about.update(shards=[])),
    "shards of another form": edit(lambda _, about: about.update(shards={"a": 1})),
    "shard twice": edit(lambda _, about: about["shards"].append(about["shards"][0])),
    "count too high": entry(4, 6),
    "count negative": entry(4, -5),
    "count huge": entry(4, 10**30),
    "count no number": entry(4, "five"),
    "name no text": entry(0, None),
    "size smaller": entry(1, 600),
    "left out of another form": entry(7, [[1]]),
    "deep JSON": lambda path: (
        path.write_bytes(safetensors.numpy.save({"a": np.zeros(1)}, {"vitrail": "[" * 100_000}))
        and None
    ),
    "no metadata": replaced(safetensors.numpy.save({"a": np.zeros(1)})),
    "empty": replaced(b""),
    "text": replaced(b"nothing of the kind"),
    "header of 2^60 bytes": replaced((1 << 60).to_bytes(8, "little") + b"{}"),
    "cut off": lambda path: os.truncate(path, path.stat().st_size // 2),
    "pipe": pipe,
}


def put_all(array: NDArray[Any], value: int) -> None:
    array[:] = value


@pytest.mark.parametrize("name", LIES)
def test_an_index_that_lies_is_made_anew(tmp_path: Path, indexed: list[str], name: str) -> None:
    root = write_set(tmp_path / "set")
    truth = contents(list_shards(str(root)))
    LIES[name](root / INDEX_NAME)
    indexed.clear()
    assert contents(list_shards(str(root))) == truth
    assert "train-0000.tar" in indexed
    indexed.clear()
    assert contents(list_shards(str(root))) == truth  # a good one is there again
    assert indexed == []


def test_an_index_of_other_labels_goes_no_further_than_its_shard(tmp_path: Path) -> None:
    """Names and labels are taken as they are, but no byte outside the user's shards is read."""
    root = write_set(tmp_path / "set", shards=1)
    list_shards(str(root))
    edit(lambda _, about: about["shards"][0].__setitem__(0, "../../etc/passwd"))(root / INDEX_NAME)
    listing = list_shards(str(root))
    assert listing.read(0) == image("image 0")
    assert all(key.startswith(("train-0000.tar/", "val-0000.tar/")) for key in listing.keys)


def test_an_index_comes_back_as_it_was(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set")
    index = open_index(find_shards(str(root)))
    n = len(index.table.keys)
    table = index.table._replace(
        weights=np.arange(n, dtype=np.float64),
        sha256=np.arange(n * 32, dtype=np.uint8).reshape(n, 32),
        origins=index.table.keys,
        words=((False, "ü\udcff"), (True, "1")),
    )
    write_index(tmp_path / "a", index._replace(table=table))
    again = read_index(tmp_path / "a")
    assert again is not None and again.entries == index.entries
    for before, after in zip(table, again.table, strict=True):
        if isinstance(before, np.ndarray):
            assert isinstance(after, np.ndarray) and (before == after).all()
        else:
            assert before == after
    data = (tmp_path / "a").read_bytes()
    write_index(tmp_path / "a", again)
    assert (tmp_path / "a").read_bytes() == data
