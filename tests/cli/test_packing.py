"""`vitrail data pack`."""

import sys
from pathlib import Path

import pytest

from tests.cli.helpers import Captured, refused
from vitrail.cli import main
from vitrail.data.sources import open_data


def test_pack(photos: Path, tmp_path: Path, capsys: Captured) -> None:
    target = tmp_path / "packed"
    assert main(["data", "pack", str(photos), str(target), "--workers", "1"]) == 0
    said = capsys.readouterr()
    data, before = open_data(str(target)), open_data(str(photos))
    count = sum(len(split) for split in before.splits.values())
    assert said.out.startswith(f"proved: {count} images, ") and said.out.endswith(" bytes equal\n")
    assert f"--data {target}" in said.err
    assert data.classes == before.classes
    assert {n: len(s) for n, s in data.splits.items()} == {
        n: len(s) for n, s in before.splits.items()
    }


def test_pack_cuts_splits(photos: Path, tmp_path: Path, capsys: Captured) -> None:
    args = ["data", "pack", str(photos), str(tmp_path / "packed")]
    assert main([*args, "--split-fractions", "0.3", "0.3", "--seed", "2", "--workers", "1"]) == 0
    assert "note: split by file content with seed 2" in capsys.readouterr().err
    names = {path.name for path in (tmp_path / "packed").glob("*.tar")}
    assert names == {"train-000000.tar", "val-000000.tar", "test-000000.tar"}


def test_refusals(photos: Path, tmp_path: Path, capsys: Captured) -> None:
    target = tmp_path / "packed"
    pack = ("data", "pack", photos, target)
    assert "--shard-mb=0 must be at least 1" in refused(capsys, *pack, "--shard-mb", 0)
    assert "--workers=-1 must be at least 0" in refused(capsys, *pack, "--workers", -1)
    assert "format=zip: no such form of a pack" in refused(capsys, *pack, "--format", "zip")
    line = refused(capsys, *pack, "--split-fractions", 0.9, 0.5)
    assert "--split-fractions: val=0.9 and test=0.5 must leave images" in line
    assert "--shards-mb: unknown setting" in refused(capsys, *pack, "--shards-mb", 3)
    assert "no such file or folder" in refused(capsys, "data", "pack", tmp_path / "no", target)
    assert not target.exists()


def test_data_names_what_it_can(capsys: Captured) -> None:
    assert "data 'pakc': no such command; did you mean 'pack'?" in refused(capsys, "data", "pakc")
    for args in (["data"], ["data", "--help"]):
        assert main(args) == 0
        assert "pack" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no text")
def test_names_that_are_no_text(tmp_path: Path, capsys: Captured) -> None:
    for i, name in enumerate((b"\xff", b"\x1b[2J")):
        folder = tmp_path / "pets" / "train" / name.decode(errors="surrogateescape")
        folder.mkdir(parents=True)
        (folder / "0.png").write_bytes(b"%d" % i)
    args = ["data", "pack", str(tmp_path / "pets"), str(tmp_path / "packed"), "--workers", "1"]
    assert main(args) == 0
    assert capsys.readouterr().out == "proved: 2 images, 2 bytes equal\n"
