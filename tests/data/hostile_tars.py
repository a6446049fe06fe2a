"""Hostile and odd tar archives, built byte by byte; what each of them must get."""

import bz2
import gzip
import io
import lzma
import zipfile
from typing import NamedTuple

BLOCK = 512
END = bytes(2 * BLOCK)
PIXELS = b"\x89PNG\r\n\x1a\n"


class Case(NamedTuple):
    """An archive, and what opening it says."""

    data: bytes
    refused: str = ""  # the error
    note: str = ""  # what is told of members that are left out; all others are used
    keys: tuple[str, ...] = ("good/0.png",)  # the members that are used


def header(
    name: bytes,
    size: int | bytes,
    kind: bytes = b"0",
    link: bytes = b"",
    magic: bytes = b"ustar\x0000",
    more: bytes = b"",
) -> bytes:
    """One header block with a right checksum; `size` may be a field of one's own."""
    field = size if isinstance(size, bytes) else b"%011o\0" % size
    start = name.ljust(100, b"\0")[:100] + b"0000644\0" + b"0000000\0" * 2 + field
    start += b"00000000000\0" + b" " * 8 + kind + link.ljust(100, b"\0") + magic
    block = bytearray(start.ljust(345, b"\0") + more.ljust(167, b"\0"))
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def member(name: bytes, data: bytes = PIXELS, kind: bytes = b"0", **how: bytes) -> bytes:
    return header(name, len(data), kind, **how) + padded(data)


def pax(records: bytes, kind: bytes = b"x") -> bytes:
    return member(b"PaxHeader", records, kind)


def record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    size = len(body) + 1
    while len(b"%d" % size) + len(body) != size:
        size += 1
    return b"%d" % size + body


def bare(name: bytes, kind: bytes, link: bytes = b"", size: int = 0) -> bytes:
    """A member without bytes: a link, a device, a pipe."""
    return header(name, size, kind, link)


GOOD = member(b"good/0.png")
FIRST = member(b"first.txt", b"a damaged first header is no archive at all")
ELSEWHERE = "a name that leads elsewhere"
LONG = b"x" * 290 + b"/long.png"  # 299 bytes


def archive(*parts: bytes) -> bytes:
    return b"".join((*parts, GOOD, END))


def left_out(*parts: bytes, note: str) -> Case:
    return Case(archive(*parts), note=note)


def refused(*parts: bytes, why: str) -> Case:
    return Case(archive(*parts), refused=why)


def binary(value: int) -> bytes:
    """A size in the binary form of GNU."""
    return (value % (1 << 96) | (1 << 95 if value >= 0 else 0)).to_bytes(12, "big")


def zipped() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("good/0.png", bytes(1_000_000))
    return target.getvalue()


def sparse_map(blocks: int) -> bytes:
    """An old GNU sparse file whose map goes on through further blocks."""
    start = header(b"s/1.png", 0, b"S", magic=b"ustar  \0", more=bytes(137) + b"\1")
    return start + (bytes(504) + b"\1" + bytes(7)) * (blocks - 1) + bytes(BLOCK)


