"""Folders of images, and what is refused of them."""

import os
from pathlib import Path

import pytest

from vitrail.data.folder import image_files
from vitrail.data.sources import open_data
from vitrail.data.splitting import Fractions
from vitrail.errors import DataError, ImageError


def fill(root: Path, *keys: str) -> Path:
    """Write files that hold their own name: nothing here decodes them."""
    for key in keys:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(key)
    return root


def folder(root: Path, *prefixes: str, n: int = 3, classes: tuple[str, ...] = ("a", "b")) -> Path:
    names = [f"{p}{c}/{i}.png" for p in prefixes for c in classes for i in range(n)]
    return fill(root, *names)


def test_split_folders(tmp_path: Path) -> None:
    folder(tmp_path / "pets", "train/", "val/", "test/")
    data = open_data(str(tmp_path / "pets"))
    assert (data.name, data.classes, data.notes) == ("pets", ("a", "b"), ())
    assert list(data.splits) == ["train", "val", "test"]
    assert data.flips_safe
    for name, split in data.splits.items():
        assert split.keys == tuple(f"{name}/{c}/{i}.png" for c in "ab" for i in range(3))
        assert split.labels.tolist() == [0, 0, 0, 1, 1, 1]
        assert [split.read(i).decode() for i in range(len(split))] == list(split.keys)


@pytest.mark.parametrize(
    "names", [("training", "valid", "testing"), ("Train", "VALIDATION", "Test")]
)
def test_other_names_of_splits(tmp_path: Path, names: tuple[str, ...]) -> None:
    folder(tmp_path, *(f"{name}/" for name in names))
    data = open_data(str(tmp_path))
    assert list(data.splits) == ["train", "val", "test"]
    assert [split.keys[0] for split in data.splits.values()] == [f"{n}/a/0.png" for n in names]


def test_without_split_folders(tmp_path: Path) -> None:
    folder(tmp_path, "", n=20)
    data = open_data(str(tmp_path), Fractions(val=0.2, test=0.1))
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 28,
        "val": 8,
        "test": 4,
    }
    keys = [key for split in data.splits.values() for key in split.keys]
    assert sorted(keys) == sorted(f"{c}/{i}.png" for c in "ab" for i in range(20))
    assert data.notes[0].startswith("split by file content with seed 0: train 28")
    for split in data.splits.values():
        assert [data.classes[label] for label in split.labels] == [key[0] for key in split.keys]


def test_missing_val_is_cut_and_test_kept(tmp_path: Path) -> None:
    folder(tmp_path, "train/", "test/", n=10)
    data = open_data(str(tmp_path), Fractions(val=0.2))
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 16,
        "val": 4,
        "test": 20,
    }
    assert all(key.startswith("test/") for key in data.splits["test"].keys)
    assert all(key.startswith("train/") for key in data.splits["val"].keys)


def test_val_without_test_is_left_so(tmp_path: Path) -> None:
    folder(tmp_path, "train/", "val/")
    assert list(open_data(str(tmp_path)).splits) == ["train", "val"]


def test_classes_and_files_are_in_natural_order(tmp_path: Path) -> None:
    folder(tmp_path, "train/", "val/", n=12, classes=("10", "2", "1"))
    data = open_data(str(tmp_path))
    assert data.classes == ("1", "2", "10")
    assert data.splits["val"].keys[:12] == tuple(f"val/1/{i}.png" for i in range(12))
    assert data.splits["val"].labels.tolist() == [0] * 12 + [1] * 12 + [2] * 12


def test_hidden_and_other_files_are_ignored(tmp_path: Path) -> None:
    folder(tmp_path, "train/", "val/")
    fill(
        tmp_path,
        "README.md",
        ".git/a/0.png",
        "train/labels.csv",
        "train/.thumbs/0.png",
        "train/a/.0.png",
        "train/a/notes.txt",
        "train/a/png",
        "train/a/.cache/0.png",
    )
    data = open_data(str(tmp_path))
    assert data.classes == ("a", "b")
    assert data.splits["train"].keys == tuple(f"train/{c}/{i}.png" for c in "ab" for i in range(3))


def test_nested_folders_and_every_suffix(tmp_path: Path) -> None:
    suffixes = ("jpg", "JPEG", "png", "webp", "gif", "tif", "tiff", "BMP")
    fill(tmp_path, *(f"train/a/deep/er/{i}.{suffix}" for i, suffix in enumerate(suffixes)))
    fill(tmp_path, "train/a/z.png", "train/b/x/0.png", "val/a/0.png", "val/b/y/z/0.png")
    data = open_data(str(tmp_path))
    expected = [f"train/a/deep/er/{i}.{suffix}" for i, suffix in enumerate(suffixes)]
    assert data.splits["train"].keys == (*expected, "train/a/z.png", "train/b/x/0.png")
    assert data.splits["val"].labels.tolist() == [0, 1]


