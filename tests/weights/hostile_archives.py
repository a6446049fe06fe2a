"""Hostile `.npz` and safetensors files, each a function of (path, canary); what the error says."""

import json
import os
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.weights.hostile_pickles import Builder, Call

GOOD = b"\x93NUMPY\x01\x00"


def npy(
    descr: object = "<f4",
    shape: object = (4,),
    data: bytes = bytes(16),
    fortran: object = False,
    more: str = "",
) -> bytes:
    """One array, with a header of one's own."""
    text = f"{{'descr': {descr!r}, 'fortran_order': {fortran!r}, 'shape': {shape!r}, {more}}}"
    return GOOD + struct.pack("<H", len(text)) + text.encode("latin1") + data


def archive(*members: tuple[str | zipfile.ZipInfo, bytes], packed: bool = False) -> Builder:
    def build(path: Path, _: Path) -> None:
        with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(path, "w") as file:
            for name, data in members:
                file.writestr(name, data, zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED)

    return build


def one(data: bytes, packed: bool = False) -> Builder:
    return archive(("a/b.npy", data), packed=packed)


def named(name: str) -> Builder:
    return archive(("good.npy", npy()), (name, npy()))


def link() -> zipfile.ZipInfo:
    member = zipfile.ZipInfo("link.npy")
    member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return member


def changed(edit: Callable[[bytearray], object], *members: tuple[str, bytes]) -> Builder:
    """Change the bytes of a good file."""

    def build(path: Path, canary: Path) -> None:
        archive(*(members or [("a.npy", npy())]))(path, canary)
        data = bytearray(path.read_bytes())
        edit(data)
        path.write_bytes(data)

    return build


def poke(place: int, value: bytes, signature: bytes = b"PK\1\2") -> Callable[[bytearray], object]:
    """Write at a place of the last record of a kind; by default the list of contents."""

    def edit(data: bytearray) -> None:
        start = data.rindex(signature) + place
        data[start : start + len(value)] = value

    return edit


