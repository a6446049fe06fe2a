"""Parquet files that are written: read again by us, by pyarrow and by `datasets`."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.data.images import save
from tests.data.parquets import NAMES, content
from tests.data.samples import photo
from vitrail.data.arrow import parquet_writer
from vitrail.data.arrow.parquet import list_parquet
from vitrail.data.arrow.parquet_writer import Sample, write_part
from vitrail.data.dataset import LabelSets
from vitrail.data.packing.pack import WRITERS, pack
from vitrail.data.sources import open_data
from vitrail.errors import DataError, ImageError, StorageError


def samples(n: int = 20, several: bool = False, weight: float | None = None) -> list[Sample]:
    labels = [(i % 4, 2) if several else np.int64(i % 4) for i in range(n)]
    return [(f"a/{i}.png", content(i), labels[i], weight) for i in range(n)]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write_part(path, iter(samples()), NAMES)
    listing = list_parquet(str(path))
    assert (listing.classes, listing.weights) == (NAMES, None)
    assert listing.labels.tolist() == [i % 4 for i in range(20)]
    assert [listing.read(i) for i in range(20)] == [content(i) for i in range(20)]
    assert all(chunk is not None for chunk in listing.read.chunks.values())  # type: ignore[attr-defined]
    image = pq.read_table(path).column("image").to_pylist()
    assert image == [{"bytes": content(i), "path": f"a/{i}.png"} for i in range(20)]
    assert [each.name for each in tmp_path.iterdir()] == ["x.parquet"]


def test_several_labels_and_weights(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write_part(path, samples(several=True, weight=0.25), NAMES)
    listing = list_parquet(str(path))
    assert isinstance(listing.labels, LabelSets)
    assert [each.tolist() for each in listing.labels][:4] == [[0, 2], [1, 2], [2], [2, 3]]
    assert listing.weights.tolist() == [0.25] * 20  # type: ignore[union-attr]


@pytest.mark.parametrize("several", [True, False])
def test_datasets_reads_its_own_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, several: bool
) -> None:
    import datasets

    files = [save(photo(9, 13, i), "PNG") for i in range(4)]
    rows = [
        (f"{i}.png", file, [i, 0] if several else i, 1.5 if several else None)
        for i, file in enumerate(files)
    ]
    path = tmp_path / "x.parquet"
    write_part(path, rows, NAMES)
    cache = str(tmp_path / "cache")
    loaded = datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=cache)
    label = datasets.ClassLabel(names=list(NAMES))
    expected = {"image": datasets.Image(), "label": datasets.List(label) if several else label}
    expected |= {"weight": datasets.Value("float64")} if several else {}
    assert loaded.features == datasets.Features(expected)
    assert loaded.features.arrow_schema.metadata == pq.read_schema(path).metadata
    assert (np.asarray(loaded[3]["image"]) == np.asarray(photo(9, 13, 3))).all()
    assert loaded[3]["label"] == ([3, 0] if several else 3)


def test_row_groups_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.parquet"
    rows = [(f"{i}", bytes(300_000 + i), i % 4, None) for i in range(20)]
    write_part(path, rows, NAMES)
    metadata = pq.ParquetFile(path).metadata
    assert [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)] == [7, 7, 6]
    monkeypatch.setattr(parquet_writer, "ROWS", 6)
    write_part(path, samples(), NAMES)
    assert pq.ParquetFile(path).metadata.num_row_groups == 4
    assert list_parquet(str(path)).read(19) == content(19)


def test_equal_samples_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.parquet", "b.parquet"):
        write_part(tmp_path / name, iter(samples(weight=2.0)), NAMES)
    one, other = ((tmp_path / name).read_bytes() for name in ("a.parquet", "b.parquet"))
    assert one == other


def test_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write_part(path, [("a\udcff.png", b"1", 0, None)], NAMES)
    assert pq.read_table(path).column("image")[0].as_py()["path"] == "a\\udcff.png"


def failing() -> Iterator[Sample]:
    yield from samples(3)
    raise ImageError("3.png: broken")


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(b"before")
    with pytest.raises(ImageError, match=r"3\.png: broken"):
        write_part(path, failing(), NAMES)
    mixed = [*samples(2), ("2.png", b"", [1], None)]
    with pytest.raises(DataError, match=r"'2\.png' has label \[1\] and weight None, unlike"):
        write_part(path, mixed, NAMES)
    with pytest.raises(DataError, match=r"'1\.png' has label 1 and weight 2\.0, unlike"):
        write_part(path, [*samples(1), ("1.png", b"", 1, 2.0)], NAMES)
    with pytest.raises(DataError, match="no samples to write"):
        write_part(path, [], NAMES)
    assert [each.name for each in tmp_path.iterdir()] == ["x.parquet"]
    assert path.read_bytes() == b"before"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        write_part(tmp_path / "file" / "x.parquet", samples(), NAMES)


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DataError, match=r"needs the extra parquet: pip install 'vitrail"):
        write_part(tmp_path / "x.parquet", samples(), NAMES)


def test_a_pack_is_read_as_the_same_data(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for i in range(8):
            file = tmp_path / "pets" / split / "ab"[i % 2] / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(save(photo(5, 7, i + 10 * (split == "val")), "PNG"))
    assert "parquet" in WRITERS
    pack(str(tmp_path / "pets"), tmp_path / "packed", format="parquet", workers=1)
    before, after = (open_data(str(tmp_path / name)) for name in ("pets", "packed"))
    assert before.classes == after.classes
    for name, split in before.splits.items():
        there = after.splits[name]
        labelled = [
            sorted((part.read(i), int(part.labels[i])) for i in range(len(part)))
            for part in (split, there)
        ]
        assert labelled[0] == labelled[1]