def test_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "pets", "train/", "val/")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_data("~/pets").name == "pets"


# --- what is refused ---


def test_no_folders(tmp_path: Path) -> None:
    fill(tmp_path, "0.png")
    with pytest.raises(DataError, match="0 classes found; a classifier needs"):
        open_data(str(tmp_path))


def test_no_images(tmp_path: Path) -> None:
    fill(tmp_path, "a/0.txt", "b/0.txt")
    with pytest.raises(DataError, match=r"\(train\): no images found; allowed are .*\.webp"):
        open_data(str(tmp_path))


@pytest.mark.parametrize("prefixes", [("",), ("train/", "val/")])
def test_one_class(tmp_path: Path, prefixes: tuple[str, ...]) -> None:
    folder(tmp_path, *prefixes, classes=("only",))
    with pytest.raises(DataError, match=r"1 class found \('only'\)"):
        open_data(str(tmp_path))


def test_class_without_training_images(tmp_path: Path) -> None:
    folder(tmp_path, "train/", "val/", "test/")
    for split in ("train", "val", "test"):
        for path in (tmp_path / split / "b").iterdir():
            path.unlink()
    with pytest.raises(DataError, match=r"\(train\): class 'b' has no image"):
        open_data(str(tmp_path))


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_class_may_lack_where_it_is_only_measured(tmp_path: Path, split: str) -> None:
    folder(tmp_path, "train/", "val/", "test/", classes=("a", "b", "c"))
    for path in (tmp_path / split / "b").iterdir():
        path.unlink()
    data = open_data(str(tmp_path))
    assert data.notes == (f"{split} has no image of 1 class: 'b'",)
    assert data.splits[split].counts(3).tolist() == [3, 0, 3]


@pytest.mark.parametrize("split", ["val", "test"])
def test_class_that_is_not_in_train(tmp_path: Path, split: str) -> None:
    folder(tmp_path, "train/", "val/", "test/")
    fill(tmp_path, f"{split}/c/0.png")
    with pytest.raises(DataError, match=rf"\({split}\): class 'c' is not in train"):
        open_data(str(tmp_path))


def test_stranger_beside_split_folders(tmp_path: Path) -> None:
    folder(tmp_path, "train/", "val/", "extra/")
    with pytest.raises(DataError, match="folder 'extra' stands beside the split folders"):
        open_data(str(tmp_path))


def test_no_train(tmp_path: Path) -> None:
    folder(tmp_path, "val/", "test/")
    with pytest.raises(DataError, match="there is test and val but no train split"):
        open_data(str(tmp_path))


def test_two_folders_for_one_split(tmp_path: Path) -> None:
    folder(tmp_path, "train/", "val/", "valid/")
    with pytest.raises(DataError, match="folders 'val' and 'valid' both stand for the val split"):
        open_data(str(tmp_path))


def test_a_file_that_vanishes_is_named(tmp_path: Path) -> None:
    folder(tmp_path, "train/", "val/")
    data = open_data(str(tmp_path))
    (tmp_path / "train" / "a" / "1.png").unlink()
    with pytest.raises(ImageError, match=r"train/a/1\.png: No such file"):
        data.splits["train"].read(1)


# --- images to predict ---


def test_image_files(tmp_path: Path) -> None:
    fill(tmp_path, "10.png", "2.PNG", "notes.txt", ".1.png", "sub/1.jpg", ".cache/1.png")
    found = [path.relative_to(tmp_path).as_posix() for path in image_files(tmp_path)]
    assert found == ["2.PNG", "10.png", "sub/1.jpg"]


def test_image_files_gives_a_file_whatever_its_name(tmp_path: Path) -> None:
    fill(tmp_path, "photo")
    assert image_files(tmp_path / "photo") == [tmp_path / "photo"]
    assert image_files(Path(os.devnull)) == [Path(os.devnull)]


def test_image_files_refuses_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="absent: no such file or folder"):
        image_files(tmp_path / "absent")


def test_what_is_no_plain_file_does_not_hang(tmp_path: Path) -> None:
    folder(tmp_path, "train/", "val/")
    os.mkfifo(tmp_path / "train" / "a" / "pipe.png")
    (tmp_path / "train" / "a" / "zero.png").symlink_to(os.devnull)
    (tmp_path / "train" / "loop").symlink_to("loop")
    split = open_data(str(tmp_path)).splits["train"]
    for name in ("pipe", "zero"):
        with pytest.raises(ImageError, match=f"{name}.png: is no regular file"):
            split.read(list(split.keys).index(f"train/a/{name}.png"))


def test_a_file_beyond_every_image_is_not_read(tmp_path: Path) -> None:
    folder(tmp_path, "train/", "val/")
    with open(tmp_path / "train" / "a" / "0.png", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ImageError, match="has 1099511627776 bytes, more than 1073741824"):
        open_data(str(tmp_path)).splits["train"].read(0)
