"""The headers of a tar archive, one after the other; nothing is extracted and nothing unpacked.

Python's `tarfile` takes what a header says for granted: a name that claims a gigabyte is read into
memory, and a chain of extended headers recurses. It also takes four times as long (18 µs a member
against 5). So the walk is our own: it goes strictly forward, and every size in it has a cap.

Source: POSIX.1-2001, pax interchange format; GNU tar manual, "Basic Tar Format".
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from vitrail.errors import DataError

BLOCK = 512
MEMBERS = 10_000_000  # headers of one archive
NAME_LIMIT = 4096  # bytes of a member's name
EXTENDED_LIMIT = 1 << 20  # bytes of one extended header
EXTENDED_IN_A_ROW = 8  # extended headers before the one that they extend
END_CHECKED = 1 << 20  # bytes after the end mark that must be zero

COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf": "7-Zip",
}
FILE, FOLDER, MARK = "file", "folder", "mark"
KINDS = {  # what a type letter stands for; every other one is a kind that is not read
    b"0": FILE,
    b"\0": FILE,
    b"7": FILE,
    b"1": "hard link",
    b"2": "symbolic link",
    b"3": "device",
    b"4": "device",
    b"5": FOLDER,
    b"6": "pipe",
    b"S": "sparse file",
}
EMPTY = {"hard link", "symbolic link", "device", FOLDER, "pipe"}  # no bytes follow the header
ZEROS = bytes(BLOCK)

Read = Callable[[int, int], bytes]  # from (place, count); fewer bytes only where the file ends


class Member(NamedTuple):
    """One entry of an archive."""

    name: str  # as it stands there; bytes that are no UTF-8 are kept. The text of a MARK
    kind: str  # FILE, FOLDER, MARK (a comment on the whole archive) or what it is instead
    start: int  # of its bytes in the archive
    size: int  # bytes


class _BadHeaderError(Exception):
    """What is wrong with a header, in words."""


class _Header(NamedTuple):
    name: bytes
    kind: bytes  # one letter
    size: int
    more: bool  # a sparse map goes on in the next block


def walk(read: Read, length: int, where: str) -> Iterator[Member]:
    """Give every member of an archive in its order.

    Args:
        read: gives bytes of the archive.
        length: bytes of the archive.
        where: its name, which begins every error.
    Raises:
        DataError: it is compressed, no archive, damaged, cut off or beyond a limit.
    """
    place, count, extended = 0, 0, 0
    changes: dict[bytes, bytes] = {}
    try:
        _require_archive(read(0, BLOCK))
        while (block := read(place, BLOCK)) != ZEROS:
            if len(block) < BLOCK:
                raise _BadHeaderError("it is cut off: the end mark is missing")
            header = _parse(block)
            count += 1
            if count > MEMBERS:
                raise _BadHeaderError(f"it has more than {MEMBERS} members")
            start = _skip_sparse_map(read, place + BLOCK, header)
            if header.kind in b"xgLKX":
                extended += 1
                if extended > EXTENDED_IN_A_ROW:
                    raise _BadHeaderError("too many extended headers follow each other")
                if header.size > EXTENDED_LIMIT:
                    raise _BadHeaderError(f"an extended header of {header.size} bytes")
                place = _end(start, header.size, length, header.name)
                comment = _extend(changes, header.kind, read(start, header.size))
                if comment is not None:
                    yield Member(_text(comment), MARK, start, header.size)
                continue
            member = _member(header, changes, start)
            place = _end(start, member.size, length, header.name)
            yield member
            extended, changes = 0, {}
        if any(read(place, min(END_CHECKED, length - place))):
            raise _BadHeaderError("more follows after its end mark; joined archives are not read")
    except _BadHeaderError as error:
        raise DataError(f"{where}: at byte {place}: {error}") from None


def _require_archive(block: bytes) -> None:
    """Refuse what is no archive at all, by name where it is well known."""
    for start, name in COMPRESSED.items():
        if block.startswith(start):
            raise _BadHeaderError(
                f"it is compressed ({name}); samples are read by their place, so unpack it to a "
                "plain .tar"
            )
    if not block:
        raise _BadHeaderError("the file is empty")
    if block != ZEROS:
        try:
            _parse(block.ljust(BLOCK, b"\0"))
        except _BadHeaderError:
            raise _BadHeaderError("it is no tar archive") from None


def _parse(block: bytes) -> _Header:
    """Read one header block."""
    total = sum(block) - sum(block[148:156]) + 8 * 32  # the checksum counts as spaces
    if _number(block[148:156]) != total:
        raise _BadHeaderError("a header is damaged (its checksum is wrong)")
    name, kind = block[:100].partition(b"\0")[0], block[156:157]
    if block[257:263] == b"ustar\0" and block[345] and kind not in b"xgLK":
        name = block[345:500].partition(b"\0")[0] + b"/" + name
    if kind == b"\0" and name.endswith(b"/"):
        kind = b"5"  # how folders were marked before POSIX
    size = _number(block[124:136])
    return _Header(name, kind, size, kind == b"S" and block[482] != 0)


def _number(field: bytes) -> int:
    """Read octal digits, or the binary form of GNU for what is too large."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    try:
        return int(digits, 8) if digits.isdigit() else _refuse_number(digits)
    except ValueError:
        return _refuse_number(digits)


