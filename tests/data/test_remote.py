"""Files behind an address: shards, ranges, failures that pass, and servers with bad manners."""

import gzip
import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest

from tests.data.tars import image, numbered, tar_bytes
from tests.data.web import Web, serving
from vitrail.data import remote
from vitrail.data.listing import Listing
from vitrail.data.remote import Found, find, is_remote, list_folder, read_range, search
from vitrail.data.shards import index as shard_index
from vitrail.data.shards.index import INDEX_NAME
from vitrail.data.shards.source import list_shards, matches
from vitrail.data.sources import list_source
from vitrail.errors import DataError, ImageError

FILES = {
    "set/train-0000.tar": tar_bytes(numbered(0, 5)),
    "set/train-0001.tar": tar_bytes(numbered(5, 5)),
    "set/val-0000.tar": tar_bytes(numbered(10, 5)),
    "set/classes.txt": b"cat\ndog\n",
}


@pytest.fixture(autouse=True)
def _ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "PAUSES", (0.0, 0.0, 0.0))


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as web:
        web.files = {f"/{name}": data for name, data in FILES.items()}
        yield web
    remote._make_filesystem.cache_clear()


@pytest.fixture
def memory() -> Iterator[str]:
    """Put the files into fsspec's memory; give their address."""
    store = fsspec.filesystem("memory")
    for name, data in FILES.items():
        store.pipe_file(f"/bucket/{name}", data)
    yield "memory://bucket"
    store.store.clear()
    store.pseudo_dirs[:] = [""]


def require_the_set(listing: Listing, first: int = 0, last: int = 15) -> None:
    assert listing.classes == ("cat", "dog")
    assert len(listing.keys) == last - first
    for i, number in enumerate(range(first, last)):
        assert listing.read(i) == image(f"image {number}")
        assert listing.keys[i].endswith(f".tar/{number:04d}.png")
    assert isinstance(listing.labels, np.ndarray)
    assert listing.labels.tolist() == [number % 2 for number in range(first, last)]


# --- memory:// ---


@pytest.mark.parametrize("way", ["/set", "/set/", "/set/*.tar", "/set/{train,val}-*.tar"])
def test_a_store_that_can_be_listed(memory: str, way: str) -> None:
    assert matches(memory + way)
    listing = list_source(memory + way)
    require_the_set(listing)
    assert listing.name == "set"
    assert listing.keys[0] == "train-0000.tar/0000.png"
    assert {name: len(places) for name, places in listing.splits.items()} == {"train": 10, "val": 5}


def test_some_of_a_store(memory: str) -> None:
    require_the_set(list_shards(f"{memory}/set/train-{{0000..0001}}.tar"), last=10)
    require_the_set(list_shards(f"{memory}/set/val-0000.tar"), first=10)


def test_split_folders_of_a_store() -> None:
    store = fsspec.filesystem("memory")
    store.pipe_file("/other/train/0.tar", FILES["set/train-0000.tar"])
    store.pipe_file("/other/val/0.tar", FILES["set/val-0000.tar"])
    try:
        assert matches("memory://other")
        listing = list_shards("memory://other")
        assert (listing.keys[0], list(listing.splits)) == ("train/0.tar/0000.png", ["train", "val"])
    finally:
        store.store.clear()


def test_a_folder_of_something_else(memory: str) -> None:
    fsspec.filesystem("memory").pipe_file("/bucket/set/cat.png", b"")
    assert not matches(f"{memory}/set")
    assert not matches(f"{memory}/absent")
    assert not matches(f"{memory}/set/pets.parquet")


