"""Parquet files with images inside: what is listed, and what is refused of them."""

import sys
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pytest

from tests.data.parquets import NAMES, class_label, content, images, metadata, write, write_set
from tests.train.helpers import paint_splits
from vitrail.data.arrow import parquet
from vitrail.data.arrow.parquet import list_parquet, matches
from vitrail.data.dataset import LabelSets
from vitrail.data.packing.pack import pack
from vitrail.data.sources import open_data
from vitrail.errors import DataError


def test_classes_have_the_order_of_the_metadata(tmp_path: Path) -> None:
    listing = list_parquet(write_set(tmp_path / "pets.parquet"))
    assert (listing.name, listing.classes) == ("pets", NAMES)
    assert list(listing.keys) == [f"pets.parquet:{i}" for i in range(12)]
    assert listing.labels.tolist() == [i % 4 for i in range(12)]
    assert [listing.read(i) for i in range(12)] == [content(i) for i in range(12)]
    assert (listing.splits, listing.notes, listing.weights) == ({}, (), None)


@pytest.mark.parametrize(
    ("values", "classes", "labels"),
    [
        (["c10", "c9", "c10"], ("c9", "c10"), [1, 0, 1]),
        (pa.array(["b", "a", "b"]).dictionary_encode(), ("a", "b"), [1, 0, 1]),
        (pa.array([10, 9, 10], pa.uint8()), ("9", "10"), [1, 0, 1]),
        (pa.array([-1, 2, 0]), ("0", "2", "-1"), [2, 1, 0]),
        (pa.array([7, 5, 7]).dictionary_encode(), ("5", "7"), [1, 0, 1]),
        ([True, False, True], ("false", "true"), [1, 0, 1]),
    ],
    ids=["texts", "dictionary", "integers", "negative", "categories", "truth"],
)
def test_labels_without_names(
    tmp_path: Path, values: Any, classes: tuple[str, ...], labels: list[int]
) -> None:
    listing = list_parquet(write(tmp_path / "x.parquet", {"image": images(3), "label": values}))
    assert listing.classes == classes
    assert listing.labels.tolist() == labels


@pytest.mark.parametrize("form", ["feature", "list"])
def test_lists_of_labels(tmp_path: Path, form: str) -> None:
    told = {"feature": {"_type": "List", "feature": class_label()}, "list": [class_label()]}[form]
    columns = {"image": images(4), "labels": [[3, 0, 3], [], [2], [0, 1]]}
    listing = list_parquet(write(tmp_path / "x.parquet", columns, metadata(labels=told)))
    assert isinstance(listing.labels, LabelSets)
    assert listing.classes == NAMES
    assert [each.tolist() for each in listing.labels] == [[0, 3], [], [2], [0, 1]]


def test_lists_of_names(tmp_path: Path) -> None:
    columns = {"image": images(3), "label": [["c10", "c9"], [], ["c9"]]}
    listing = list_parquet(write(tmp_path / "x.parquet", columns))
    assert listing.classes == ("c9", "c10")
    assert [each.tolist() for each in listing.labels] == [[0, 1], [], [0]]


def test_weights_and_splits_of_rows(tmp_path: Path) -> None:
    columns = {
        "image": images(4),
        "label": list("abab"),
        "weight": pa.array([1, 2, 0, 3], pa.int8()),
        "split": pa.array(["train", "Valid", "training", "test"]).dictionary_encode(),
    }
    listing = list_parquet(write(tmp_path / "train.parquet", columns))
    assert listing.weights.tolist() == [1, 2, 0, 3]
    places = {name: places.tolist() for name, places in listing.splits.items()}
    assert places == {"train": [0, 2], "val": [1], "test": [3]}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (("data/train-00000-of-00002", "data/train-00001-of-00002", "data/validation-0"), "TTV"),
        (("train/0000", "train/0001", "test/0000"), "TTE"),
        (("Train", "test_a", "val.b"), "TEV"),
        (("2021", "2022", "trainer"), ""),
        (("a/train/0", "a/test/0", "a/test/1"), "TEE"),
    ],
)
def test_splits_by_file_names(tmp_path: Path, files: tuple[str, ...], expected: str) -> None:
    names = [f"{name}.parquet" for name in files]
    for k, name in enumerate(names):
        write_set(tmp_path / "pets" / name, n=k + 1, first=10 * k)
    assert matches(str(tmp_path / "pets"))
    listing = list_parquet(str(tmp_path / "pets"))
    split = {i: name for name, places in listing.splits.items() for i in places.tolist()}
    short = {"train": "T", "val": "V", "test": "E"}
    for k, name in enumerate(names):
        for row in range(k + 1):
            i = list(listing.keys).index(f"{name}:{row}")
            assert listing.read(i) == content(10 * k + row)
            assert short.get(split.get(i, ""), "") == expected[k : k + 1]
    assert (len(listing.keys), listing.name) == (6, "pets")


