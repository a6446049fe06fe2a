"""Small files that ask for much: dimensions, texts, frames and directories that are not there."""

import struct
import zlib

import numpy as np

from tests.data import tiffs
from tests.data.images import chunk, png, save
from tests.data.samples import photo


def _png_header(height: int, width: int, kind: int = 2, interlace: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, interlace)
    data = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def _png_with(*extra: bytes) -> bytes:
    return png(0, 8, [bytes(5)] * 3, (3, 5), *extra)


def _jpeg(height: int, width: int, mode: str = "RGB", **options: object) -> bytes:
    """Take a small file and write another size into its frame header."""
    data = bytearray(save(photo().convert(mode), "JPEG", **options))
    at = data.index(b"\xff\xc2" if options.get("progressive") else b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def _gif(height: int, width: int, frame: tuple[int, int] = (3, 5), frames: int = 1) -> bytes:
    """Frames of two colours whose coded data says: clear, one pixel, end."""
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    image = b"\x2c" + struct.pack("<HHHHB", 0, 0, frame[1], frame[0], 0) + b"\2\2\x44\1\0"
    return screen + image * frames + b";"


def _webp(kind: bytes, body: bytes) -> bytes:
    inner = b"WEBP" + kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(inner)) + inner


def _tiff(*entries: tuple[int, int, int, int], after: int = 0, tail: bytes = b"") -> bytes:
    """One directory of (tag, type, count, value), little endian; `after` leads to the next."""
    body = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    ifd = struct.pack("<H", len(entries)) + body + struct.pack("<I", after)
    return b"II*\0" + struct.pack("<I", 8) + ifd + tail


