"""PyTorch files that ask for more than to be read, each a function of (path, canary).

Those that would run code try to make the canary, a file. Beside each stands what the error says.
"""

import code
import collections
import copyreg
import ctypes
import functools
import importlib
import io
import operator
import os
import pickle
import runpy
import shutil
import socket
import subprocess
import tarfile
import timeit
import webbrowser
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch

Builder = Callable[[Path, Path], object]
MORE = "holds more than tensors"


class Call:
    """Is pickled as a call of a function, which whoever unpickles it carelessly makes."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.parts = (function, arguments, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.parts


class Stored:
    """Stands for a storage that lies in the zip file, of as many values as one likes."""

    def __init__(self, count: int, key: str = "0") -> None:
        self.id = ("storage", torch.FloatStorage, key, "cpu", count)


class Pickler(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        return value.id if isinstance(value, Stored) else None


def dumped(value: Any) -> bytes:
    data = io.BytesIO()
    Pickler(data, protocol=2).dump(value)
    return data.getvalue()


def zipped(path: Path, pickled: bytes, root: str = "x", **records: bytes) -> None:
    """Write what torch.save writes, with any pickle; the storage "0" has four values."""
    members = {"data.pkl": pickled, "version": b"3\n", "data/0": bytes(16)} | records
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{root}/{name}", data)


def raw(value: Any, **records: bytes) -> Builder:
    return lambda path, _: zipped(path, dumped(value), **records)


def calls(canary: Path) -> dict[str, Any]:
    """Ways to run code that a careless reader of pickles opens."""
    name, touch = str(canary), f"__import__('pathlib').Path({str(canary)!r}).touch()"
    inner = io.BytesIO()
    torch.save(Call(os.system, f"touch {name}"), inner, _use_new_zipfile_serialization=False)
    return {
        "posix.system": Call(os.system, f"touch {name}"),
        "eval": Call(eval, touch),
        "exec": Call(exec, touch),
        "(subprocess|commands).Popen": Call(subprocess.Popen, ["touch", name]),
        "(subprocess|commands).check_output": Call(subprocess.check_output, ["touch", name]),
        "posix.execv": Call(os.execv, "/bin/touch", ["touch", name]),
        "posix.mkdir": Call(os.mkdir, name),
        "io.open": Call(open, name, "w"),
        "socket.create_connection": Call(socket.create_connection, ("127.0.0.1", 9)),
        "shutil.copyfile": Call(shutil.copyfile, "/etc/hostname", name),
        "getattr": Call(getattr, Path(name), "touch"),
        "importlib.import_module": Call(importlib.import_module, "antigravity"),
        "runpy.run_path": Call(runpy.run_path, name),
        "timeit.timeit": Call(timeit.timeit, touch),
        "code.InteractiveInterpreter": Call(code.InteractiveInterpreter),
        "webbrowser.open": Call(webbrowser.open, "http://127.0.0.1"),
        "ctypes.CDLL": Call(ctypes.CDLL, "libc.so.6"),
        "functools.partial": Call(functools.partial, os.system, f"touch {name}"),
        "operator.methodcaller": Call(operator.methodcaller, "touch"),
        "copyreg._reconstructor": Call(copyreg._reconstructor, Call, object, None),
        "torch.storage._load_from_bytes": Call(torch.storage._load_from_bytes, inner.getvalue()),
        "torch.serialization.load": Call(torch.load, name),
        "torch.jit._serialization.load": Call(torch.jit.load, name),
        "torch.hub.load": Call(torch.hub.load, "a/b", "c", "github"),
        "torch._utils._import_dotted_name": Call(torch._utils._import_dotted_name, "os.system"),
        "numpy.load": Call(np.load, name, None, True),
        "numpy.*.multiarray._reconstruct": np.array([Call(os.system, f"touch {name}")]),
        "torch.nn.modules.linear.Linear": torch.nn.Linear(2, 2),
    }


def called(name: str, new: bool) -> Builder:
    def build(path: Path, canary: Path) -> None:
        value = {"model": {"w": torch.zeros(2)}, "more": calls(canary)[name]}
        torch.save(value, path, _use_new_zipfile_serialization=new)

    return build


def plain(protocol: int) -> Builder:
    return lambda path, canary: path.write_bytes(
        pickle.dumps(Call(os.system, f"touch {canary}"), protocol)
    )


def distributed(path: Path, _: Path) -> None:
    """What torch.distributed.checkpoint calls `.metadata`."""
    from torch.distributed.checkpoint.metadata import Metadata

    path.write_bytes(pickle.dumps(Metadata(state_dict_metadata={})))


def old_tar(path: Path, _: Path, magic: bytes = b"") -> None:
    """The format of PyTorch 0.1: an archive of pickles. With a magic it also looks like 0.2."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name in ("storages", "tensors", "pickle"):
            member = tarfile.TarInfo(name)
            member.size = 3
            archive.addfile(member, io.BytesIO(b"\x80\x02."))
    if magic:
        data = bytearray(path.read_bytes())
        data[: len(magic)] = magic
        data[257:265] = bytes(8)  # as tar was before it had a mark of its own
        data[148:156] = b" " * 8
        data[148:156] = b"%06o\0 " % sum(data[:512])
        path.write_bytes(data)


