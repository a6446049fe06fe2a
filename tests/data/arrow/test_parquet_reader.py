"""Reading the image of any row: exact, in any order, from any process."""

import os
import pickle
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.images import save
from tests.data.parquets import content, images, write, write_set
from tests.data.samples import photo
from vitrail.data.arrow import parquet_reader
from vitrail.data.arrow.parquet import list_parquet
from vitrail.data.arrow.parquet_reader import RowReader
from vitrail.data.loader import FileImages, ordered_batches, train_batches
from vitrail.data.preprocess import Preprocess
from vitrail.data.sources import open_to_measure
from vitrail.errors import ImageError

FORMS: dict[str, dict[str, Any]] = {
    "plain": {"use_dictionary": False},
    "dictionary": {},
    "second": {"use_dictionary": False, "data_page_version": "2.0"},
    "snappy": {"compression": "snappy"},
    "zstd": {"compression": "zstd", "data_page_version": "2.0"},
}


def reader(path: str) -> RowReader:
    read = list_parquet(path).read
    assert isinstance(read, RowReader)
    return read


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rows", [1, 16, 100, 1000])
def test_every_row_in_any_order(tmp_path: Path, form: str, rows: int) -> None:
    n = 250
    path = write_set(tmp_path / "x.parquet", n=n, row_group_size=rows, **FORMS[form])
    read = reader(path)
    for i in np.random.default_rng(0).permutation(n).tolist():
        assert read(i) == content(i)
    sought = all(chunk is not None for chunk in read.chunks.values())
    assert sought == ("compression" not in FORMS[form])
    assert len(read.groups) == (0 if sought else -(-n // rows))


def test_decoded_groups_are_kept_up_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_set(tmp_path / "x.parquet", n=40, row_group_size=10, compression="snappy")
    read = reader(path)
    read(0)
    monkeypatch.setattr(parquet_reader, "KEPT", 2.5 * next(iter(read.groups.values())).nbytes)
    for i in (0, 10, 1, 20):
        assert read(i) == content(i)
    assert list(read.groups) == [(0, 0), (0, 2)]  # the least recently used is gone
    monkeypatch.setattr(parquet_reader, "KEPT", 1)
    assert read(39) == content(39)
    assert list(read.groups) == [(0, 3)]


def test_few_files_are_kept_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_reader, "OPEN", 2)
    for k in range(5):
        write_set(tmp_path / f"{k}.parquet", n=3, first=3 * k, compression="snappy")
    read = reader(str(tmp_path))
    assert [read(i) for i in range(15)] == [content(i) for i in range(15)]
    assert list(read.files) == [3, 4]


@pytest.mark.parametrize("options", [{}, {"compression": "snappy"}])
def test_a_row_without_image(tmp_path: Path, options: dict[str, str]) -> None:
    rows = [{"bytes": content(0), "path": "0"}, None, {"bytes": None, "path": "2"}]
    columns = {"image": pa.array(rows, images(0).type), "label": list("aba")}
    read = reader(write(tmp_path / "x.parquet", columns, **options))
    assert read(0) == content(0)
    for i in (1, 2):
        with pytest.raises(ImageError, match=rf"x\.parquet:{i}: the row has no image \(null\)"):
            read(i)


@pytest.mark.parametrize("options", [{}, {"compression": "snappy"}])
def test_a_file_that_changes(tmp_path: Path, options: dict[str, str]) -> None:
    path = write_set(tmp_path / "x.parquet", **options)
    read = reader(path)
    write_set(tmp_path / "x.parquet", first=1, **options)
    os.utime(path, (1, 1))
    with pytest.raises(ImageError, match=r"x\.parquet: the file has changed since it was opened"):
        read(0)
    os.remove(path)
    with pytest.raises(ImageError, match=r"x\.parquet"):
        read(0)


def test_only_the_image_column_of_one_group_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = {"image": images(30), "label": list("ab" * 15), "image2": images(30, 50)}
    path = write(tmp_path / "x.parquet", columns, compression="snappy", row_group_size=10)
    read = reader(path)
    asked = []

    class Spy(pq.ParquetFile):
        def read_row_group(self, i: int, columns: Any = None, **options: Any) -> Any:
            asked.append((i, columns))
            return super().read_row_group(i, columns, **options)

    monkeypatch.setattr(pq, "ParquetFile", Spy)
    assert [read(i) for i in (25, 21, 3)] == [content(i) for i in (25, 21, 3)]
    assert asked == [(2, ["image.bytes"]), (0, ["image.bytes"])]


def job(read: RowReader, i: int) -> tuple[bytes, int]:
    return read(i), len(read.groups)


@pytest.mark.parametrize("start", ["fork", "spawn"])
@pytest.mark.parametrize("options", [{}, {"compression": "snappy"}])
def test_in_another_process(tmp_path: Path, start: str, options: dict[str, str]) -> None:
    read = reader(write_set(tmp_path / "x.parquet", n=30, row_group_size=10, **options))
    assert read(29) == content(29)  # something is open here already
    assert len(pickle.dumps(read)) < 5000
    with get_context(start).Pool(1) as pool:
        assert pool.apply(job, (read, 5)) == (content(5), 1 if options else 0)
    assert read(6) == content(6)


def forked(read: RowReader, i: int) -> None:
    os._exit(0 if read(i) == content(i) and read.process == os.getpid() else 1)


def test_after_a_fork_files_are_opened_again(tmp_path: Path) -> None:
    read = reader(write_set(tmp_path / "x.parquet", n=30, row_group_size=10, compression="gzip"))
    assert read(29) == content(29)
    process = get_context("fork").Process(target=forked, args=(read, 3))  # without pickling
    process.start()
    process.join()
    assert process.exitcode == 0
    assert read(4) == content(4)


@pytest.mark.parametrize("compression", ["none", "snappy"])
def test_batches_from_workers(tmp_path: Path, compression: str) -> None:
    rows = [{"bytes": save(photo(9, 13, i), "PNG"), "path": f"{i}.png"} for i in range(11)]
    rows[7] = {"bytes": None, "path": "7.png"}
    columns = {"image": pa.array(rows, images(0).type), "label": [i % 2 for i in range(11)]}
    path = write(tmp_path / "x.parquet", columns, compression=compression, row_group_size=3)
    split = open_to_measure(path).splits["all"]
    found = FileImages(split, Preprocess(size=(6, 10)))
    alone, together = (list(ordered_batches(found, batch_size=4, workers=w)) for w in (0, 2))
    for a, b in zip(alone, together, strict=True):
        assert (a.images == b.images).all() and (a.labels == b.labels).all()
        assert a.failures == b.failures
    assert [key for batch in alone for key, _ in batch.failures] == ["x.parquet:7"]
    steps = train_batches(found, seed=1, batch_size=5, steps=range(4), workers=2)
    assert sum(len(batch.failures) for batch in steps) in (1, 2)  # 20 places of 11 images
