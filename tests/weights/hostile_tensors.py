"""PyTorch files that run nothing, but lie about sizes, never end, are packed, cut or no such files.

Each is a function of (path, canary), as in `hostile_pickles`, with what the error says.
"""

import argparse
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.weights.hostile_pickles import MORE, Builder, Call, Stored, dumped, raw, zipped


def tensor(count: int, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> Call:
    rebuild = torch._utils._rebuild_tensor_v2
    return Call(rebuild, Stored(count), offset, size, stride, False, OrderedDict())


def with_members(path: Path, **more: Any) -> None:
    """Add one member to a good file: another name, packed, or with a flag of its own."""
    zipped(path, dumped({"w": tensor(4, (4,), (1,))}))
    name, data = more.get("name", "x/extra"), more.get("data", b"x")
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, data, more.get("packed", zipfile.ZIP_STORED))
    if more.get("encrypted"):
        content = bytearray(path.read_bytes())
        content[content.rindex(b"PK\1\2") + 8] |= 1
        path.write_bytes(content)


def members(**more: Any) -> Builder:
    return lambda path, _: with_members(path, **more)


def lying_size(path: Path, _: Path) -> None:
    """The list of contents says that a member goes far beyond the end."""
    zipped(path, dumped({"w": tensor(4, (4,), (1,))}))
    content = bytearray(path.read_bytes())
    place = content.rindex(b"PK\1\2") + 20
    content[place : place + 8] = (1 << 30).to_bytes(4, "little") * 2
    path.write_bytes(content)


def cut(new: bool, keep: float) -> Builder:
    def build(path: Path, _: Path) -> None:
        torch.save({"w": torch.ones(1000)}, path, _use_new_zipfile_serialization=new)
        path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])

    return build


def legacy(edit: Callable[[bytes], bytes]) -> Builder:
    """Four values in the old format, whose pickle says something else."""

    def build(path: Path, _: Path) -> None:
        torch.save({"w": torch.ones(4)}, path, _use_new_zipfile_serialization=False)
        before = path.read_bytes()
        path.write_bytes(edit(before))
        assert path.read_bytes() != before

    return build


def saved(value: Any, **options: Any) -> Builder:
    return lambda path, _: torch.save(value, path, **options)


def key_of_tuples(levels: int) -> bytes:
    """A dictionary whose key is a tuple in a tuple in a tuple, which hashing walks down."""
    return b"\x80\x02})" + b"\x85" * levels + b"K\x01s."


def folded(levels: int) -> bytes:
    """A key that takes 2^levels steps to hash: each tuple holds the one before it twice."""
    return b"\x80\x02}K\x01" + b"q\x00h\x00\x86" * levels + b"K\x01s."


def doubled(levels: int) -> Any:
    value: Any = {"w": torch.zeros(1)}
    for _ in range(levels):
        value = {"a": value, "b": value}
    return value


def nested(levels: int) -> Any:
    value: Any = torch.zeros(1)
    for _ in range(levels):
        value = {"a": value}
    return value


def endless() -> Any:
    value: dict[str, Any] = {"w": torch.zeros(1)}
    value["again"] = value
    return value


def sparse() -> Any:
    with warnings.catch_warnings(action="ignore"):
        return torch.eye(3).to_sparse_csr()


def quantized() -> Any:
    with warnings.catch_warnings(action="ignore"):
        return torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)