def overlapping(path: Path, _: Path) -> None:
    """A thousand names, one array: the bytes of the same member, over and over."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("000000.npy", npy(shape=(250_000,), data=bytes(1_000_000)))
    data = path.read_bytes()
    first, last = data.index(b"PK\1\2"), data.rindex(b"PK\5\6")
    entries = b"".join(data[first:last].replace(b"000000", b"%06d" % i) for i in range(1000))
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1000, 1000, len(entries), first, 0)
    path.write_bytes(data[:first] + entries + end)


def objects(path: Path, canary: Path) -> None:
    with open(path, "wb") as file:
        np.savez(file, good=np.zeros(3), bad=np.array([Call(os.system, f"touch {canary}")]))


def many(path: Path, _: Path) -> None:
    """A list of contents of 17 MB."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.npy", npy())
    data = path.read_bytes()
    first, last = data.index(b"PK\1\2"), data.rindex(b"PK\5\6")
    entries = data[first:last] * (17_000_000 // (last - first) + 1)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(entries), first, 0)
    path.write_bytes(data[:first] + entries + end)


ZEROS = bytes(100 << 20)
EIGHT = npy("|u1", (8 << 20,), os.urandom(40_000) + bytes((8 << 20) - 40_000))
NOT_WHOLE = "not a whole .npz file"
SIZE = "a/b.npy has not the size that its header says"
HEADER = "a/b.npy has no array header"
NAME = "the name .* is not one of an array"
NPZ: dict[str, tuple[Builder, str]] = {
    "objects": (objects, "bad.npy holds Python objects, which could run code; it is not read"),
    "objects by header": (one(npy("|O", (1,), b"cos\nsystem\n")), "holds Python objects"),
    "objects in a structure": (one(npy([("a", "|O")])), "holds Python objects"),
    "structure": (one(npy([("a", "<f4")])), "a/b.npy is of type"),
    "arrays in an array": (one(npy(("<f4", (2,)), (2,))), "a/b.npy is of type|no array header"),
    "two bytes in an array": (one(npy("(2,)i1", (8,))), "a/b.npy is of type"),
    "text": (one(npy("<U1")), r"a/b.npy is of type <U1; allowed are f2, .*, V2"),
    "complex": (one(npy("<c8", (2,))), "a/b.npy is of type <c8"),
    "dates": (one(npy("<M8[s]", (2,))), r"a/b.npy is of type <M8\[s\]"),
    "long double": (one(npy("<f16", (1,))), "a/b.npy is of type <f16"),
    "unknown type": (one(npy("<x4")), HEADER),
    "code as type": (one(npy("__import__('os').system('true')")), HEADER),
    "code as header": (one(GOOD + b"\x20\0" + b"__import__('os').system('true')#"), HEADER),
    "not Python": (one(GOOD + b"\x10\0" + b"{'descr': '<f4',"), HEADER),
    "deep header": (one(GOOD + b"\x00\x20" + b"(" * 8192), HEADER),
    "header of 60,000 bytes": (one(npy(more="#" + "a" * 60_000)), HEADER),
    "header of another length": (one(GOOD + b"\xff\xff{}"), HEADER),
    "another version": (one(b"\x93NUMPY\x09\x00" + npy()[8:]), HEADER),
    "no array": (one(b"hello"), HEADER),
    "empty array file": (one(b""), HEADER),
    "more keys": (one(npy(more="'x': 1")), HEADER),
    "negative shape": (one(npy(shape=(-2, -2))), "impossible shape"),
    "2^80 values": (one(npy(shape=(1 << 40, 1 << 40))), "impossible shape"),
    "2^80 values and none": (one(npy(shape=(1 << 40, 0, 1 << 40), data=b"")), "impossible shape"),
    "1000 axes": (one(npy(shape=(1,) * 1000)), "impossible shape"),
    "shape of texts": (one(npy(shape=("4",))), HEADER),
    "too large shape": (one(npy(shape=(1 << 40,))), SIZE),
    "too small shape": (one(npy(shape=(3,))), SIZE),
    "cut off array": (one(npy(data=bytes(15))), SIZE),
    "bomb": (one(npy(shape=(25 << 20,), data=ZEROS), packed=True), "would unpack to 104857\\d+ b"),
    "bombs": (
        archive(*[(f"{i}.npy", EIGHT) for i in range(12)], packed=True),
        "would unpack to .* far more than its size",
    ),
    "overlapping": (overlapping, "would unpack to|not a whole .npz file"),
    "long list of contents": (many, "its list of contents has 170000"),
    "leads out": (named("../../evil.npy"), NAME),
    "leads out later": (named("a/../../evil.npy"), NAME),
    "absolute": (named("/tmp/evil.npy"), NAME),
    "drive": (named("C:evil.npy"), NAME),
    "backslash": (named("..\\evil.npy"), NAME),
    "NUL": (changed(poke(47, b"\0"), ("abc.npy", npy())), NAME),
    "terminal codes": (named("\x1b[31m.npy"), NAME),
    "long name": (named("a" * 400 + ".npy"), NAME),
    "no array by name": (named("readme.txt"), NAME),
    "folder": (named("folder/"), NAME),
    "no name": (named(".npy"), NAME),
    "twice": (archive(("a.npy", npy()), ("a.npy", npy())), "has a name twice"),
    "link": (archive((link(), b"/etc/passwd")), "link.npy is a link"),
    "encrypted": (changed(poke(8, b"\1")), "a.npy is encrypted"),
    "bzip2": (changed(poke(10, b"\x0c")), "a.npy is compressed in an unusual way"),
    "other name inside": (changed(poke(46, b"b")), f"{NOT_WHOLE}.*differ"),
    "other checksum": (changed(poke(16, b"\1\2\3\4")), f"{NOT_WHOLE}.*CRC"),
    "larger than the file": (
        changed(poke(20, (1 << 30).to_bytes(4, "little") * 2)),
        "would unpack to 1073741824 bytes, far more",
    ),
    "stored, but larger": (
        changed(poke(24, (1 << 20).to_bytes(4, "little"))),
        "a.npy would unpack to 1048576 bytes",
    ),
    "place behind the end": (changed(poke(42, b"\0\0\0\x10")), NOT_WHOLE),
    "contents behind the end": (
        changed(poke(16, b"\0\0\0\x10", b"PK\5\6")),
        f"{NOT_WHOLE}|cannot be read",
    ),
    "cut off": (changed(lambda data: data.__delitem__(slice(100, None))), NOT_WHOLE),
    "no zip file": (lambda path, _: path.write_bytes(npy()), NOT_WHOLE),
    "empty file": (lambda path, _: path.write_bytes(b""), NOT_WHOLE),
}


def tensor(begin: int, end: int, dtype: str = "F32", shape: Any = None) -> dict[str, Any]:
    size = [(end - begin) // 4] if shape is None else shape
    return {"dtype": dtype, "shape": size, "data_offsets": [begin, end]}


def safe(header: Any, data: int = 8, length: int | None = None) -> Builder:
    """A safetensors file of zeros; the header is a text or made into one."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    start = struct.pack("<Q", len(text) if length is None else length)
    return lambda path, _: path.write_bytes(start + text + bytes(data))


def sparse_file(path: Path, _: Path) -> None:
    """A header of 200 MB, none of it on the disk."""
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", 200_000_000) + b"{")
        file.truncate(200_000_100)


A = b'"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
WHOLE = "not a whole safetensors file "
SAFE: dict[str, tuple[Builder, str]] = {
    "200 MB of header": (sparse_file, rf"{WHOLE}\(its header would have 200000000 bytes\)"),
    "longer than the file": (safe({"a": tensor(0, 8)}, length=5000), rf"{WHOLE}\(cut off in its h"),
    "length of 2^64": (safe({}, length=2**64 - 1), rf"{WHOLE}\(its header would have"),
    "no length": (lambda path, _: path.write_bytes(b"\1\0\0"), rf"{WHOLE}\(cut off in its header"),
    "empty": (lambda path, _: path.write_bytes(b""), rf"{WHOLE}\(cut off in its header"),
    "cut off": (safe({"a": tensor(0, 8)}, data=7), WHOLE),
    "overlapping": (safe({"a": tensor(0, 8), "b": tensor(4, 12)}, 12), WHOLE),
    "hole": (safe({"a": tensor(0, 8), "b": tensor(12, 16)}, 16), WHOLE),
    "bytes at the end": (safe({"a": tensor(0, 8)}, 16), WHOLE),
    "backwards": (safe({"a": tensor(8, 0)}), WHOLE),
    "type": (safe({"a": tensor(0, 8, "OBJECT")}), f"{WHOLE}.*unknown variant"),
    "type of 10,000 letters": (safe({"a": tensor(0, 8, "\x1b\n" * 5000)}), WHOLE),
    "shape of 2^64": (safe({"a": tensor(0, 8, shape=[1 << 62, 4])}), f"{WHOLE}.*a shape beyond"),
    "shape of 2^124 and 0": (safe({"a": tensor(0, 0, shape=[1 << 62, 0, 1 << 62])}, 0), WHOLE),
    "1000 axes": (safe({"a": tensor(0, 8, shape=[1] * 1000 + [2])}), WHOLE),
    "negative shape": (safe({"a": tensor(0, 8, shape=[-1, -2])}), WHOLE),
    "shape of another size": (safe({"a": tensor(0, 8, shape=[3])}), WHOLE),
    "shape of texts": (safe({"a": tensor(0, 8, shape=["2"])}), rf"{WHOLE}\(its header has another"),
    "name twice": (safe(b"{" + A + b"," + A + b"}"), rf"{WHOLE}\(a name stands there twice"),
    "type twice": (safe(b"{" + A[:-1] + b',"dtype":"I32"}}'), rf"{WHOLE}\(a name stands there tw"),
    "metadata twice": (
        safe(b'{"__metadata__":{"a":"1","a":"2"},' + A + b"}"),
        rf"{WHOLE}\(a name stands there twice",
    ),
    "metadata of numbers": (safe({"__metadata__": {"a": 1}, "a": tensor(0, 8)}), WHOLE),
    "metadata is a list": (safe({"__metadata__": [1], "a": tensor(0, 8)}), WHOLE),
    "no UTF-8": (safe(b"{" + A.replace(b"a", b"\xff", 1) + b"}"), f"{WHOLE}.*utf-8"),
    "UTF-16": (safe(json.dumps({"a": tensor(0, 8)}).encode("utf-16")), f"{WHOLE}.*utf-8"),
    "half a character": (safe(b"{" + A.replace(b"a", b"\\ud800", 1) + b"}"), WHOLE),
    "deep": (safe(b'{"a":' + b"[" * 100_000), WHOLE),
    "a million values": (safe(b"[" + b"1," * 1_000_001), f"{WHOLE}.*lists more than 1000000"),
    "not a number": (safe(b"{" + A.replace(b"[2]", b"[NaN]") + b"}"), WHOLE),
    "5000 digits": (safe(b"{" + A.replace(b"2", b"9" * 5000) + b"}"), WHOLE),
    "list": (safe([1, 2]), rf"{WHOLE}\(its header has another form"),
    "number": (safe(b"12"), rf"{WHOLE}\(its header has another form"),
    "no JSON": (safe(b"hello"), WHOLE),
    "tensor is a text": (safe({"a": "F32"}), rf"{WHOLE}\(its header has another form"),
    "no shape": (safe({"a": {"dtype": "F32", "data_offsets": [0, 8]}}), WHOLE),
    "pickle": (lambda path, _: path.write_bytes(b"cos\nsystem\n(S'true'\ntR."), WHOLE),
}