def _refuse_number(digits: bytes) -> int:
    if digits:
        raise _BadHeaderError("a header is damaged (a number is negative or none)")
    return 0


def _skip_sparse_map(read: Read, start: int, header: _Header) -> int:
    """Give the place after the further blocks of a sparse file's map."""
    more = header.more
    while more:
        block = read(start, BLOCK)
        if len(block) < BLOCK:
            raise _BadHeaderError("it is cut off in a sparse map")
        more, start = block[504] != 0, start + BLOCK
    return start


def _end(start: int, size: int, length: int, name: bytes) -> int:
    """Give the place of the next header."""
    if start + size > length:
        raise _BadHeaderError(
            f"member {name[:100].decode(errors='backslashreplace')!r} would end at byte "
            f"{start + size}, the file ends at {length}; it is cut off, or the size is wrong"
        )
    return start + size + -size % BLOCK


def _extend(changes: dict[bytes, bytes], kind: bytes, data: bytes) -> bytes | None:
    """Note what an extended header says about the member that follows; give a global comment."""
    if kind == b"L":
        changes[b"path"] = data.partition(b"\0")[0]
    elif kind == b"g":
        everywhere = _records(data)
        if everywhere.keys() & {b"path", b"size"}:
            raise _BadHeaderError("a global header sets the name or size of every member")
        return everywhere.get(b"comment")
    elif kind in b"xX":
        changes |= _records(data)
    return None


def _records(data: bytes) -> dict[bytes, bytes]:
    """Read the records `LENGTH KEY=VALUE\\n` of a pax header."""
    records, place = {}, 0
    while place < len(data):
        digits, space, _ = data[place : place + 9].partition(b" ")
        size = int(digits) if digits.isdigit() and space else 0
        record = data[place : place + size]
        key, equals, value = record[len(digits) + 1 :].partition(b"=")
        if not equals or len(record) < size or not value.endswith(b"\n"):
            raise _BadHeaderError("an extended header is damaged")
        records[key] = value[:-1]
        place += size
    return records


def _member(header: _Header, changes: dict[bytes, bytes], start: int) -> Member:
    """Put a header and what extends it together."""
    name, size = changes.get(b"path", header.name), header.size
    if b"size" in changes:
        digits = changes[b"size"]
        if not digits.isdigit() or len(digits) > 20:
            raise _BadHeaderError("an extended header gives a size that is no number")
        size = int(digits)
    if len(name) > NAME_LIMIT:
        raise _BadHeaderError(f"a name of {len(name)} bytes; at most {NAME_LIMIT} are read")
    kind = KINDS.get(header.kind, f"member of type {header.kind.decode('latin1')!r}")
    if any(key.startswith(b"GNU.sparse.") for key in changes):
        kind = "sparse file"
    if kind in EMPTY:
        size = 0
    return Member(_text(name), kind, start, size)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