def test_glob_and_natural_order(tmp_path: Path) -> None:
    for k in (10, 9, 1):
        write_set(tmp_path / "a" / f"train-{k}.parquet", n=1, first=k)
    write_set(tmp_path / "a" / "test.parquet")
    source = f"{tmp_path}/*/train-*.parquet"
    assert matches(source)
    listing = list_parquet(source)
    assert list(listing.keys) == [f"a/train-{k}.parquet:0" for k in (1, 9, 10)]
    assert listing.splits["train"].tolist() == [0, 1, 2]


def test_one_file_has_no_split_by_name(tmp_path: Path) -> None:
    assert list_parquet(write_set(tmp_path / "test.parquet")).splits == {}


def test_data_is_opened_and_cut(tmp_path: Path) -> None:
    write_set(tmp_path / "pets" / "data" / "0.parquet", n=80)
    data = open_data(str(tmp_path / "pets"))
    assert data.classes == NAMES
    for split in data.splits.values():
        rows = [int(key.removeprefix("data/0.parquet:")) for key in split.keys]
        assert [split.read(k) for k in range(len(rows))] == [content(i) for i in rows]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["a.parquet"], True),
        (["data/a.parquet", "README.md", ".hidden/x.png"], True),
        (["a.parquet", "cats/1.jpg"], False),
        (["metadata.parquet", "1.PNG"], False),
        (["cats/a/b/c/x.parquet"], False),
        (["a.csv"], False),
    ],
)
def test_folders_with_images_are_another_source(
    tmp_path: Path, files: list[str], expected: bool
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert matches(str(tmp_path)) == expected


def test_what_is_a_source(tmp_path: Path) -> None:
    assert (
        matches("no/such.parquet") and matches("s3://b/*.PARQUET") and matches("a.parquet#label=x")
    )
    assert not matches("pets.csv") and not matches(str(tmp_path)) and not matches("s3://b/x.tar")


def test_files_in_a_store() -> None:
    store = fsspec.filesystem("memory")
    for k in range(2):
        with store.open(f"/pets/train-{k}.parquet", "wb") as file:
            table = pa.table({"image": images(7, 7 * k), "label": list("abababa")})
            pa.parquet.write_table(table, file, row_group_size=3)
    try:
        one = list_parquet("memory://pets/train-1.parquet")
        listing = list_parquet("memory://pets/*.parquet")
        assert [one.read(i) for i in (6, 0)] == [content(13), content(7)]
        assert list(listing.keys)[6:8] == ["train-0.parquet:6", "train-1.parquet:0"]
        assert [listing.read(i) for i in range(14)] == [content(i) for i in range(14)]
        assert len(listing.splits["train"]) == 14
    finally:
        store.rm("/pets", recursive=True)
    with pytest.raises(DataError, match=r"memory://pets/train-1\.parquet: no such file"):
        list_parquet("memory://pets/train-1.parquet")


def test_a_column_of_paths_is_a_manifest(tmp_path: Path) -> None:
    for i in range(6):
        (tmp_path / f"{i}.png").write_bytes(content(i))
    columns = {"path": [f"{i}.png" for i in range(6)], "label": list("ababab"), "weight": [2.0] * 6}
    listing = list_parquet(write(tmp_path / "list.parquet", columns))
    assert (listing.name, listing.classes) == ("list", ("a", "b"))
    assert list(listing.keys) == columns["path"]
    assert listing.read(4) == content(4)
    with pytest.raises(DataError, match=r"no column 'path'.*; there is text, label"):
        list_parquet(write(tmp_path / "x.parquet", {"text": ["a"], "label": [1]}))


# --- choosing columns ---


def test_columns_that_the_user_names(tmp_path: Path) -> None:
    columns = {
        "front": images(2),
        "back": images(2, 5),
        "kind": ["a", "b"],
        "colour": ["red", "blue"],
    }
    path = write(tmp_path / "x.parquet", columns)
    listing = list_parquet(f"{path}#image=back,label=colour")
    assert listing.classes == ("blue", "red")
    assert listing.read(0) == content(5)
    assert list(listing.keys) == ["x.parquet:0", "x.parquet:1"]
    with pytest.raises(DataError, match=r"several image columns: 'front', 'back'; .*#image=front"):
        list_parquet(path)
    with pytest.raises(DataError, match=r"several label columns: 'kind', 'colour'; .*#label=kind"):
        list_parquet(f"{path}#image=back")
    with pytest.raises(DataError, match="column 'bakc' is not there; did you mean 'back'"):
        list_parquet(f"{path}#image=bakc")
    with pytest.raises(DataError, match="column 'kind' is string; image columns there: 'front', "):
        list_parquet(f"{path}#image=kind")
    with pytest.raises(DataError, match="'images=back' is not understood; did you mean 'image'"):
        list_parquet(f"{path}#images=back")


def test_usual_names_and_named_classes_come_first(tmp_path: Path) -> None:
    columns = {"mask": images(2, 5), "image": images(2), "id": [7, 8], "fine_label": [1, 0]}
    columns["coarse_label"] = [0, 0]
    told = metadata(fine_label=class_label(), coarse_label=class_label(["a", "b"]))
    listing = list_parquet(write(tmp_path / "x.parquet", columns, told))
    assert (listing.read(1), listing.classes) == (content(1), NAMES)
    columns = {"photo": images(2), "id": [7, 8], "species": [1, 0]}
    told = metadata(species=class_label())
    assert list_parquet(write(tmp_path / "x.parquet", columns, told)).classes == NAMES


def test_plain_bytes_are_images_by_name(tmp_path: Path) -> None:
    columns = {"image": [content(i) for i in range(3)], "raw": [b"1", b"2", b"3"]}
    path = write(tmp_path / "x.parquet", columns | {"label": list("aba")})
    assert list_parquet(path).read(2) == content(2)
    assert list_parquet(f"{path}#image=raw").read(2) == b"3"


# --- labels that are missing or wrong ---


@pytest.mark.parametrize("label", [None, -1])
def test_a_row_without_label(tmp_path: Path, label: int | None) -> None:
    columns = {"image": images(3), "label": [0, 2, label]}
    path = write(tmp_path / "x.parquet", columns, metadata(label=class_label()))
    with pytest.raises(DataError, match=r"x\.parquet:2: the label is missing, as in 1 of 3 rows"):
        list_parquet(path)


def test_a_split_without_labels_is_left_out(tmp_path: Path) -> None:
    told = metadata(label=class_label())
    for split, labels in {"train": [0, 1, 2, 3], "test": [-1, -1]}.items():
        columns = {"image": images(len(labels)), "label": labels}
        write(tmp_path / f"{split}-0.parquet", columns, told)
    listing = list_parquet(str(tmp_path))
    assert list(listing.splits) == ["train"]
    assert listing.notes == ("test is left out: none of its 2 images has a label",)
    columns = {"image": images(2), "label": pa.array([None, None], pa.int64())}
    write(tmp_path / "train-0.parquet", columns, told)
    with pytest.raises(DataError, match="the label is missing, as in 2 of 2 rows of train"):
        list_parquet(str(tmp_path))


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"label": [0, 1, 4]}, "x.parquet:2: label 4 is outside of the 4 classes, 0 to 3"),
        ({"label": [[0], [1, 2], [0, 9]]}, "x.parquet:2: label 9 is outside"),
        ({"label": [[0], [1, None], [0]]}, "x.parquet:1: a label in the list is missing"),
        ({"label": [0.5, 1, 2]}, "no label column among 'image', 'label'"),
        ({"label": ["a", "b", " "]}, "class name ' ' is empty"),
        ({"label": [0, 1, 2], "weight": [1.0, None, 2.0]}, "x.parquet:1: weight nan must be"),
        ({"label": [0, 1, 2], "weight": [1.0, 2.0, -2.0]}, "x.parquet:2: weight -2.0 must be"),
        ({"label": [0, 1, 2], "weight": list("abc")}, "'weight' is string; numbers are expected"),
        ({"label": [0, 1, 2], "split": ["train", "b", "c"]}, "x.parquet:1: split 'b' is not one"),
        ({"label": [0, 1, 2], "split": ["val", "val", None]}, "x.parquet:2: split None is not"),
        ({"label": [0, 1, 2], "split": [0, 1, 2]}, "'split' is int64; names are expected"),
    ],
)
def test_values_that_are_refused(tmp_path: Path, columns: dict[str, Any], reason: str) -> None:
    told = metadata(label=class_label())
    path = write(tmp_path / "x.parquet", {"image": images(3)} | columns, told)
    with pytest.raises(DataError) as error:
        list_parquet(path)
    assert reason in str(error.value)