def _grey_tiff(height: int, width: int, *more: tuple[int, int, int, int], after: int = 0) -> bytes:
    basic = ((256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (262, 3, 1, 1))
    strips = ((273, 4, 1, 0), (278, 4, 1, height), (279, 4, 1, min(height * width, 2**32 - 1)))
    replaced = {entry[0]: entry for entry in (*basic, *strips, *more)}
    return _tiff(*replaced.values(), after=after, tail=bytes(200))


def _many_directories(count: int) -> bytes:
    """Whole directories one after the other, each of them with the place of the next."""
    step = len(_grey_tiff(3, 5)) - 8
    each = [_grey_tiff(3, 5, after=8 + step * (i + 1))[8:] for i in range(count - 1)]
    return b"II*\0\x08\0\0\0" + b"".join([*each, _grey_tiff(3, 5)[8:]])


def _bands_tiff(*more: tuple[int, int, int, int], size: tuple[int, int] = (3, 5)) -> bytes:
    """Five bands of 8 bits in one strip, with other tags in place of its own."""
    own = ((258, 3, 1, 8), (277, 4, 1, 5), (273, 4, 1, 200), (279, 4, 1, 75))
    replaced = {entry[0]: entry for entry in (*own, *more)}
    return _grey_tiff(*size, *replaced.values())


def _overlapping_strips() -> bytes:
    """20,000 strips of LZW, each of which is the whole file: 16 GB."""
    rows = np.zeros((20_000, 40, 5), np.uint8)
    whole = {273: (0,) * 20_000, 279: (800_000,) * 20_000, 259: (tiffs.LZW,)}
    return tiffs.tiff(rows, rows=1, tags=whole)


def _tiled(height: int, width: int, count: int = 1) -> tuple[tuple[int, int, int, int], ...]:
    return ((322, 4, 1, width), (323, 4, 1, height), (324, 4, count, 8), (325, 4, count, 8))


def _npy(text: str, body: bytes = bytes(100), length: int | None = None) -> bytes:
    header = text.encode() + b"\n"
    size = struct.pack("<I", len(header) if length is None else length)
    return b"\x93NUMPY\2\0" + size + header + body


def _array(shape: str, kind: str = "<u2") -> bytes:
    return _npy(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}")


def _many_scans(count: int) -> bytes:
    """Repeat the last scan of a progressive JPEG, which refines one bit of 64."""
    data = save(photo(64, 48), "JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    return data[:-2] + data[at:-2] * count + data[-2:]


def _bmp(height: int, width: int, compression: int = 0) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, compression, 0, 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1300, 0, 0, 1078) + info + bytes(1024) + bytes(200)


def _compressed_zeros(megabytes: int) -> bytes:
    """Compress piece by piece: memory is what the tests of these files measure."""
    pack, piece = zlib.compressobj(9), bytes(1 << 20)
    return b"".join(pack.compress(piece) for _ in range(megabytes)) + pack.flush()


_ZEROS = _compressed_zeros(200)

REFUSED: dict[str, bytes] = {
    "PNG 65535x65535": _png_header(65535, 65535),
    "PNG 2^31": _png_header(2**31 - 1, 2**31 - 1),
    "PNG one row": _png_header(1, 2**31 - 1),
    "PNG one column": _png_header(2**31 - 1, 1),
    "PNG interlaced": _png_header(65535, 65535, interlace=1),
    "PNG palette": _png_header(65535, 65535, kind=3),
    "PNG zTXt": _png_with(chunk(b"zTXt", b"k\0\0" + _ZEROS)),
    "PNG iTXt": _png_with(chunk(b"iTXt", b"k\0\1\0\0\0" + _ZEROS)),
    "PNG many zTXt": _png_with(*[chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 20)))] * 64),
    "PNG no pixels": _png_header(0, 5),
    "JPEG 65500x65500": _jpeg(65500, 65500),
    "JPEG progressive": _jpeg(65500, 65500, progressive=True),
    "JPEG CMYK": _jpeg(65500, 65500, mode="CMYK"),
    "JPEG one row": _jpeg(1, 65500)[:-200],
    "JPEG no pixels": _jpeg(0, 5),
    "GIF 65535x65535": _gif(65535, 65535),
    "GIF frame beyond the canvas": _gif(3, 5, frame=(65535, 65535)),
    "GIF no pixels": _gif(0, 0, frame=(0, 0)),
    "WebP extended": _webp(b"VP8X", bytes(4) + b"\xff\xff\xff" * 2),
    "WebP lossless": _webp(b"VP8L", b"\x2f\xff\xff\xff\x0f" + bytes(100)),
    "WebP lossy": _webp(b"VP8 ", b"\x10\0\0\x9d\x01\x2a\xff\x3f\xff\x3f" + bytes(100)),
    "TIFF 100000x100000": _grey_tiff(100_000, 100_000),
    "TIFF 2^32": _grey_tiff(2**32 - 1, 2**32 - 1),
    "TIFF LZW": _grey_tiff(100_000, 100_000, (259, 3, 1, 5)),
    "TIFF turned": _grey_tiff(1, 2**32 - 1, (274, 3, 1, 6)),
    "TIFF samples": _grey_tiff(3, 5, (277, 4, 1, 2**31)),
    "TIFF tag of 4 GB": _grey_tiff(3, 5, (273, 4, 2**30, 8)),
    "JPEG of 1,000 scans": _many_scans(1000),
    "TIFF of 65,535 bands": _grey_tiff(3, 5, (277, 3, 1, 65535)),
    "NPY of 2^60 pixels": _array(f"({2**30}, {2**30}, 3)"),
    "BMP 65535x65535": _bmp(65535, 65535),
    "BMP top down": _bmp(-(2**31), 65535),
    "BMP run lengths": _bmp(65535, 65535, compression=1),
}
BANDS: dict[str, bytes] = {  # refused as images of five bands
    "TIFF 100000x100000": _bands_tiff(size=(100_000, 100_000)),
    "TIFF 2^32": _bands_tiff(size=(2**32 - 1, 2**32 - 1)),
    "TIFF of 65,535 bands": _bands_tiff((277, 3, 1, 65535)),
    "TIFF of 2^32 bands": _bands_tiff((277, 4, 1, 2**32 - 1)),
    "TIFF of no bands": _bands_tiff((277, 3, 1, 0)),
    "TIFF deflate": _bands_tiff((259, 3, 1, 8), size=(6000, 6000)),
    "TIFF LZW": _bands_tiff((259, 3, 1, 5), size=(6000, 6000)),
    "TIFF PackBits": _bands_tiff((259, 3, 1, 32773), size=(6000, 6000)),
    "TIFF uncompressed": _bands_tiff(size=(6000, 6000)),
    "TIFF in planes": _bands_tiff((284, 3, 1, 2), size=(6000, 6000)),
    "TIFF tile of 2^32": _bands_tiff(*_tiled(2**32 - 1, 2**32 - 1)),
    "TIFF tile of 30000": _bands_tiff(*_tiled(30_000, 30_000), (259, 3, 1, 8)),
    "TIFF tile of nothing": _bands_tiff(*_tiled(0, 16)),
    "TIFF tiles of one pixel": _bands_tiff(*_tiled(1, 1, 2**20), size=(1000, 1000)),
    "TIFF tiles beyond the file": _bands_tiff(*_tiled(16, 16, 2**29), size=(5000, 5000)),
    "TIFF rows of a strip": _bands_tiff((278, 4, 1, 0)),
    "TIFF strip beyond the file": _bands_tiff((273, 4, 1, 2**32 - 1)),
    "TIFF strip of 4 GB": _bands_tiff((279, 4, 1, 2**32 - 1)),
    "TIFF strips on each other": _overlapping_strips(),
    "TIFF list of 4 GB": _bands_tiff((258, 3, 2**31, 8)),
    "TIFF directory of 65,535 tags": b"II*\0\x08\0\0\0\xff\xff" + bytes(65535 * 12),
    "TIFF directory beyond the file": b"II*\0\xf0\xff\xff\xff" + bytes(100),
    "BigTIFF directory at 2^64": b"II+\0\x08\0\0\0" + b"\xff" * 8 + bytes(100),
    "BigTIFF of 2^64 tags": b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0" + b"\xff" * 8 + bytes(100),
    "NPY of 2^60 pixels": _array(f"({2**30}, {2**30}, 5)"),
    "NPY of 10^18 rows": _array(f"({10**18 - 1}, 1, 5)"),
    "NPY of 10^5000 rows": _array(f"({'9' * 5000}, 1, 5)"),
    "NPY of no pixels": _array("(0, 7, 5)"),
    "NPY larger than its file": _array("(6000, 6000, 5)"),
    "NPY smaller than its file": _array("(1, 2, 5)"),
    "NPY of negative rows": _array("(-3, 7, 5)"),
    "NPY of objects": _array("(2, 5, 5)", "|O"),
    "NPY of objects, pickled": _array("(2, 5, 5)", "|O") + b"cos\nsystem\n(S'true'\ntR.",
    "NPY of records": _npy("{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (2, 5, 5)}"),
    "NPY of wide text": _array("(2, 5, 5)", "<U999999999"),
    "NPY header of 4 GB": _npy("{'descr': '<u2', 'fortran_order': False}", length=2**32 - 1),
    "NPY header in code": _npy("__import__('os').system('true')"),
    "NPY header in brackets": _npy("(" * 60_000),
    "NPY header of spaces": _npy("{'shape':" + " " * 65_000),
    "NPY two shapes": _npy(
        "{'descr': '<u2', 'fortran_order': False, 'shape': (5, 1, 2), 'shape': (5, 2, 5)}"
    ),
}
HARMLESS: dict[str, bytes] = {  # only the first frame, and what makes pixels, is ever read
    "GIF of 10,000 frames": _gif(1, 1, frame=(1, 1), frames=10_000),
    "TIFF whose directory leads to itself": _grey_tiff(3, 5, after=8),
    "TIFF of 1,000 directories": _many_directories(1000),
    "PNG iCCP": _png_with(chunk(b"iCCP", b"k\0\0" + _ZEROS)),
    "APNG of 2^31 frames": _png_with(chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))),
}
