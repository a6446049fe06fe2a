"""The quarantine list: what is written comes back, and nothing in it acts."""

import csv
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.data.quarantine import default_quarantine, read_quarantine, write_quarantine
from vitrail.errors import DataError, StorageError

HOSTILE = [
    "=cmd|'/c calc'!A0",
    "+1",
    "-1",
    "@SUM(A1)",
    "'=1",
    "\x1b[31mred",
    'a "b", c',
    "a\nb.jpg",
]


@pytest.mark.parametrize("key", [*HOSTILE, "C:\\new\\u{41}", "\\\\", os.fsdecode(b"\xff\x9b.jpg")])
def test_keys_come_back_as_they_were(key: str, tmp_path: Path) -> None:
    path = tmp_path / "quarantine.csv"
    write_quarantine(path, {key: f"broken: {key}", "other.jpg": "also"})
    assert read_quarantine(path) == {key: f"broken: {key}", "other.jpg": "also"}


@given(st.dictionaries(st.text(min_size=1), st.text(), max_size=4))
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, found: dict) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.unlink(missing_ok=True)
    write_quarantine(path, found)
    assert read_quarantine(path) == found


def test_no_cell_is_a_formula_and_nothing_unseen_is_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.csv"
    write_quarantine(path, {key: key for key in HOSTILE})
    text = path.read_bytes().decode("utf-8")
    assert all(char.isprintable() or char == "\n" for char in text)
    cells = [cell for row in csv.reader(text.splitlines()) for cell in row]
    assert len(cells) == 3 * (1 + len(HOSTILE))
    assert not [cell for cell in cells if cell[:1] in ("=", "+", "-", "@", "\t", "\r")]


def test_lines_of_the_user_stay_and_those_of_the_check_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.csv"
    path.write_text("path,reason\nmine.jpg,ugly\nshared.jpg,\n", encoding="utf-8")
    write_quarantine(path, {"one.jpg": "broken", "shared.jpg": "also in val"})
    assert read_quarantine(path) == {"mine.jpg": "ugly", "shared.jpg": "", "one.jpg": "broken"}
    write_quarantine(path, {"two.jpg": "broken"})
    assert read_quarantine(path) == {"mine.jpg": "ugly", "shared.jpg": "", "two.jpg": "broken"}
    write_quarantine(path, {})
    assert path.read_text() == "path,reason,by\nmine.jpg,ugly,\nshared.jpg,,\n"


def test_a_list_that_a_spreadsheet_saved_is_read(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.csv"
    path.write_bytes("\ufeffreason,path\r\nugly,a/é.jpg\r\n,b.jpg\r\n,\r\n".encode())
    assert read_quarantine(path) == {"a/é.jpg": "ugly", "b.jpg": ""}


@pytest.mark.parametrize("text", [b"", b"file,reason\na,b\n", b"\x00\x01\x02", b'path\n"a'])
def test_what_is_no_list_is_refused(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "quarantine.csv"
    path.write_bytes(text)
    with pytest.raises(DataError, match="is no quarantine list"):
        read_quarantine(path)
    with pytest.raises(DataError, match="is no quarantine list"):
        write_quarantine(path, {})
    assert path.read_bytes() == text


def test_a_list_that_is_missing_or_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: No such file"):
        read_quarantine(tmp_path / "none.csv")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="a part of this path is a file"):
        write_quarantine(tmp_path / "file" / "quarantine.csv", {})


def test_where_a_list_belongs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "all.tsv").touch()
    assert default_quarantine(str(tmp_path / "photos")) == tmp_path / "photos" / "quarantine.csv"
    assert default_quarantine(str(tmp_path / "all.tsv")) == tmp_path / "all.tsv.quarantine.csv"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_quarantine("~/photos") == tmp_path / "photos" / "quarantine.csv"
    shards = str(tmp_path / "photos" / "{00..09}.tar")
    assert default_quarantine(shards) == tmp_path / "photos" / "quarantine.csv"
    for source in ("glyphs", "hf://name", "https://example.com/{0..9}.tar", "/nowhere/*.tar"):
        assert default_quarantine(source) is None
