"""The child process of `read_pickle`: `python unpickle.py SOURCE RESULT SECONDS`.

It opens both files, gives up every right that reading does not need, and only then looks into
SOURCE. The tensors go to RESULT as safetensors and the exit code is 0; otherwise the last line of
the output says why not, as JSON: [name of the exception, text]. It is run by its path, so it
imports nothing of vitrail.
"""

import codecs
import ctypes
import io
import json
import os
import signal
import stat
import sys
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import BinaryIO, NoReturn

import torch
from torch import Tensor, UntypedStorage, nn

if sys.platform != "win32":
    import resource

REFUSED = 3  # exit code
LEGACY = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # with this number files of before torch 1.6 begin
ITEMS, TENSORS, DEPTH, NAME = 1_000_000, 100_000, 32, 1_000  # the most of each, NAME in letters
SPARE = 16 << 20  # bytes that the tensors of a small file may need beyond its size
DTYPES = {
    getattr(torch, name): code
    for name, code in zip(
        "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool".split(),
        "F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL".split(),
        strict=True,
    )
}
# What Python may report while it only computes; everything else ends the process.
HARMLESS = frozenset({"sys._getframe", "object.__getattr__", "builtins.id"})


class RefusedError(Exception):
    """The file is not what is read here; the text goes on after its name."""


class Ignored:
    """Stands for whatever a training left beside its tensors: keeps nothing, does nothing."""

    __slots__ = ()

    def __new__(cls, *_: object) -> "Ignored":
        """Take any arguments."""
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Drop what belongs to it."""


def main(source: str, result: str, seconds: int) -> NoReturn:
    """Convert one file, say how that went, and end the process."""
    warm_up()
    try:
        file = open_regular(source)
        size = os.fstat(file.fileno()).st_size
        with open(result, "xb") as output:
            fence(size, seconds)
            sniff(file, size)
            write(load(file, size), output)
    except BaseException as error:  # the answer is all that leaves this process
        leave(REFUSED, type(error).__name__, str(error))
    leave(0)


def open_regular(path: str) -> BinaryIO:
    """Open for reading; a pipe or a device is refused without waiting for it."""
    flags = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, os.O_RDONLY | flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise RefusedError("not a regular file")
    return os.fdopen(descriptor, "rb")


def warm_up() -> None:
    """Let torch import whatever loading needs, because later nothing can be opened.

    The names that training checkpoints hold beside their tensors stand for something inert.
    """
    warnings.simplefilter("ignore")
    for encoding in ("latin1", "cp437"):  # of the bytes of a numpy scalar, of names in a zip file
        codecs.lookup(encoding)
    names = ["argparse.Namespace", "pathlib.PosixPath", "numpy.dtype"]
    names += ["numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"]
    torch.serialization.add_safe_globals([(Ignored, name) for name in names])
    torch.serialization.add_safe_globals([(OrderedDict, "yacs.config.CfgNode")])  # Swin's config
    for new in (True, False):
        sample = io.BytesIO()
        torch.save({"x": torch.zeros(2)}, sample, _use_new_zipfile_serialization=new)
        sample.seek(0)
        load(sample, 1000)


def fence(size: int, seconds: int) -> None:
    """Give up network, new files, new processes, memory and time that reading does not need.

    Where a system cannot take one of them away, the hook at the end still stands before it.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end with the parent
        libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
        if libc.unshare(0x10000000 | 0x40000000):  # CLONE_NEWUSER, CLONE_NEWNET
            libc.unshare(0x40000000)  # root may do without the first
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _limit(resource.RLIMIT_AS, used + 4 * size + (1 << 30))
    if sys.platform != "win32":
        _limit(resource.RLIMIT_CORE, 0)
        _limit(resource.RLIMIT_CPU, seconds, seconds + 5)  # a signal of its own, then the end
        _limit(resource.RLIMIT_FSIZE, 5 * size + 5 * SPARE)
        _limit(resource.RLIMIT_NPROC, 0)
        _limit(resource.RLIMIT_NOFILE, 0)  # what is open stays open

    def hook(event: str, _: tuple[object, ...], harmless: frozenset[str] = HARMLESS) -> None:
        if event not in harmless:
            leave(REFUSED, "RefusedError", f"tried more than to be read ({event}); it was stopped")

    sys.addaudithook(hook)


def _limit(kind: int, value: int, hard: int | None = None) -> None:
    try:
        resource.setrlimit(kind, (value, value if hard is None else hard))
    except (OSError, ValueError):  # it is lower already, or this system has none
        pass


def sniff(file: BinaryIO, size: int) -> None:
    """Refuse what torch.save does not write, and zip files that would unpack to more than they are.

    Raises:
        RefusedError: says what it is instead.
        BadZipFile: the zip file is cut off or damaged.
    """
    start = file.read(512)
    file.seek(0)
    if start[257:262] == b"ustar":
        raise RefusedError("a tar archive, not a PyTorch file; it is not read")
    if start[:1] == b"\x80" and start[2 : 2 + len(LEGACY)] == LEGACY:
        return
    if start[:1] == b"\x80":
        raise RefusedError("a plain pickle, not a PyTorch file; it was not run and is not read")
    if start[:4] != b"PK\3\4":
        raise RefusedError("not a PyTorch file")
    members = zipfile.ZipFile(file).infolist()
    file.seek(0)
    names = {member.filename for member in members}
    root = members[0].filename.partition("/")[0]
    if f"{root}/constants.pkl" in names:
        raise RefusedError("a TorchScript program, not weights; it was not run and is not read")
    if f"{root}/data.pkl" not in names or len(names) < len(members):
        raise RefusedError("a zip file, but not one that torch.save writes; it is not read")
    if any(member.compress_type or member.flag_bits & 1 for member in members):
        raise RefusedError("compressed or encrypted, which torch.save never does; it is not read")
    if sum(member.file_size for member in members) > size:
        raise RefusedError("claims more bytes than it has; it is not read")