# --- several files ---


def test_files_that_disagree(tmp_path: Path) -> None:
    write_set(tmp_path / "a.parquet")
    other = tmp_path / "b.parquet"
    write(other, {"image": images(1), "label": ["ant"]})
    with pytest.raises(DataError, match=r"b\.parquet: column 'label' is large_string, but int64"):
        list_parquet(str(tmp_path))
    write(other, {"image": images(1), "label": [0]}, metadata(label=class_label(["x", "y"])))
    with pytest.raises(DataError, match=r"b\.parquet: its class names are not those of .*a\.p"):
        list_parquet(str(tmp_path))
    write(other, {"image": images(1), "name": ["ant"]})
    with pytest.raises(DataError, match=r"b\.parquet: no column 'label', which the first file has"):
        list_parquet(str(tmp_path))
    write(other, {"image": ["x.png"], "label": [0]}, metadata(label=class_label()))
    with pytest.raises(DataError, match=r"b\.parquet: its metadata cannot be read"):
        list_parquet(str(tmp_path))


def test_folders_of_several_sets(tmp_path: Path) -> None:
    for name in ("cats", "dogs"):
        write_set(tmp_path / name / "train-0.parquet")
    with pytest.raises(DataError, match="several data sets in one folder: 'cats', 'dogs';"):
        list_parquet(str(tmp_path))
    assert len(list_parquet(str(tmp_path / "cats")).splits["train"]) == 12