NO_MORE = "claims more values than it holds"
BIG = b"J\x00\x00\x00\x01"  # 2^24
SHAPES: dict[str, tuple[Builder, str]] = {
    "record too short": (raw({"w": tensor(8, (8,), (1,))}), "damaged or cut off .*record size"),
    "shape too large": (raw({"w": tensor(4, (1 << 20,), (1,))}), "damaged or cut off .*resiz"),
    "offset too large": (raw({"w": tensor(4, (4,), (1,), 1 << 40)}), "damaged or cut off"),
    "shape of 2^80": (raw({"w": tensor(4, (1 << 40, 1 << 40), (0, 0))}), "damaged or cut off"),
    "negative shape": (raw({"w": tensor(4, (-1,), (1,))}), "damaged or cut off"),
    "expanded": (raw({"w": tensor(4, (1 << 40,), (0,))}), NO_MORE),
    "overlapping": (raw({"w": tensor(4, (2, 1 << 30), (1, 0))}), NO_MORE),
    "shared by thousands": (
        raw({i: tensor(4, (4, 1000), (1, 0)) for i in range(3000)}),
        NO_MORE,
    ),
    "legacy storage too large": (
        legacy(lambda data: data.replace(b"K\x04N", BIG + b"N")),
        NO_MORE,
    ),
    "legacy shape too large": (
        legacy(lambda data: data.replace(b"K\x04\x85", BIG + b"\x85")),
        "damaged or cut off|memory",
    ),
    "fresh tensor": (raw({"w": Call(torch.Tensor, 1000)}), NO_MORE),
    "fresh storage": (
        raw({"w": Call(torch.Tensor, Call(torch.storage.UntypedStorage, 1000))}),
        f"{MORE}|{NO_MORE}|damaged",
    ),
    "a petabyte": (raw({"w": Call(torch.Tensor, 1 << 48)}), "needs far more memory"),
    "gigabytes of bytes": (raw({"w": Call(bytearray, 1 << 34)}), "needs far more memory"),
    "deep": (saved(nested(100)), "nested too deeply"),
    "doubled": (saved(doubled(25)), "nested too deeply|1000000 values"),
    "endless": (saved(endless()), "nested too deeply"),
    "tuples": (
        lambda path, _: zipped(path, key_of_tuples(2_000_000)),
        r"made its reader crash \(signal 11\)|damaged",
    ),
    "meta": (saved({"w": torch.empty(3, device="meta")}), "w is torch.float32 on meta"),
    "complex": (saved({"w": torch.zeros(3, dtype=torch.complex64)}), "w is torch.complex64 on cpu"),
    "sparse": (saved({"w": torch.eye(3).to_sparse()}), "w is quantized, sparse or of a special"),
    "sparse rows": (saved({"w": sparse()}), "w is quantized, sparse or of a special kind"),
    "quantized": (saved({"w": quantized()}), "w is quantized, sparse or of a special kind"),
    "no tensors": (saved({"epoch": 3, "args": argparse.Namespace(a=1)}), "holds no tensors"),
    "one tensor": (saved(torch.zeros(3)), r"a tensor without a name of its own \(''\)"),
    "one name twice": (
        saved({"a.b": torch.zeros(1), "a": {"b": torch.ones(1)}}),
        r"a tensor without a name of its own \('a.b'\)",
    ),
    "key that is no text": (saved({("a", 1): torch.zeros(1)}), "under a key that is tuple"),
    "half a character": (saved({"\ud800": torch.zeros(1)}), "damaged or cut off .Unicode"),
    "long name": (saved({"a" * 5000: torch.zeros(1)}), "a tensor without a name of its own"),
    "protocol 4": (saved({"w": torch.zeros(1)}, pickle_protocol=4), MORE),
    "numpy weights": (saved({"w": np.zeros(3)}), r"it names numpy.*_reconstruct\)"),
}
FILES: dict[str, tuple[Builder, str]] = {
    "empty": (lambda path, _: path.write_bytes(b""), "not a PyTorch file$"),
    "text": (lambda path, _: path.write_text("<html>404</html>"), "not a PyTorch file$"),
    "zeros": (lambda path, _: path.write_bytes(bytes(5000)), "not a PyTorch file$"),
    "zip header": (lambda path, _: path.write_bytes(b"PK\3\4" + bytes(500)), "damaged or cut off"),
    "zip, 90 %": (cut(True, 0.9), "damaged or cut off"),
    "zip, 1 %": (cut(True, 0.01), "damaged or cut off"),
    "legacy, 90 %": (cut(False, 0.9), "or is cut off"),
    "legacy, 3 %": (cut(False, 0.03), "damaged or cut off"),
    "packed pickle": (
        lambda path, _: with_members(path, packed=zipfile.ZIP_DEFLATED, data=bytes(10 << 20)),
        "compressed or encrypted, which torch.save never does",
    ),
    "encrypted": (members(encrypted=True), "compressed or encrypted"),
    "name twice": (members(name="x/data.pkl"), "not one that torch.save writes"),
    "lying size": (lying_size, "claims more bytes than it has"),
    "no members": (lambda path, _: zipfile.ZipFile(path, "w").close(), "not a PyTorch file"),
    "names that lead out": (
        lambda path, _: zipped(path, b"\x80\x02}.", root="../..", **{"../../x": b"x"}),
        "not one that torch.save writes",
    ),
}