def test_the_index_is_kept_in_the_cache(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    require_the_set(list_shards(f"{memory}/set"))
    monkeypatch.setattr(shard_index, "index_shard", None)  # a call would fail
    require_the_set(list_shards(f"{memory}/set"))
    assert not fsspec.filesystem("memory").exists(f"/bucket/set/{INDEX_NAME}")


def test_a_shard_that_changed_in_the_store(memory: str) -> None:
    list_shards(f"{memory}/set")
    members = numbered(10, 5)
    members["0010.png"] = "another!"  # as many bytes
    fsspec.filesystem("memory").pipe_file("/bucket/set/val-0000.tar", tar_bytes(members))
    assert list_shards(f"{memory}/set").read(10) == image("another!")


def test_missing_shards_of_a_store(memory: str) -> None:
    with pytest.raises(DataError, match=r"no such file: memory://bucket/set/3\.tar"):
        list_shards(f"{memory}/set/3.tar")
    with pytest.raises(DataError, match=r"/train-0002\.tar \(1 of 3 shards are missing\)"):
        list_shards(f"{memory}/set/train-{{0000..0002}}.tar")
    with pytest.raises(DataError, match="names 0 shards"):
        list_shards(f"{memory}/set/x*.tar")


def test_forked_workers_read_a_store(memory: str) -> None:
    listing = list_shards(f"{memory}/set")
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        assert list(pool.map(listing.read, range(15))) == [image(f"image {i}") for i in range(15)]


# --- http:// ---


def test_shards_of_the_web(web: Web) -> None:
    source = f"{web.url}/set/{{train-0000,train-0001,val-0000}}.tar"
    assert matches(source)
    require_the_set(list_source(source))


def test_every_worker_has_its_own_connection(web: Web) -> None:
    listing = list_shards(f"{web.url}/set/train-0000.tar")
    here = [listing.read(i) for i in range(5)]
    for start in ("fork", "spawn"):
        context = multiprocessing.get_context(start)
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            assert list(pool.map(listing.read, range(5))) == here


def test_exactly_the_bytes_of_the_image_are_fetched(web: Web) -> None:
    listing = list_shards(f"{web.url}/set/train-0000.tar")
    assert {path for _, path, _ in web.asked} == {
        "/set/train-0000.tar",
        "/set/classes.txt",
        f"/set/{INDEX_NAME}",
    }
    web.asked.clear()
    assert listing.read(1) == image("image 1")
    start = FILES["set/train-0000.tar"].index(image("image 1"))
    expected = f"bytes={start}-{start + len(image('image 1')) - 1}"
    assert web.asked == [("GET", "/set/train-0000.tar", expected)]


def test_a_signature_is_sent_and_not_shown(web: Web) -> None:
    listing = list_shards(f"{web.url}/set/train-0000.tar?token=secret")
    assert listing.read(0) == image("image 0")
    assert all(path.endswith("?token=secret") for _, path, _ in web.asked)
    assert not any("secret" in text for text in (listing.where, listing.name, *listing.keys))


def test_an_etag_tells_a_change(web: Web) -> None:
    web.headers = {"ETag": '"1"'}
    source = f"{web.url}/set/train-0000.tar"
    list_shards(source)
    web.asked.clear()
    list_shards(source)
    assert not [1 for method, path, _ in web.asked if method == "GET" and path.endswith(".tar")]
    web.headers = {"ETag": '"2"'}
    list_shards(source)
    assert [1 for method, path, _ in web.asked if method == "GET" and path.endswith(".tar")]


def test_a_failure_that_passes(web: Web) -> None:
    listing = list_shards(f"{web.url}/set/train-0000.tar")
    web.failures = [503, 429, 500]
    assert listing.read(0) == image("image 0")
    assert web.failures == []


def test_a_failure_that_stays(web: Web) -> None:
    listing = list_shards(f"{web.url}/set/train-0000.tar")
    web.failures = [503] * 10
    with pytest.raises(ImageError, match=r"/set/train-0000\.tar: cannot be read: .*503"):
        listing.read(0)
    assert len(web.failures) == 6  # four tries


@pytest.mark.parametrize("status", [400, 401, 403, 416])
def test_a_refusal_is_not_tried_again(web: Web, status: int) -> None:
    listing = list_shards(f"{web.url}/set/train-0000.tar")
    web.failures = [status] * 2
    with pytest.raises(ImageError, match=f"cannot be read: .*{status}"):
        listing.read(0)
    assert len(web.failures) == 1


def test_a_file_that_vanished(web: Web) -> None:
    listing = list_shards(f"{web.url}/set/train-0000.tar")
    web.files.clear()
    with pytest.raises(ImageError, match=r"train-0000\.tar: no such file$"):
        listing.read(0)
    with pytest.raises(DataError, match="no such file: http"):
        list_shards(f"{web.url}/set/train-0000.tar")


def test_no_redirect_is_followed(web: Web) -> None:
    with serving() as other:
        other.files = {f"/{name}": data for name, data in FILES.items()}
        listing = list_shards(f"{web.url}/set/train-0000.tar")
        web.redirect = f"{other.url}/set/train-0000.tar"
        with pytest.raises(ImageError, match="the server points to another address"):
            listing.read(0)
        with pytest.raises(DataError, match="the server points to another address"):
            list_shards(f"{web.url}/set/train-0000.tar")
        assert other.asked == []


def test_a_server_without_ranges(web: Web) -> None:
    web.whole = True
    with pytest.raises(DataError, match="the server does not give ranges of bytes"):
        list_shards(f"{web.url}/set/{{train-0000,train-0001}}.tar")
    web.headers = {"Accept-Ranges": "none"}
    with pytest.raises(DataError, match="it must serve ranges of bytes"):
        list_shards(f"{web.url}/set/train-0000.tar")


def test_nothing_is_unpacked(web: Web) -> None:
    listing = list_shards(f"{web.url}/set/train-0000.tar")
    start = FILES["set/train-0000.tar"].index(image("image 0"))
    size = len(image("image 0"))
    bomb = gzip.compress(bytes(10**6))[:size]
    data = FILES["set/train-0000.tar"]
    web.files["/set/train-0000.tar"] = data[:start] + bomb + data[start + size :]
    web.headers = {"Content-Encoding": "gzip"}
    assert listing.read(0) == bomb


def test_the_web_has_no_lists(web: Web) -> None:
    with pytest.raises(DataError, match=r"the web has no list of files; .*0000\.\.0099"):
        list_shards(f"{web.url}/set/*.tar")
    assert not matches(f"{web.url}/set")
    assert web.asked == []


def test_a_compressed_shard_of_the_web(web: Web) -> None:
    web.files["/a.tar.gz"] = gzip.compress(FILES["set/train-0000.tar"])
    assert matches(f"{web.url}/a.tar.gz")
    with pytest.raises(DataError, match=r"a\.tar\.gz: at byte 0: it is compressed \(gzip\)"):
        list_shards(f"{web.url}/a.tar.gz")


def test_nobody_answers() -> None:
    with serving() as web:
        url = web.url
    with pytest.raises(DataError, match=r"/a\.tar: cannot be read: .*[Cc]onnect"):
        list_shards(f"{url}/a.tar")
    remote._make_filesystem.cache_clear()


# --- protocols ---


def test_a_protocol_that_nobody_knows() -> None:
    with pytest.raises(DataError, match="memroy://: no such protocol; did you mean 'memory'"):
        list_shards("memroy://bucket/a.tar")


def test_a_protocol_whose_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("s3fs", "aiohttp"):
        monkeypatch.setitem(sys.modules, module, None)
    remote._make_filesystem.cache_clear()
    with pytest.raises(DataError, match=r"s3://: this protocol needs a package .* s3fs"):
        list_shards("s3://bucket/{0..3}.tar")
    with pytest.raises(DataError, match=r"http://: this protocol needs a package .*aiohttp"):
        list_shards("http://127.0.0.1:1/a.tar")
    assert matches("s3://bucket/folder")  # opening it tells what is missing
    with pytest.raises(DataError, match=r"s3://: this protocol needs a package"):
        list_shards("s3://bucket/folder")


def test_chains_are_refused() -> None:
    with pytest.raises(DataError, match=r"chained addresses \(::\) are not read"):
        list_shards("simplecache::http://127.0.0.1:1/a.tar")
    with pytest.raises(DataError, match="the protocol must be written out"):
        list_shards("{http,https}://127.0.0.1:1/a.tar")


def test_is_remote() -> None:
    assert is_remote("s3://a/b") and not is_remote("/a/b") and not is_remote("a:b")


def test_pieces(memory: str) -> None:
    assert read_range(f"{memory}/set/classes.txt", 4, 3) == b"dog"
    assert read_range(f"{memory}/set/classes.txt", 4, 0) == b""
    with pytest.raises(ImageError, match="OSError: 4 bytes came where 9 were asked for"):
        read_range(f"{memory}/set/classes.txt", 4, 9)
    assert find(f"{memory}/absent") is None
    found = find(f"{memory}/set/classes.txt")
    assert found is not None and found.size == 8 and found.stamp
    assert set(search(f"{memory}/*/train*", memory)) == {"set/train-0000.tar", "set/train-0001.tar"}
    assert list_folder(memory) == {"set": Found(-1, "")}
    assert list_folder(f"{memory}/absent") == {}


def test_signatures_are_not_shown() -> None:
    assert remote.shown("https://host/a-{0..3}.tar?sig=SECRET") == "https://host/a-{0..3}.tar"
    assert remote.shown("photos/a?b.tar") == "photos/a?b.tar"