def test_a_file_of_no_split_among_others(tmp_path: Path) -> None:
    for name in ("train-0", "extra-0"):
        write_set(tmp_path / f"{name}.parquet")
    with pytest.raises(DataError, match=r"'extra-0\.parquet' belongs to no split, but other files"):
        list_parquet(str(tmp_path))


def test_no_rows(tmp_path: Path) -> None:
    columns = {"image": images(0), "label": pa.array([], pa.int64())}
    path = write(tmp_path / "x.parquet", columns, metadata(label=class_label()))
    with pytest.raises(DataError, match="no images found"):
        open_data(path)
    with pytest.raises(DataError, match="column 'weight' is null; numbers are expected"):
        list_parquet(write(tmp_path / "x.parquet", columns | {"weight": pa.nulls(0)}))


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.parquet: no such file"):
        list_parquet(str(tmp_path / "no.parquet"))
    with pytest.raises(DataError, match=r"\*\.parquet: no \.parquet file there"):
        list_parquet(str(tmp_path / "*.parquet"))


def test_large_row_groups_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "SLOW", 1000)
    path = tmp_path / "x.parquet"
    assert list_parquet(write_set(path, n=100)).notes == ()  # each is found with one seek
    (note,) = list_parquet(write_set(path, n=100, compression="snappy")).notes
    assert note.startswith("row groups of up to 0 MiB must be decoded") and "data pack" in note
    assert list_parquet(write_set(path, n=100, compression="snappy", row_group_size=2)).notes == ()


# --- files that are damaged or lie ---


@pytest.mark.parametrize("compression", ["none", "snappy"])
def test_truncated_anywhere(tmp_path: Path, compression: str) -> None:
    whole = Path(write_set(tmp_path / "a.parquet", compression=compression)).read_bytes()
    path = tmp_path / "x.parquet"
    for size in range(0, len(whole), 37):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError) as error:
            list_parquet(str(path))
        assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def damage(whole: bytes, seed: int) -> bytes:
    """Change a few bytes, mostly of the metadata."""
    random = np.random.default_rng(seed)
    data = bytearray(whole)
    footer = int.from_bytes(whole[-8:-4], "little") + 8
    for _ in range(random.integers(1, 4)):
        first = len(data) - footer if random.random() < 0.8 else 0
        data[random.integers(first, len(data))] = random.choice([0, 127, 128, 255, 21])
    return bytes(data)


