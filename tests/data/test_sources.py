"""One string names a data set, whatever kind it is."""

from pathlib import Path

import pytest

from tests.data.test_folder import fill, folder
from vitrail.data.dataset import Data
from vitrail.data.sources import open_data, restrict
from vitrail.errors import DataError


def test_no_such_folder(tmp_path: Path) -> None:
    message = "data='.*/absent': no such file or folder; allowed are glyphs and digits, .*a folder"
    with pytest.raises(DataError, match=message):
        open_data(str(tmp_path / "absent"))
    with pytest.raises(
        DataError, match=r"data='glyph': no such file or folder; did you mean 'glyphs'\?"
    ):
        open_data("glyph")


def test_a_file_that_is_no_data(tmp_path: Path) -> None:
    fill(tmp_path, "pets.zip")
    with pytest.raises(DataError, match=r"pets\.zip': is no data set; allowed are"):
        open_data(str(tmp_path / "pets.zip"))


# --- the splits that a run recorded ---


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return open_data(str(folder(tmp_path, "train/", "val/")))


def test_restrict_takes_these_samples_in_this_order(data: Data) -> None:
    chosen = {"train": ["train/b/2.png", "val/a/0.png"], "test": ["train/a/1.png"]}
    part = restrict(data, chosen)
    assert list(part.splits) == ["train", "test"]
    assert (part.name, part.classes) == (data.name, data.classes)
    for name, keys in chosen.items():
        split = part.splits[name]
        assert split.keys == tuple(keys)
        assert [data.classes[label] for label in split.labels] == [k.split("/")[1] for k in keys]
        assert [split.read(i).decode() for i in range(len(split))] == keys


def test_restrict_refuses_what_is_gone(data: Data) -> None:
    message = r"'val/c/7\.png' of the val split is no longer there \(2 are missing\)"
    with pytest.raises(DataError, match=message):
        restrict(data, {"val": ["val/a/0.png", "val/c/7.png", "val/c/8.png"]})
