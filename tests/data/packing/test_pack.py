"""Packing: any source, unchanged bytes, resumable, proved."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.data.tars import image, write_tar
from vitrail.data.dataset import LabelSets
from vitrail.data.folder import FileReader
from vitrail.data.packing import pack as module
from vitrail.data.packing.pack import WRITERS, pack
from vitrail.data.shards.index import INDEX_NAME
from vitrail.data.shards.table import read_index
from vitrail.data.sources import list_source, open_data, open_to_measure
from vitrail.data.splitting import Fractions
from vitrail.errors import DataError, ImageError, StorageError

PART = 20_000  # bytes


def fill(root: Path, *prefixes: str, n: int = 20, classes: tuple[str, ...] = ("a", "b")) -> Path:
    """Write images of different sizes that know their names."""
    for prefix in prefixes:
        for name in classes:
            for i in range(n):
                path = root / prefix / name / f"{i}.PNG"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(image(f"{prefix}{name}{i}" * (1 + i)))
    return root


def hashes(folder: Path, pattern: str = "*.tar") -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob(pattern)}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("pets") / "pets", "train/", "val/")


def test_a_folder(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "packed"
    proof = pack(str(source), target, part_bytes=PART, workers=1)
    total = sum(path.stat().st_size for path in source.rglob("*.PNG"))
    assert (proof.images, proof.bytes, proof.notes) == (80, total, ())
    names = sorted(os.listdir(target))
    parts = [name for name in names if name.endswith(".tar")]
    assert len(parts) > 6 and {"train-000000.tar", "val-000000.tar"} < set(parts)
    assert set(names) - set(parts) == {"classes.txt", "pack.json", INDEX_NAME}
    assert (target / "classes.txt").read_text() == "a\nb\n"
    data, before = open_data(str(target)), open_data(str(source))
    assert data.classes == before.classes
    for name in ("train", "val"):
        split, old = data.splits[name], before.splits[name]
        by_content = {old.read(i): int(old.labels[i]) for i in range(len(old))}
        found = {split.read(i): int(split.labels[i]) for i in range(len(split))}
        assert found == by_content and len(found) == 40


def test_the_index_knows_content_and_origin(source: Path, tmp_path: Path) -> None:
    pack(str(source), tmp_path / "packed", part_bytes=PART, workers=1)
    index = read_index(tmp_path / "packed" / INDEX_NAME)
    listing = list_source(str(tmp_path / "packed"))
    assert index is not None and index.table.origins is not None and listing.digest is not None
    assert sorted(index.table.origins) == sorted(
        path.relative_to(source).as_posix() for path in source.rglob("*.PNG")
    )
    for i, origin in enumerate(index.table.origins):
        assert listing.read(i) == (source / origin).read_bytes()
        assert listing.digest(i) == hashlib.sha256(listing.read(i)).digest()
        assert listing.keys[i].endswith(".png")


def test_shards_are_mixed_and_even(tmp_path: Path) -> None:
    source = fill(tmp_path / "pets", "", n=60)
    pack(str(source), tmp_path / "packed", part_bytes=PART, workers=1)
    listing = list_source(str(tmp_path / "packed"))
    assert isinstance(listing.labels, np.ndarray) and listing.splits == {}
    shards = sorted((tmp_path / "packed").glob("*.tar"))
    sizes = [path.stat().st_size for path in shards]
    assert len(sizes) > 5 and max(sizes) < PART * 1.3 and min(sizes) > PART * 0.5
    for path in shards:
        own = [i for i, key in enumerate(listing.keys) if key.startswith(path.name)]
        assert set(listing.labels[own].tolist()) == {0, 1}


def test_other_programs_can_read_it(source: Path, tmp_path: Path) -> None:
    pack(str(source), tmp_path / "packed", part_bytes=10**9, workers=1)
    assert sorted(hashes(tmp_path / "packed")) == ["train-000000.tar", "val-000000.tar"]
    with tarfile.open(tmp_path / "packed" / "val-000000.tar") as file:
        members = {member.name: member for member in file}
        label = file.extractfile("00000007.cls")
        assert label is not None and label.read() in (b"0", b"1")
    assert list(members)[:3] == ["00000000.png", "00000000.cls", "00000001.png"]
    assert len(members) == 80
    assert {member.mtime for member in members.values()} == {0}


@pytest.mark.parametrize("name", ["digits"])
@pytest.mark.parametrize("form", WRITERS)
def test_built_in_data(tmp_path: Path, name: str, form: str) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    proof = pack(name, tmp_path / "packed", format=form, part_bytes=300_000, workers=1)
    assert proof.images == 1797
    data = open_data(str(tmp_path / "packed"))
    assert {split: len(part) for split, part in data.splits.items()} == {
        split: len(part) for split, part in open_data(name).splits.items()
    }


def test_a_pack_of_a_pack(source: Path, tmp_path: Path) -> None:
    pack(str(source), tmp_path / "one", part_bytes=PART, workers=1)
    pack(str(tmp_path / "one"), tmp_path / "two", part_bytes=3 * PART, workers=1, seed=5)
    assert open_to_measure(str(tmp_path / "two")).classes == ("a", "b")
    assert len(hashes(tmp_path / "two")) < len(hashes(tmp_path / "one"))


def test_several_labels_and_weights(tmp_path: Path) -> None:
    about = [{"label": []}, {"label": ["x"]}, {"label": ["x", "y"], "weight": 0.1}]
    members: dict[str, bytes | str] = {}
    for i, each in enumerate(about):
        members |= {f"{i}.png": f"image {i}", f"{i}.json": json.dumps(each).encode()}
    write_tar(tmp_path / "train-0.tar", members)
    pack(str(tmp_path / "train-0.tar"), tmp_path / "packed", workers=1)
    listing = list_source(str(tmp_path / "packed"))
    assert isinstance(listing.labels, LabelSets) and listing.weights is not None
    found = {
        listing.read(i): ([listing.classes[k] for k in own], listing.weights[i])
        for i, own in enumerate(listing.labels)
    }
    assert found == {
        image("image 0"): ([], 1.0),
        image("image 1"): (["x"], 1.0),
        image("image 2"): (["x", "y"], 0.1),
    }
    with tarfile.open(tmp_path / "packed" / "train-000000.tar") as file:
        texts = [file.extractfile(m) for m in file if m.name.endswith(".json")]
        keys = {json.loads(text.read())["key"] for text in texts if text is not None}
    assert keys == {f"train-0.tar/{i}.png" for i in range(3)}


def test_weights_of_single_labels(tmp_path: Path) -> None:
    members = {"a/0.png": "0", "b/1.png": "1", "b/1.json": b'{"weight": 0.3}'}
    write_tar(tmp_path / "0.tar", members)
    pack(str(tmp_path / "0.tar"), tmp_path / "packed", workers=1)
    listing = list_source(str(tmp_path / "packed"))
    assert listing.weights is not None and sorted(listing.weights.tolist()) == [0.3, 1.0]
    assert isinstance(listing.labels, np.ndarray)


def test_splits_that_are_cut(tmp_path: Path) -> None:
    source = fill(tmp_path / "pets", "", n=30)
    fractions = Fractions(val=0.2, test=0.1, seed=3)
    proof = pack(str(source), tmp_path / "packed", workers=1, fractions=fractions)
    assert proof.notes[0].startswith("split by file content with seed 3")
    expected = open_data(str(source), fractions)
    packed = open_data(str(tmp_path / "packed"))
    for name in ("train", "val", "test"):
        old, new = expected.splits[name], packed.splits[name]
        assert {old.read(i) for i in range(len(old))} == {new.read(i) for i in range(len(new))}


def test_the_quarantine_list_is_kept_to(tmp_path: Path) -> None:
    source = fill(tmp_path / "pets", "train/", n=3)
    (source / "quarantine.csv").write_text("path,reason,by\ntrain/a/1.PNG,broken,me\n")
    proof = pack(str(source), tmp_path / "packed", workers=1)
    assert proof.images == 5 and "1 images are left out" in proof.notes[0]


def test_workers_write_the_same(source: Path, tmp_path: Path) -> None:
    pack(str(source), tmp_path / "one", part_bytes=PART, workers=1)
    pack(str(source), tmp_path / "two", part_bytes=PART, workers=2)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    pack(str(source), tmp_path / "other", part_bytes=PART, workers=1, seed=1)
    assert hashes(tmp_path / "other").keys() == hashes(tmp_path / "one").keys()
    assert hashes(tmp_path / "other") != hashes(tmp_path / "one")


# --- interrupted ---


def test_a_rerun_writes_only_what_is_missing(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "packed"
    pack(str(source), target, part_bytes=PART, workers=1)
    whole = hashes(target)
    for name in ("train-000001.tar", "val-000000.tar", INDEX_NAME):
        (target / name).unlink()
    (target / ".train-000001.tar.abcd.tmp").write_bytes(b"half")
    times = {path.name: path.stat().st_mtime_ns for path in target.glob("*.tar")}
    pack(str(source), target, part_bytes=PART, workers=1)
    assert hashes(target) == whole
    assert {name: (target / name).stat().st_mtime_ns for name in times} == times
    assert not list(target.glob(".*"))


KILLED = """
import sys
from pathlib import Path
from vitrail.data.packing.pack import pack
pack(sys.argv[1], Path(sys.argv[2]), part_bytes=int(sys.argv[3]), workers=int(sys.argv[4]))
"""


@pytest.mark.parametrize(("workers", "shards"), [(1, 1), (2, 7)])
def test_a_killed_pack_goes_on(tmp_path: Path, workers: int, shards: int) -> None:
    source, target = fill(tmp_path / "pets", "train/", n=150), tmp_path / "packed"
    arguments = [str(source), str(target), str(PART), str(workers)]
    with subprocess.Popen([sys.executable, "-c", KILLED, *arguments]) as process:
        while len(list(target.glob("*.tar"))) < shards and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    there = hashes(target)
    assert len(there) >= shards
    pack(str(source), target, part_bytes=PART, workers=1)
    pack(str(source), tmp_path / "unbroken", part_bytes=PART, workers=1)
    assert there.items() <= hashes(target).items()
    assert hashes(target) == hashes(tmp_path / "unbroken")
    assert len(there) < len(hashes(target))


# --- what is refused ---


def test_another_plan_is_refused(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "packed"
    pack(str(source), target, part_bytes=PART, workers=1)
    whole = hashes(target)
    for change in ({"seed": 1}, {"part_bytes": 2 * PART}, {"format": "parquet"}):
        with pytest.raises(DataError, match=r"holds the pack of other data, or with other sett"):
            pack(str(source), target, **({"part_bytes": PART, "workers": 1} | change))  # type: ignore[arg-type]
    other = fill(tmp_path / "pets", "train/", n=3)
    with pytest.raises(DataError, match=r"holds the pack of other data, .*source '.*/pets'"):
        pack(str(other), target, part_bytes=PART, workers=1)
    assert hashes(target) == whole


@pytest.mark.parametrize("text", ["{", "[]", "{}", '"digest"', "[" * 100_000])
def test_a_plan_that_is_none(source: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "pack.json").write_text(text)
    with pytest.raises(DataError, match=r"pack\.json: cannot be read; name a new folder"):
        pack(str(source), tmp_path, workers=1)


def test_places_that_are_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cases = {
        tmp_path / "file": "is a file; name a new folder",
        tmp_path: "is not empty, and no pack",
        source: "lies inside the source",
        source / "packed": "lies inside the source",
        Path("s3://bucket/packed"): "a pack is written to a local folder",
    }
    for target, why in cases.items():
        with pytest.raises(DataError, match=why):
            pack(str(source), target, workers=1)
    with pytest.raises(DataError, match=r"format=shard: .* did you mean 'shards'"):
        pack(str(source), tmp_path / "new", format="shard")
    assert not (tmp_path / "new").exists()


def test_a_class_with_a_line_break(tmp_path: Path) -> None:
    source = fill(tmp_path / "pets", "train/", n=2, classes=("a", "b\nc"))
    with pytest.raises(DataError, match=r"class 'b\\nc' has a line break"):
        pack(str(source), tmp_path / "packed", workers=1)


def test_an_image_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = fill(tmp_path / "pets", "train/", n=3)
    read = FileReader.__call__

    def fail(self: FileReader, i: int) -> bytes:
        if i == 4:
            raise ImageError(f"{self.keys[i]}: Permission denied")
        return read(self, i)

    monkeypatch.setattr(FileReader, "__call__", fail)
    with pytest.raises(DataError, match=r"train/b/1\.PNG: Permission denied"):
        pack(str(source), tmp_path / "packed", workers=1)
    assert not (tmp_path / "packed").exists()


def test_a_source_that_changes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = fill(tmp_path / "pets", "train/", n=3)
    begin = module._begin

    def change(*args: object) -> None:
        begin(*args)  # type: ignore[arg-type]
        (source / "train/b/2.PNG").write_bytes(image("other"))

    monkeypatch.setattr(module, "_begin", change)
    with pytest.raises(DataError, match=r"train/b/2\.PNG: changed while it was packed"):
        pack(str(source), tmp_path / "packed", workers=1)


def test_a_full_disk(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("vitrail.data.shards.writer.os.fsync", full)
        with pytest.raises(StorageError, match="no space left on the disk"):
            pack(str(source), tmp_path / "packed", part_bytes=PART, workers=1)
    assert not list((tmp_path / "packed").glob("*tar*"))


# --- the proof finds every difference ---


def flip(path: Path, found: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(found)] ^= 1
    path.write_bytes(data)


DIFFERENCES: dict[str, tuple[Callable[[Path], object], str]] = {
    "content": (lambda target: flip(target / "train-000001.tar", b"train/a"), r"\(content\)"),
    "classes": (
        lambda target: (target / "classes.txt").write_text("b\na\n"),
        r"differs from the source \(label\)",
    ),
    "order": (
        lambda target: os.rename(target / "val-000000.tar", target / "train-999999.tar"),
        r"differs from the source \(split\)",
    ),
}


@pytest.mark.parametrize("what", DIFFERENCES)
def test_a_difference_is_found(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    spoil, why = DIFFERENCES[what]
    target = tmp_path / "packed"
    finish = WRITERS["shards"].finish

    def spoiled(*args: object) -> None:
        finish(*args)  # type: ignore[arg-type]
        spoil(target)

    monkeypatch.setitem(WRITERS, "shards", WRITERS["shards"]._replace(finish=spoiled))
    with pytest.raises(DataError, match=why):
        pack(str(source), target, part_bytes=PART, workers=1)


def test_a_shard_of_an_earlier_run_that_rotted(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "packed"
    pack(str(source), target, part_bytes=PART, workers=1)
    flip(target / "train-000002.tar", b"train/b")
    with pytest.raises(DataError, match=r"train-000002\.tar/.*\(content\); remove its file"):
        pack(str(source), target, part_bytes=PART, workers=1)
    (target / "train-000002.tar").unlink()
    assert pack(str(source), target, part_bytes=PART, workers=1).images == 80