def load(file: BinaryIO | io.BytesIO, size: int) -> dict[str, Tensor]:
    """Load all tensors, named by the keys that lead to them, joined with dots.

    Raises:
        RefusedError: there are none, too many, or some that the file does not hold.
    """
    storages: dict[int, tuple[UntypedStorage, int]] = {}  # by address, which it thereby keeps
    left = size

    def keep(storage: UntypedStorage, _: str) -> UntypedStorage:
        nonlocal left
        left -= storage.nbytes()
        if left < 0:
            raise RefusedError("claims more values than it holds, or is cut off; it is not read")
        if getattr(storage, "_torch_load_uninitialized", False):
            storage.fill_(0)  # type: ignore[attr-defined]  # the file may forget to
        storages[storage._cdata] = storage, storage.nbytes()
        return storage

    found = flatten(torch.load(file, map_location=keep, weights_only=True))  # type: ignore[arg-type]
    room = 4 * size + SPARE  # one storage may stand behind many tensors
    for name, tensor in found.items():
        plain = found[name] = dense(name, tensor)
        storage = plain.untyped_storage()
        room -= plain.numel() * plain.itemsize
        if room < 0 or storages.get(storage._cdata, (None, -1))[1] != storage.nbytes():
            raise RefusedError(f"claims more values than it holds (in {name}); it is not read")
    return found


def flatten(value: object) -> dict[str, Tensor]:
    """Find the tensors in nested dictionaries and lists; whatever else is there is left out.

    Raises:
        RefusedError: there are none, too many, or some that no text of their own leads to.
    """
    found: dict[str, Tensor] = {}
    todo: list[tuple[tuple[str, ...], object]] = [((), value)]
    left = ITEMS
    while todo:
        keys, item = todo.pop()
        if isinstance(item, Tensor):
            name = ".".join(keys)
            if not keys or name in found or len(name) > NAME:
                raise RefusedError(f"holds a tensor without a name of its own ({name[:80]!r})")
            name.encode()  # a lone surrogate is no name either
            found[name] = item
        inner = children(item)
        left -= len(inner)
        if left < 0 or len(keys) > DEPTH or len(found) > TENSORS:
            raise RefusedError(f"nested too deeply, or more than {TENSORS} tensors, {ITEMS} values")
        todo += (((*keys, key), each) for key, each in inner)
    if not found:
        raise RefusedError("holds no tensors with names; save model.state_dict() with torch.save")
    return found


def children(item: object) -> list[tuple[str, object]]:
    """List what lies directly in a dictionary or a list, by texts and numbers.

    A method is called on the class: a pickle can give an OrderedDict an `items` of its own.
    """
    if isinstance(item, dict):
        pairs = list(dict.items(item))
    elif isinstance(item, (list, tuple)):
        pairs = list(enumerate(item))
    else:
        return []
    for key, each in pairs:
        if isinstance(each, Tensor) and not isinstance(key, (str, int)):
            raise RefusedError(f"holds a tensor under a key that is {type(key).__name__}")
    return [(str(key), each) for key, each in pairs if isinstance(key, (str, int))]


def dense(name: str, tensor: Tensor) -> Tensor:
    """Take the bare tensor, without what a pickle may have hung on it.

    Raises:
        RefusedError: it is of a kind that safetensors cannot hold.
    """
    plain = Tensor.detach(tensor) if type(tensor) in (Tensor, nn.Parameter) else None
    if plain is None or plain.is_quantized or plain.is_nested or plain.layout != torch.strided:
        raise RefusedError(f"{name} is quantized, sparse or of a special kind; it is not read")
    if plain.device.type != "cpu" or plain.is_neg() or plain.dtype not in DTYPES:
        raise RefusedError(f"{name} is {plain.dtype} on {plain.device.type}; it is not read")
    return plain


def write(tensors: dict[str, Tensor], output: BinaryIO) -> None:
    """Write the safetensors format, one tensor in memory at a time, the widest types first."""
    order = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    header, end = {}, 0
    for name in order:
        begin, end = end, end + tensors[name].numel() * tensors[name].itemsize
        about = {"dtype": DTYPES[tensors[name].dtype], "shape": list(tensors[name].shape)}
        header[name] = about | {"data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    output.write(len(text).to_bytes(8, "little") + text)
    for name in order:
        whole = tensors[name].contiguous()
        flat = whole.as_strided((whole.numel(),), (1,))  # strides of a single value may be any
        output.write(flat.view(torch.uint8).numpy().data)
    output.flush()


def leave(code: int, kind: str = "", text: str = "") -> NoReturn:
    """Say one last line and end at once: nothing else gets a turn, not even an exit handler."""
    try:
        os.write(1, b"\n" + json.dumps([kind, text[:4000]]).encode())
    finally:
        os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