def objects(path: Path, canary: Path) -> None:
    with open(path, "wb") as file:
        np.savez(file, a=np.array([Call(os.system, f"touch {canary}")]))


def exported(path: Path, _: Path) -> None:
    """A `.pt2`: a program, with its sample inputs as a pickle."""
    names = ("archive_format", "models/model.json", "data/sample_inputs/model.pt", "version")
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(f"m/{name}", b"pt2")


def scripted(path: Path, _: Path) -> None:
    zipped(path, dumped({}), **{"constants.pkl": dumped(()), "code/__torch__.py": b"import os"})


CODE: dict[str, tuple[Builder, str]] = {
    f"{kind} {name}": (called(name, kind == "zip"), rf"{MORE} \(it names {name}\); it was not run")
    for kind in ("zip", "legacy")
    for name in calls(Path("x"))
    if kind == "zip" or name in ("posix.system", "eval", "torch.storage._load_from_bytes")
}
CODE |= {
    "python 2 eval": (
        lambda path, canary: zipped(path, b"\x80\x02c__builtin__\neval\nU\x04exit\x85R."),
        r"it names eval\)",
    ),
    "call of a text": (lambda path, _: zipped(path, b"\x80\x02X\x01\0\0\0a)R."), MORE),
    "new dict subclass": (raw(collections.UserDict()), r"it names collections.UserDict\)"),
    "defaultdict": (raw(collections.defaultdict(os.getcwd)), r"it names collections.defaultdict"),
    "name of 10,000 letters": (
        lambda path, _: zipped(path, b"\x80\x02cos\n" + b"a" * 10_000 + b"\n."),
        r"it names os.a{77}\)",
    ),
    "name with a line break": (
        lambda path, _: zipped(path, b"\x80\x02cos\r\x1b[31m\nsystem\n."),
        r"\(it names",
    ),
    "plain 0": (plain(0), "not a PyTorch file$"),
    "plain 2": (plain(2), "a plain pickle, not a PyTorch file; it was not run"),
    "plain 5": (plain(5), "a plain pickle, not a PyTorch file; it was not run"),
    "joblib": (
        lambda path, canary: joblib.dump([Call(os.system, f"touch {canary}")], path),
        "a plain pickle, not a PyTorch file; it was not run",
    ),
    "joblib zlib": (
        lambda path, canary: joblib.dump([Call(os.system, f"touch {canary}")], path, compress=3),
        "not a PyTorch file$",
    ),
    "distributed": (distributed, "a plain pickle, not a PyTorch file; it was not run"),
    "tar": (old_tar, "a tar archive, not a PyTorch file"),
    "tar in disguise": (
        lambda path, canary: old_tar(path, canary, b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."),
        "tried more than to be read|legacy .tar|not a PyTorch file",
    ),
    "exported": (exported, "a zip file, but not one that torch.save writes"),
    "scripted": (scripted, "a TorchScript program, not weights; it was not run"),
    "npz of objects": (objects, "a zip file, but not one that torch.save writes"),
}
