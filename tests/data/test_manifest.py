"""Tables of images, and what is refused of them."""

import gc
import json
from pathlib import Path

import pytest

from vitrail.data.dataset import LabelSets
from vitrail.data.manifest import list_manifest
from vitrail.data.sources import open_data
from vitrail.errors import DataError


def write(root: Path, text: str, name: str = "pets.csv", files: int = 12) -> str:
    """A manifest, and files that hold their own name."""
    (root / "photos").mkdir(exist_ok=True)
    for i in range(files):
        (root / "photos" / f"{i}.png").write_text(f"{i}.png")
    (root / name).write_text(text, encoding="utf-8")
    return str(root / name)


def rows(separator: str = ",", header: str = "path,label,split,weight") -> str:
    lines = [header.replace(",", separator)]
    for i in range(12):
        values = (f"photos/{i}.png", f"c{11 - i % 3}", ("train", "val")[i % 4 == 3], f"{i / 2}")
        lines.append(separator.join(values))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(("name", "separator"), [("pets.csv", ","), ("pets.TSV", "\t")])
def test_separated_values(tmp_path: Path, name: str, separator: str) -> None:
    data = open_data(write(tmp_path, rows(separator), name))
    assert (data.name, data.classes) == ("pets", ("c9", "c10", "c11"))
    assert list(data.splits["val"].keys) == [f"photos/{i}.png" for i in (3, 7, 11)]
    assert data.splits["val"].labels.tolist() == [2, 1, 0]
    assert data.splits["val"].weights.tolist() == [1.5, 3.5, 5.5]  # type: ignore[union-attr]
    assert len(data.splits["train"]) == 9
    assert data.splits["val"].read(1) == b"7.png"


def test_json_lines(tmp_path: Path) -> None:
    lines = [
        json.dumps({"file_name": f"photos/{i}.png", "label": i % 3, "note": None})
        for i in range(12)
    ]
    listing = list_manifest(write(tmp_path, "\n\n".join(lines), "pets.jsonl"))
    assert listing.classes == ("0", "1", "2") and listing.labels.tolist() == [0, 1, 2] * 4  # type: ignore[union-attr]
    assert listing.splits == {} and listing.weights is None


def test_other_names_of_columns_and_a_byte_order_mark(tmp_path: Path) -> None:
    text = "\ufeff" + rows(header="Image, CLASS ,subset,more").replace(" ", "")
    listing = list_manifest(write(tmp_path, text))
    assert len(listing.keys) == 12 and set(listing.splits) == {"train", "val"}


def test_quoted_names_and_empty_lines(tmp_path: Path) -> None:
    text = 'path,label\n"photos/0.png","a ""b"", c"\n\nphotos/1.png,d\n'
    listing = list_manifest(write(tmp_path, text))
    assert listing.classes == ('a "b", c', "d")


def test_several_labels(tmp_path: Path) -> None:
    text = "path,label\nphotos/0.png,b|a\nphotos/1.png,\nphotos/2.png,c | b | b\n"
    listing = list_manifest(write(tmp_path, text))
    assert listing.classes == ("a", "b", "c") and isinstance(listing.labels, LabelSets)
    assert [each.tolist() for each in listing.labels] == [[0, 1], [], [1, 2]]
    lines = ['{"path": "photos/0.png", "label": ["x"]}', '{"path": "photos/1.png", "label": []}']
    listing = list_manifest(write(tmp_path, "\n".join(lines), "pets.jsonl"))
    assert [each.tolist() for each in listing.labels] == [[0], []]


def test_split_names_may_vary(tmp_path: Path) -> None:
    text = "path,label,split\n" + "".join(
        f"photos/{i}.png,{i % 2},{name}\n"
        for i, name in enumerate(["Train", "valid", "val", "training", "train", "VALIDATION"])
    )
    listing = list_manifest(write(tmp_path, text))
    assert {name: each.tolist() for name, each in listing.splits.items()} == {
        "train": [0, 3, 4],
        "val": [1, 2, 5],
    }


