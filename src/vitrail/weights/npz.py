"""Google's checkpoints: `.npz` files of numpy arrays whose names are paths (`Transformer/...`).

Read member by member, in memory, with nothing unpickled and nothing extracted. bfloat16 lies in
such files as two bytes without a type (`|V2`), the way ml_dtypes makes numpy write it.
"""

import io
import math
import re
import stat
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from vitrail.errors import WeightsError, printable
from vitrail.files import write_atomic
from vitrail.weights.opening import regular_file

MEMBERS, CONTENTS = 100_000, 16 << 20  # the most arrays, and bytes of the list of them
RATIO = 1000  # unpacked to packed bytes of one array
TOTAL_RATIO, SPARE = 20, 64 << 20  # unpacked bytes of all: this times the file, and SPARE
AXES, NAME = 32, 300  # the most of an array, letters of a name
TYPES = "f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 b1".split()
WRITTEN = {  # bfloat16 as float32, which holds its values exactly and which everybody can read
    *(torch.float16, torch.float32, torch.float64, torch.bfloat16, torch.bool),
    *(torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8),
}
DAMAGES = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError),
    *(ValueError, RuntimeError, OverflowError, MemoryError),
)


class _RefusedError(Exception):
    """The file is whole, but not what is read here; the text goes on after its name."""


class _Frugal:
    """A file for `zipfile`, which reads the list of contents in one piece, however long it is."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable
        self._read = file.read

    def read(self, size: int = -1) -> bytes:
        if size > CONTENTS:
            raise _RefusedError(f"its list of contents has {size} bytes; {CONTENTS} are allowed")
        return self._read(size)


def read_npz(path: Path) -> dict[str, Tensor]:
    """Read the arrays of a `.npz` file under the names that `np.load` gives them.

    Raises:
        WeightsError: it is missing, damaged, holds Python objects or other types than numbers, or
            would unpack to far more than its size.
    """
    with regular_file(path) as file:
        size = file.seek(0, io.SEEK_END)
        try:
            with zipfile.ZipFile(_Frugal(file)) as archive:
                members = archive.infolist()
                _check_members(members, size)
                return {each.filename[:-4]: _read_member(archive, each) for each in members}
        except _RefusedError as error:
            raise WeightsError(f"{path}: {printable(str(error))[:300]}; it is not read") from None
        except DAMAGES as error:
            what = printable(f"{type(error).__name__}: {error}")[:200]
            raise WeightsError(f"{path}: not a whole .npz file ({what})") from None


def write_npz(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a `.npz` file atomically, uncompressed; equal tensors give equal bytes.

    Names may have slashes. bfloat16 is written as float32.

    Raises:
        WeightsError: a name or a type cannot be written.
        StorageError: the file cannot be written.
    """
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, tensor in sorted(tensors.items()):
            if tensor.dtype not in WRITTEN:
                raise WeightsError(f"{path}: {name} is {tensor.dtype}, which .npz cannot hold")
            try:
                _check_name(f"{name}.npy")
            except _RefusedError as error:
                raise WeightsError(f"{path}: {printable(str(error))}") from None
            plain = tensor.detach().cpu().contiguous()
            array = (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system, member.external_attr = 3, 0o600 << 16
            with archive.open(member, "w", force_zip64=True) as stream:
                npy.write_array(stream, array, allow_pickle=False)
    write_atomic(path, data.getvalue())


def _check_members(members: list[zipfile.ZipInfo], size: int) -> None:
    """Refuse what would be ambiguous or grow, before anything is unpacked."""
    names = {member.filename for member in members}
    if len(members) > MEMBERS or len(names) < len(members):
        what = f"holds more than {MEMBERS} arrays" if len(members) > MEMBERS else "has a name twice"
        raise _RefusedError(what)
    for member in members:
        _check_name(member.orig_filename)
        if stat.S_ISLNK(member.external_attr >> 16):
            raise _RefusedError(f"{member.filename} is a link")
        if member.flag_bits & 1:
            raise _RefusedError(f"{member.filename} is encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _RefusedError(f"{member.filename} is compressed in an unusual way")
        stored = member.compress_type == zipfile.ZIP_STORED
        if member.file_size > member.compress_size * (1 if stored else RATIO):
            raise _RefusedError(f"{member.filename} would unpack to {member.file_size} bytes")
    packed = sum(member.compress_size for member in members)  # more than the file if they overlap
    unpacked = sum(member.file_size for member in members)
    if packed > size or unpacked > TOTAL_RATIO * size + SPARE:
        raise _RefusedError(f"would unpack to {unpacked} bytes, far more than its size")


def _check_name(name: str) -> None:
    """Refuse what is not a plain relative path to an array; nothing is extracted, but still."""
    strange = re.search(r"[\\:\x00-\x1f\x7f]", name) or not name.endswith(".npy")
    if strange or len(name) > NAME or {"", ".", ".."} & {*name.removesuffix(".npy").split("/")}:
        raise _RefusedError(f"the name {name[:80]!r} is not one of an array")


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Tensor:
    """Read one array; memory is asked for once its header and its size agree."""
    with archive.open(member) as stream:
        assert isinstance(stream, io.BufferedIOBase)  # which zipfile's own types do not say
        shape, fortran, dtype = _read_header(stream, member.filename)
        count = math.prod(shape)
        if count * dtype.itemsize != member.file_size - stream.tell():
            raise _RefusedError(f"{member.filename} has not the size that its header says")
        array = np.empty(count, dtype)
        _fill(stream, array)
    if fortran:
        array = array.reshape(shape[::-1]).T.copy()
    return _tensor(array.reshape(shape))


def _read_header(
    stream: io.BufferedIOBase, name: str
) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read shape, whether the first axis runs fastest, and the type of an array."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of old ways to write a header
            version = npy.read_magic(stream)
            if version == (1, 0):
                shape, fortran, dtype = npy.read_array_header_1_0(stream)
            else:
                shape, fortran, dtype = npy.read_array_header_2_0(stream)
    except (zipfile.BadZipFile, zlib.error, EOFError):
        raise
    except Exception as error:  # numpy evaluates a literal: whatever Python's parser raises
        raise _RefusedError(f"{name} has no array header ({type(error).__name__})") from None
    if dtype.hasobject:
        raise _RefusedError(f"{name} holds Python objects, which could run code")
    if dtype.str[1:] not in (*TYPES, "V2") or dtype.names or dtype.subdtype:
        raise _RefusedError(f"{name} is of type {dtype.str}; allowed are {', '.join(TYPES)}, V2")
    if len(shape) > AXES or min(shape, default=0) < 0 or math.prod(max(1, n) for n in shape) >> 62:
        raise _RefusedError(f"{name} has an impossible shape")
    return shape, fortran, dtype


def _fill(stream: io.BufferedIOBase, array: np.ndarray) -> None:
    """Read all of an array, piece by piece; at the end the checksum is compared."""
    view = array.view(np.uint8).data if array.size else memoryview(b"")
    at = 0
    while piece := stream.read(1 << 20):
        view[at : at + len(piece)] = piece
        at += len(piece)
    if at < len(view):
        raise EOFError(f"{len(view) - at} bytes are missing")


def _tensor(array: np.ndarray) -> Tensor:
    """Make a tensor of an array in the machine's byte order, in the same memory if it can."""
    if array.dtype.kind == "V":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    if array.dtype.kind == "b":  # any byte may stand there
        return torch.from_numpy(array.view(np.uint8) != 0)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
