"""The walk over the headers of good, odd and hostile archives."""

import io
import os
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from tests.data.hostile_tars import CASES, GOOD, archive, header, member, padded
from vitrail.data.shards import members as tar_index
from vitrail.data.shards.members import FILE, FOLDER, MARK, Member, walk
from vitrail.data.shards.source import list_shards
from vitrail.data.shards.table import IMAGE_LIMIT
from vitrail.errors import DataError

MEMORY = 16 << 20  # bytes that opening a hostile archive may take


def members(data: bytes) -> list[Member]:
    return list(walk(lambda start, count: data[start : start + count], len(data), "a.tar"))


def snapshot(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else b""
        for path in root.rglob("*")
    }


@pytest.mark.parametrize("name", CASES)
def test_d4_hostile_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    case = CASES[name]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere" / "none"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    shard = tmp_path / "data" / "a.tar"
    shard.parent.mkdir()
    shard.write_bytes(case.data)
    before = snapshot(tmp_path)
    tracemalloc.start()
    try:
        if case.refused:
            with pytest.raises(DataError, match=case.refused) as caught:
                list_shards(str(shard))
            assert str(caught.value).startswith(str(shard))
            assert "\n" not in str(caught.value)
        else:
            listing = list_shards(str(shard))
            assert list(listing.keys) == [f"a.tar/{key}" for key in case.keys]
            assert all(listing.read(i).startswith(b"\x89PNG") for i in range(len(listing.keys)))
            assert case.note in "".join(listing.notes) and bool(listing.notes) == bool(case.note)
        assert tracemalloc.get_traced_memory()[1] < MEMORY + len(case.data)
    finally:
        tracemalloc.stop()
    after = snapshot(tmp_path)
    after.pop("data/vitrail-index.safetensors", None)
    assert after == before


def test_there_are_forty_of_them() -> None:
    assert len(CASES) >= 40


def test_more_members_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_index, "MEMBERS", 3)
    assert len(members(archive(*[member(b"e.txt", b"")] * 2))) == 3
    with pytest.raises(DataError, match=r"a\.tar: at byte 1536: it has more than 3 members"):
        members(archive(*[member(b"e.txt", b"")] * 3))


def test_an_image_of_gigabytes_that_takes_no_room(tmp_path: Path) -> None:
    with open(tmp_path / "a.tar", "wb") as file:
        file.write(header(b"huge/1.png", IMAGE_LIMIT + 512))
        file.seek(IMAGE_LIMIT + 512, os.SEEK_CUR)
        file.write(archive())
    listing = list_shards(str(tmp_path / "a.tar"))
    assert list(listing.keys) == ["a.tar/good/0.png"]
    assert "more than 1024 MiB" in listing.notes[0] and "'huge/1.png'" in listing.notes[0]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_walk_agrees_with_tarfile(form: int) -> None:
    target = io.BytesIO()
    names = ["a.png", "b/" + "c" * 90 + "/" + "d" * 80, "e/f.cls", "g/"]
    names += [] if form == tarfile.USTAR_FORMAT else ["h" * 300, "ü/é.png"]
    with tarfile.open(fileobj=target, mode="w", format=form) as file:
        for k, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size = 0 if name == "g/" else 300 * k
            info.type = tarfile.DIRTYPE if name == "g/" else tarfile.REGTYPE
            info.mtime = 1.5 if form == tarfile.PAX_FORMAT else 1
            file.addfile(info, io.BytesIO(bytes(info.size)))
    data = target.getvalue()
    with tarfile.open(fileobj=io.BytesIO(data)) as file:
        expected = [(each.name, each.offset_data, each.size) for each in file]
    found = members(data)
    assert [(each.name.rstrip("/"), each.start, each.size) for each in found] == expected
    assert [each.kind for each in found if each.name.startswith("g/")] == [FOLDER]


def test_a_comment_on_the_archive_is_told() -> None:
    comment = tarfile.TarInfo.create_pax_global_header({"comment": "abc"})
    found = members(comment + archive())
    assert [(each.kind, each.name) for each in found] == [(MARK, "abc"), (FILE, "good/0.png")]


def test_an_archive_without_members() -> None:
    assert members(bytes(1024)) == []
    assert members(bytes(10240)) == []


def test_one_block_of_zeros_is_an_end() -> None:
    assert len(members(GOOD + bytes(512))) == 1


def test_the_last_member_may_lack_its_padding_only_with_its_end() -> None:
    with pytest.raises(DataError, match="the end mark is missing"):
        members(header(b"a.png", 5) + b"12345")
    assert len(members(header(b"a.png", 5) + padded(b"12345") + bytes(512))) == 1