@pytest.mark.parametrize("rounds", [150, pytest.param(5000, marks=pytest.mark.slow)])
def test_damaged_anywhere(tmp_path: Path, rounds: int) -> None:
    whole = [
        Path(write_set(tmp_path / "a.parquet", row_group_size=5, **options)).read_bytes()
        for options in ({}, {"compression": "snappy", "use_dictionary": False})
    ]
    path = tmp_path / "x.parquet"
    refused = 0
    for seed in range(rounds):
        path.write_bytes(damage(whole[seed % 2], seed))
        try:
            listing = list_parquet(str(path))
            for i in range(len(listing.keys)):
                listing.read(i)
        except DataError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > rounds // 2


@pytest.mark.parametrize(
    "told",
    [
        "{",
        "[" * 100_000,
        "[1]",
        '{"info": 3}',
        '{"info": {"features": {"label": {"_type": "ClassLabel"}}}}',
        '{"info": {"features": {"label": {"_type": "ClassLabel", "names": "ab"}}}}',
        '{"info": {"features": {"label": {"_type": "ClassLabel", "names": ["a", "a"]}}}}',
        '{"info": {"features": {"label": {"_type": "ClassLabel", "names": ["a", 1]}}}}',
        '{"info": {"features": {"label": {"_type": "ClassLabel", "names": []}}}}',
        b"\xff",
    ],
)
def test_metadata_of_wrong_types(tmp_path: Path, told: str | bytes) -> None:
    columns = {"image": images(3), "label": [0, 1, 0]}
    path = write(tmp_path / "x.parquet", columns, {"huggingface": told})
    with pytest.raises(DataError, match=r"metadata 'huggingface'|metadata of column 'label'"):
        list_parquet(path)


@pytest.mark.parametrize("features", ["null", "[]", '{"label": 3}', '{"label": {}}'])
def test_metadata_that_names_nothing(tmp_path: Path, features: str) -> None:
    columns = {"image": images(3), "label": [0, 1, 0]}
    told = {"huggingface": f'{{"info": {{"features": {features}}}}}'}
    assert list_parquet(write(tmp_path / "x.parquet", columns, told)).classes == ("0", "1")


@pytest.mark.parametrize("depth", [60, 1000])
def test_columns_nested_deeply(tmp_path: Path, depth: int) -> None:
    kind: Any = pa.int64()
    for _ in range(depth):
        kind = pa.struct([("a", kind)])
    columns = {"image": images(3), "label": list("aba"), "deep": pa.nulls(3, kind)}
    path = write(tmp_path / "x.parquet", columns)
    if depth == 60:
        assert list_parquet(path).read(2) == content(2)
    else:
        with pytest.raises(DataError, match="too deeply nested"):
            list_parquet(path)


def test_more_rows_than_bytes(tmp_path: Path) -> None:
    n = 200_000
    columns = {"image": pa.nulls(n, images(0).type), "label": pa.array(np.zeros(n, np.int64))}
    path = write(tmp_path / "x.parquet", columns, compression="zstd")
    assert Path(path).stat().st_size < n
    with pytest.raises(DataError, match=r"200000 rows in .* bytes cannot be"):
        list_parquet(path)


def test_columns_of_equal_name(tmp_path: Path) -> None:
    table = pa.Table.from_arrays(
        [images(2), pa.array([1, 0]), pa.array([0, 1])], ["image", "a", "a"]
    )
    pa.parquet.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(DataError, match="column 'a' stands there twice"):
        list_parquet(str(tmp_path / "x.parquet"))


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_set(tmp_path / "x.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert matches(path)
    with pytest.raises(DataError, match=r"x\.parquet: needs the extra parquet: pip install 'v"):
        list_parquet(path)


def test_a_pack_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    paint_splits(tmp_path / "photos", each=3)
    pack(
        str(tmp_path / "photos"), tmp_path / "packed", format="parquet", part_bytes=10**9, workers=1
    )
    assert len(list_parquet(str(tmp_path / "packed")).splits) == 2
    (tmp_path / "packed" / "train-000000.parquet").unlink()
    with pytest.raises(DataError, match="packed: holds 1 of the 2 files of a pack; run the same"):
        list_parquet(str(tmp_path / "packed"))