def test_many_rows_are_read_in_parts(tmp_path: Path) -> None:
    text = "path,label\n" + "".join(f"photos/{i}.png,{i % 7}\n" for i in range(9000))
    listing = list_manifest(write(tmp_path, text))
    assert listing.keys[8999] == "photos/8999.png" and len(listing.keys) == 9000
    assert listing.labels.tolist() == [i % 7 for i in range(9000)]  # type: ignore[union-attr]
    twice = text + "photos/8.png,1\n"
    with pytest.raises(DataError, match=r"line 9002: 'photos/8\.png' stands in line 10 already"):
        list_manifest(write(tmp_path, twice))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'path'.*there is nothing; the first line must name"),
        ("a/0.png,cat\n", r"no column 'path'.*there is a/0\.png, cat; the first line must name"),
        ("path,labl\n", "no column 'label'; did you mean 'labl'"),
        ("path,label\n", "no images in it"),
        ("path,label\nphotos/0.png,a,b\n", "line 2: 3 values for 2 columns"),
        ("path,label\nphotos/0.png,a\n,b\n", "line 3: the path is empty"),
        ("path,label\nphotos/0.png,a\nphotos/1.png,\n", "line 3: the label is empty"),
        ("path,label\nphotos/0.png,a\nphotos/0.png,b\n", "line 3: .* stands in line 2 already"),
        ("path,label,split\nphotos/0.png,a,tr\n", "line 2: split 'tr' is not one of train"),
        ("path,label,split\nphotos/0.png,a,\n", "line 2: split '' is not one of train"),
        ("path,label,weight\nphotos/0.png,a,-1\n", "line 2: weight '-1' must be a number from 0"),
        ("path,label,weight\nphotos/0.png,a,nan\n", "line 2: weight 'nan' must be a number"),
        ('path,label\n"photos/0.png,a\n', "line 2: unexpected end of data"),
        (
            "path,label\npictures/0.png,a\n",
            ".*/pictures/0.png is not there, nor any other of 1 files",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"pets\.csv: {message}"):
        list_manifest(write(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"path": "photos/0.png"', "line 1: "),
        ("[1]", "line 1: an object such as"),
        ('{"path": "a", "label": 1}\n{"path": "b"}', "line 2: 'label' is missing"),
        ("[" * 100_000, "line 1: "),
    ],
)
def test_what_is_refused_of_json(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"pets\.jsonl: {message}"):
        list_manifest(write(tmp_path, text, "pets.jsonl"))


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.csv: No such file"):
        open_data(str(tmp_path / "absent.csv"))
    (tmp_path / "a.csv").write_bytes(b"path,label\n\xff\xfe,a\n")
    with pytest.raises(DataError, match=r"a\.csv: .* is not UTF-8"):
        open_data(str(tmp_path / "a.csv"))


def test_empty_lines_end_nothing(tmp_path: Path) -> None:
    text = "path,label\n" + "\n" * 5000 + "photos/0.png,a\n" + "\n" * 9000 + "photos/1.png,b\n"
    assert list(list_manifest(write(tmp_path, text)).keys) == ["photos/0.png", "photos/1.png"]
    with pytest.raises(DataError, match="line 14004: 1 values for 2 columns"):
        list_manifest(write(tmp_path, text + "odd\n"))


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    text = 'path,label\nphotos/0.png,"a\nb"\n\nphotos/1.png,\n'
    with pytest.raises(DataError, match="line 5: the label is empty"):
        list_manifest(write(tmp_path, text))


def test_the_collector_is_left_as_it_was(tmp_path: Path) -> None:
    assert gc.isenabled()
    list_manifest(write(tmp_path, rows()))
    assert gc.isenabled()
    with pytest.raises(DataError):
        list_manifest(write(tmp_path, rows() + "odd\n"))
    assert gc.isenabled()


def test_spaces_around_labels_do_not_count(tmp_path: Path) -> None:
    text = "path,label\nphotos/0.png, a\nphotos/1.png,a \nphotos/2.png,b\n"
    assert list_manifest(write(tmp_path, text)).classes == ("a", "b")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("path,label,label", "column 'label' stands twice"),
        ("path,Label,label", "columns 'Label' and 'label' have one name"),
    ],
)
def test_columns_of_one_name(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list_manifest(write(tmp_path, f"{header}\nphotos/0.png,a,b\n"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"path": "\\ud800.jpg", "label": "a"}', r"line 1: '\\ud800.jpg' is no text"),
        ('{"path": "photos/0.png", "label": {"x": 1}}', "line 1: {'x': 1} is neither text nor"),
        ('{"path": "photos/0.png", "label": [["a"]]}', r"line 1: \['a'\] is neither text nor"),
        (f'{{"path": "photos/0.png", "label": 1, "weight": 1{"0" * 400}}}', "line 1: weight '1000"),
    ],
)
def test_odd_values_of_json(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list_manifest(write(tmp_path, line, "pets.jsonl"))
