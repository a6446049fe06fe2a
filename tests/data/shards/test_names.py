"""Which shards a string names."""

import os
from pathlib import Path

import pytest

from vitrail.data.shards import names as shard_names
from vitrail.data.shards.names import find_shards, names_shards, split_of
from vitrail.errors import DataError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-0000.tar", "train"),
        ("Validation_3.tar", "val"),
        ("test.tar", "test"),
        ("valid/0000.tar", "val"),
        ("pets-train-0000.tar", "train"),
        ("imagenet1k-validation-00.tar", "val"),
        ("0000.tar", ""),
        ("trained-0000.tar", ""),
        ("all-0000.tar", ""),
        ("a/b/0000.tar", ""),
    ],
)
def test_split_of(name: str, split: str) -> None:
    assert split_of(name) == split


def test_every_way_to_name_them_gives_the_same_names(tmp_path: Path) -> None:
    names = ["train-2.tar", "train-10.tar", "val-0.tar"]
    touch(tmp_path, *names, "classes.txt", "notes.md")
    ways = ["", "/", "/*.tar", "/{train,val}-*.tar", "/{train-2,train-10,val-0}.tar"]
    for way in ways:
        assert names_shards(f"{tmp_path}{way}")
        shards = find_shards(f"{tmp_path}{way}")
        assert (shards.base, shards.names) == (str(tmp_path), tuple(names))
        assert not shards.remote
    assert find_shards(f"file://{tmp_path}/*.tar").names == tuple(names)


def test_one_shard(tmp_path: Path) -> None:
    touch(tmp_path, "odd[1]{2}*.tar")
    shards = find_shards(str(tmp_path / "odd[1]{2}*.tar"))  # a name that looks like a pattern
    assert shards.names == ("odd[1]{2}*.tar",)
    assert shards.path(shards.names[0]) == str(tmp_path / "odd[1]{2}*.tar")


def test_names_begin_where_the_pattern_does(tmp_path: Path) -> None:
    touch(tmp_path, "a/train/0.tar", "a/val/0.tar")
    assert find_shards(f"{tmp_path}/a").names == ("train/0.tar", "val/0.tar")
    assert find_shards(f"{tmp_path}/a/{{train,val}}/0.tar").names == ("train/0.tar", "val/0.tar")
    assert find_shards(f"{tmp_path}/a/train/*.tar").names == ("0.tar",)
    assert find_shards(f"{tmp_path}/*/*/0.tar").names == ("a/train/0.tar", "a/val/0.tar")


def test_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/0.tar")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert names_shards("~/a") and find_shards("~/a/*.tar").base == str(tmp_path / "a")


@pytest.mark.parametrize(
    "names",
    [
        (),
        ("a.txt",),
        ("0.tar", "cat/0.png"),  # a folder of images with an archive beside it
        ("0.tar", "0.png"),
        ("train/0.tar", "train/cat/0.png"),
        ("train/0.tar", "other/0.tar"),
        ("train/0.png", "val/0.tar"),
        (".hidden/0.tar",),
    ],
)
def test_folders_that_hold_something_else(tmp_path: Path, names: tuple[str, ...]) -> None:
    touch(tmp_path, *names)
    assert not names_shards(str(tmp_path))


@pytest.mark.parametrize("source", ["a.csv", "a.parquet", "glyphs", "", "http://host/folder"])
def test_other_sources(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not names_shards(source)


def test_a_folder_named_like_a_shard(tmp_path: Path) -> None:
    touch(tmp_path, "pets.tar/cat/0.png")
    assert not names_shards(str(tmp_path / "pets.tar"))


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("a.tar", "no such file: .*a.tar$"),
        ("{0..3}.tar", r"no such file: .*/2.tar \(2 of 4 shards are missing\)"),
        ("x*.tar", "names 0 shards; allowed are 1 to"),
        ("a\0b.tar", "embedded null byte"),
    ],
)
def test_missing_shards(tmp_path: Path, source: str, why: str) -> None:
    touch(tmp_path, "0.tar", "1.tar")
    assert names_shards(f"{tmp_path}/{source}")
    with pytest.raises(DataError, match=why):
        find_shards(f"{tmp_path}/{source}")


def test_a_pipe_is_no_shard(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "0.tar")
    for source in (tmp_path, tmp_path / "0.tar", tmp_path / "*.tar"):
        with pytest.raises(DataError, match=r"0\.tar: is no regular file"):
            find_shards(str(source))


def test_too_many_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "0.tar", "1.tar", "2.tar")
    monkeypatch.setattr(shard_names, "SHARDS", 2)
    with pytest.raises(DataError, match="names 3 shards; allowed are 1 to 2"):
        find_shards(str(tmp_path))


def test_an_interrupted_pack_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "train-000000.tar")
    (tmp_path / "pack.json").write_text('{"parts": 3}')
    with pytest.raises(DataError, match="holds 1 of the 3 files of a pack; run the same"):
        find_shards(str(tmp_path))
    for other in ("somebody else's", "[" * 100_000, '{"parts": "3"}'):
        (tmp_path / "pack.json").write_text(other)
        assert len(find_shards(str(tmp_path)).names) == 1
    (tmp_path / "pack.json").unlink()
    os.mkfifo(tmp_path / "pack.json")
    assert len(find_shards(str(tmp_path)).names) == 1
