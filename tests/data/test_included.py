"""The data sets that come with the package."""

import io
import json
import pickle
import shutil
from collections import Counter
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn import datasets

from vitrail.data.dataset import Data, Split
from vitrail.data.included import load_digits, load_glyphs
from vitrail.errors import DataError

FOLDER = Path(str(files("vitrail.data") / "builtin"))
ALLOWED = {"OFL", "Apache", "Public-Domain", "MIT", "BSD"}


@pytest.fixture(scope="module")
def glyphs() -> Data:
    return load_glyphs()


@pytest.fixture(scope="module")
def index() -> dict:
    return json.loads((FOLDER / "glyphs.json").read_text(encoding="utf-8"))


def pixels(split: Split, place: int) -> np.ndarray:
    image = Image.open(io.BytesIO(split.read(place)))
    assert (image.format, image.mode) == ("PNG", "L")
    return np.asarray(image)


def test_glyphs_have_26_balanced_classes_in_three_splits(glyphs: Data) -> None:
    assert glyphs.classes == tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert list(glyphs.splits) == ["train", "val", "test"]
    assert not glyphs.flips_safe
    total = sum(len(split) for split in glyphs.splits.values())
    assert 8_500 < total < 10_500
    for split, share in (("train", 0.75), ("val", 0.10), ("test", 0.15)):
        assert len(glyphs.splits[split]) / total == pytest.approx(share, abs=0.02)
        assert len(set(Counter(glyphs.splits[split].labels).values())) == 1


def test_glyph_keys_are_unique_and_name_split_and_letter(glyphs: Data) -> None:
    keys = [key for split in glyphs.splits.values() for key in split.keys]
    assert len(set(keys)) == len(keys)
    for name, split in glyphs.splits.items():
        for key, label in zip(split.keys, split.labels, strict=True):
            assert key.startswith(f"{name}/{glyphs.classes[label]}/") and key.endswith(".png")


def test_no_family_and_no_group_is_in_two_splits(index: dict) -> None:
    for field in ("family", "group"):
        parts = [
            {index["fonts"][font][field] for font in split["fonts"]}
            for split in index["splits"].values()
        ]
        assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    members = sorted(font for split in index["splits"].values() for font in split["fonts"])
    assert members == list(range(len(index["fonts"])))


def test_no_picture_is_in_two_splits(glyphs: Data) -> None:
    seen: dict[bytes, str] = {}
    for name, split in glyphs.splits.items():
        for place in range(0, len(split), 7):
            assert seen.setdefault(split.read(place), name) == name


def test_every_glyph_has_ink_and_paper(glyphs: Data) -> None:
    for split in glyphs.splits.values():
        for place in range(len(split)):
            tile = pixels(split, place)
            assert tile.shape == (32, 32)
            assert tile.max() >= 119 and 0.01 < tile.mean() / 255 < 0.75
            assert not tile[0].any() and not tile[-1].any()  # the margin is free


def test_a_glyph_reads_the_same_twice_and_after_pickling(glyphs: Data) -> None:
    split = glyphs.splits["val"]
    again = load_glyphs().splits["val"]
    moved = pickle.loads(pickle.dumps(split.read))
    for place in (0, 5, len(split) - 1):
        assert split.read(place) == again.read(place) == moved(place)


def test_every_font_has_an_allowed_licence_and_is_listed(index: dict) -> None:
    notice = (FOLDER / "GLYPHS-LICENSES.md").read_text(encoding="utf-8")
    for font in index["fonts"]:
        assert font["licence"] in ALLOWED
        assert font["title"] in notice
        assert f"## {font['package']} {font['version']}\n" in notice


def test_at_most_three_styles_a_family(index: dict) -> None:
    assert max(Counter(font["family"] for font in index["fonts"]).values()) <= 3


def test_the_shipped_files_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 1_500_000


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "builtin"))


def test_a_damaged_sheet_is_refused(copied: Path) -> None:
    path = copied / "glyphs-test.png"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"glyphs-test\.png: .*damaged.*sha256") as caught:
        load_glyphs(copied)
    assert "\n" not in str(caught.value)


def test_a_missing_sheet_is_refused(copied: Path) -> None:
    (copied / "glyphs-val.png").unlink()
    with pytest.raises(DataError, match=r"glyphs-val\.png: the file is damaged or missing"):
        load_glyphs(copied)


@pytest.mark.parametrize("text", ["", "{", '{"format": 2}', "[]", '{"format": 1}'])
def test_a_damaged_index_is_refused(copied: Path, text: str) -> None:
    (copied / "glyphs.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"glyphs\.json: the file is damaged") as caught:
        load_glyphs(copied)
    assert "\n" not in str(caught.value)


def test_digits_are_those_of_scikit_learn() -> None:
    bunch = datasets.load_digits()
    digits = load_digits()
    assert digits.classes == tuple("0123456789") and not digits.flips_safe
    assert sum(len(split) for split in digits.splits.values()) == 1797
    for split in digits.splits.values():
        for place, key in enumerate(split.keys):
            source = int(Path(key).stem)
            assert split.labels[place] == bunch.target[source]
            expected = np.rint(bunch.images[source] * 255 / 16)
            np.testing.assert_array_equal(pixels(split, place), expected)


def test_digits_are_split_70_10_20_with_all_classes() -> None:
    splits = load_digits().splits
    for name, share in (("train", 0.7), ("val", 0.1), ("test", 0.2)):
        assert len(splits[name]) / 1797 == pytest.approx(share, abs=0.03)
        assert set(splits[name].labels) == set(range(10))
    keys = [Path(key).stem for split in splits.values() for key in split.keys]
    assert sorted(keys) == [f"{place:04d}" for place in range(1797)]