CASES: dict[str, Case] = {
    # names
    "parent": left_out(member(b"../evil.png"), note=ELSEWHERE),
    "parent inside": left_out(member(b"a/../../evil.png"), note=ELSEWHERE),
    "parent by pax": left_out(pax(record(b"path", b"../evil.png")), member(b"a"), note=ELSEWHERE),
    "parent by prefix": left_out(
        member(b"evil.png", more=b"../a".ljust(155, b"\0")), note=ELSEWHERE
    ),
    "absolute": left_out(member(b"/tmp/evil.png"), note=ELSEWHERE),
    "drive letter": left_out(member(b"C:evil.png"), note=ELSEWHERE),
    "drive and backslash": left_out(member(b"C:\\a\\evil.png"), note=ELSEWHERE),
    "backslashes": left_out(member(b"..\\evil.png"), note=ELSEWHERE),
    "network share": left_out(member(b"\\\\host\\evil.png"), note=ELSEWHERE),
    "zero byte": left_out(pax(record(b"path", b"a/\0b.png")), member(b"a"), note=ELSEWHERE),
    "300-byte name, GNU": Case(
        archive(member(b"././@LongLink", LONG + b"\0", b"L"), member(b"short")),
        keys=(LONG.decode(), "good/0.png"),
    ),
    "300-byte name, pax": Case(
        archive(pax(record(b"path", LONG)), member(b"short")), keys=(LONG.decode(), "good/0.png")
    ),
    "64 KB name, GNU": refused(
        member(b"././@LongLink", b"a/" * 32768, b"L"), member(b"short"), why="a name of 65536 bytes"
    ),
    "64 KB name, pax": refused(
        pax(record(b"path", b"a/" * 32768)), member(b"short"), why="a name of 65536 bytes"
    ),
    "no UTF-8": Case(archive(member(b"\xff/\xfe.png")), keys=("\udcff/\udcfe.png", "good/0.png")),
    "terminal controls": Case(
        archive(member(b"\x1b[2J/a.png")), keys=("\x1b[2J/a.png", "good/0.png")
    ),
    "case collision": Case(
        archive(member(b"good/A.png"), member(b"GOOD/a.png")),
        keys=("good/A.png", "GOOD/a.png", "good/0.png"),
    ),
    "duplicate": refused(member(b"good/0.png"), why="'good/0.png' is a second image"),
    "duplicate by dots": refused(member(b"./good//0.png"), why="is a second image"),
    "hidden": left_out(member(b".hidden/1.png"), member(b"good/._0.png"), note=""),
    # kinds
    "symbolic link": left_out(bare(b"l/1.png", b"2", b"/etc/passwd"), note="symbolic link"),
    "hard link": left_out(bare(b"l/1.png", b"1", b"/etc/passwd"), note="hard link"),
    "hard link with a size": left_out(bare(b"l/1.png", b"1", b"x", size=1 << 30), note="hard link"),
    "hard link to a symbolic link": left_out(
        bare(b"l/1.png", b"2", b"/etc"), bare(b"l/2.png", b"1", b"l/1.png"), note="hard link"
    ),
    "write through a link": left_out(
        bare(b"good", b"2", b"/tmp"), member(b"../x"), note="symbolic link"
    ),
    "character device": left_out(bare(b"d/1.png", b"3"), note="device"),
    "block device": left_out(bare(b"d/1.png", b"4"), note="device"),
    "pipe": left_out(bare(b"p/1.png", b"6"), note="pipe"),
    "unknown type": left_out(member(b"u/1.png", kind=b"Z"), note="member of type 'Z'"),
    "continued volume": left_out(member(b"u/1.png", kind=b"M"), note="member of type 'M'"),
    "sparse, GNU": left_out(sparse_map(1), note="sparse file"),
    "sparse, long map": left_out(sparse_map(200), note="sparse file"),
    "sparse, endless map": Case(sparse_map(200)[:-BLOCK], refused="it is cut off in a sparse map"),
    "sparse, pax": left_out(
        pax(record(b"GNU.sparse.major", b"1") + record(b"GNU.sparse.realsize", b"9" * 15)),
        member(b"s/1.png"),
        note="sparse file",
    ),
    "folder with a size": Case(archive(bare(b"good/", b"5", size=1 << 32))),
    "before POSIX": Case(
        archive(member(b"old/1.png", magic=b"", kind=b"\0")), keys=("old/1.png", "good/0.png")
    ),
    # sizes
    "negative size": refused(
        FIRST, header(b"n/1.png", b"-0000000001\0"), why="a number is negative"
    ),
    "negative binary size": refused(
        FIRST, header(b"n/1.png", binary(-512)), why="a number is negative"
    ),
    "huge binary size": refused(header(b"n/1.png", binary(1 << 80)), why="would end at byte 12089"),
    "beyond the end": refused(header(b"n/1.png", 4 << 30), why="would end at byte 4294967808"),
    "no digits": refused(
        FIRST, header(b"n/1.png", b"0x00000010\0\0"), why="a number is negative or none"
    ),
    "pax size negative": refused(
        pax(record(b"size", b"-512")), member(b"n/1.png"), why="a size that is no number"
    ),
    "pax size huge": refused(
        pax(record(b"size", b"9" * 20)), member(b"n/1.png"), why="it is cut off, or the size"
    ),
    "pax size of many digits": refused(
        pax(record(b"size", b"9" * 5000)), member(b"n/1.png"), why="a size that is no number"
    ),
    # extended headers
    "pax without end": refused(*[pax(record(b"comment", b"x"))] * 1000, why="too many extended"),
    "long names without end": refused(
        *[member(b"././@LongLink", b"a.png\0", b"L")] * 1000, why="too many extended"
    ),
    "pax of a gigabyte": refused(header(b"PaxHeader", 1 << 30, b"x"), why="header of 1073741824"),
    "long name of a gigabyte": refused(
        header(b"././@LongLink", 1 << 30, b"L"), why="header of 1073741824 bytes"
    ),
    "record of no length": refused(pax(b"0 path=a\n"), why="an extended header is damaged"),
    "record too long": refused(pax(b"999999999 path=a\n"), why="an extended header is damaged"),
    "record of negative length": refused(pax(b"-9 path=a\n"), why="extended header is damaged"),
    "record without a key": refused(pax(b"8 patha\n"), why="an extended header is damaged"),
    "global name": refused(
        pax(record(b"path", b"a/1.png"), b"g"), why="sets the name or size of every member"
    ),
    # wholeness
    "cut off in a member": Case(
        archive(member(b"n/1.png", bytes(5000)))[:3000], refused="would end"
    ),
    "cut off in a header": Case(archive()[:1200], refused="it is cut off: the end mark is missing"),
    "cut off between members": Case(GOOD, refused="it is cut off: the end mark is missing"),
    "checksum": Case(archive().replace(b"good", b"evil"), refused="it is no tar archive"),
    "checksum later": Case(
        archive(member(b"n/1.png")).replace(b"good", b"evil"), refused="its checksum is wrong"
    ),
    "joined": Case(archive() + archive(member(b"n/1.png")), refused="joined archives are not read"),
    "empty file": Case(b"", refused="the file is empty"),
    "text": Case(b"<html>" * 200, refused="it is no tar archive"),
    "short text": Case(b"version https://git-lfs", refused="it is no tar archive"),
    # packed: 1000 to 1
    "gzip": Case(gzip.compress(archive(member(b"n/1.png", bytes(10**7)))), refused=r"\(gzip\)"),
    "bzip2": Case(bz2.compress(archive()), refused=r"compressed \(bzip2\); .* unpack it"),
    "xz": Case(lzma.compress(archive()), refused=r"compressed \(xz\)"),
    "zip": Case(zipped(), refused=r"compressed \(zip\)"),
    "zstd": Case(b"\x28\xb5\x2f\xfd" + bytes(600), refused=r"compressed \(zstd\)"),
    # labels
    "label of 2 MB": refused(member(b"good/0.cls", b"1" * 2_000_000), why="has 2000000 bytes"),
    "number of 5000 digits": refused(member(b"good/0.cls", b"1" * 5000), why="class numbers begin"),
    "deep JSON": refused(member(b"good/0.json", b"[" * 100_000), why="'good/0.json' is no JSON"),
    "JSON number of 5000 digits": refused(
        member(b"good/0.json", b'{"label": ' + b"1" * 5000 + b"}"), why="'good/0.json' is no JSON"
    ),
    "control in a label": refused(member(b"good/0.cls", b"a\x1b[2Jb"), why="class number or name"),
}
