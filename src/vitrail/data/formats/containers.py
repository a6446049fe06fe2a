"""Whether an image file is whole, and which of its parts reach the decoder.

Of a JPEG, PNG or WebP only the parts that make pixels are handed on: comments, XMP, colour
profiles, thumbnails and animation are dropped unread, so that nothing in them can change, slow or
break a decode. The one thing taken from the rest is the EXIF orientation.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from vitrail.data.formats.recognise import RefusedError, recognise

CHUNK_LIMIT = 100_000  # of one PNG; cameras and programs write some hundred
TEXT_LIMIT = 4 << 20  # bytes that the compressed texts of one PNG may inflate to
SCAN_LIMIT = 64  # of one JPEG: each goes over the whole image, though it may be 30 bytes long
JPEG_END = re.compile(rb"\xff\xd9")  # twice as fast as bytes.find, where 0xFF is frequent


@dataclass(frozen=True)
class Container:
    """The parts of an image file that the decoder needs."""

    format: str  # a key of SIGNATURES, or "WEBP"
    data: bytes
    orientation: int = 1  # EXIF, 1 to 8; 1 for TIFF, which the decoder turns upright itself
    size: tuple[int, int] | None = None  # height, width from the header, where it was read


def open_container(data: bytes) -> Container:
    """Recognise the format, check that the file is whole, and keep what makes pixels.

    Raises:
        RefusedError: the format is not read, or the file is cut off or damaged.
    """
    name = recognise(data)
    try:
        if name == "JPEG":
            return _jpeg(data)
        if name == "PNG":
            return _png(data)
        if name == "WEBP":
            return _webp(data)
    except (struct.error, IndexError, ValueError, zlib.error):
        raise RefusedError("the file is cut off or damaged") from None
    return Container(name, data)


def _jpeg(data: bytes) -> Container:
    """Keep the tables, the frame and the scans; JFIF and Adobe tell what the colours mean."""
    kept: list[bytes | memoryview] = [b"\xff\xd8"]
    orientation, frame = 1, b""
    for marker, body, end in _jpeg_segments(data):
        start = end  # of the coded pixels, after the last segment
        if marker == 0xE1 and body[2:8] == b"Exif\0\0" and orientation == 1:
            orientation = exif_orientation(body[8:])
        is_application = 0xE0 <= marker <= 0xEF or marker == 0xFE
        if not is_application or body[2:7] in (b"JFIF\0", b"Adobe"):
            kept.append(bytes((0xFF, marker)) + body)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame = bytes((marker,)) + body
    if not frame:
        raise RefusedError("JPEG without a frame header")
    height, width = struct.unpack_from(">HH", frame, 4)
    components = body[2]  # of the first scan
    kept += _jpeg_scans(data, start, single=frame[0] in (0xC0, 0xC1) and components == frame[8])
    return Container("JPEG", b"".join(kept), orientation, (height, width))


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Walk to the first scan: marker, segment with its length, and where it ends."""
    at = 2
    while True:
        at = data.find(b"\xff", at)
        if at < 0:
            raise RefusedError("JPEG is cut off in its header")
        while data[at] == 0xFF:  # padding before a marker
            at += 1
        marker, at = data[at], at + 1
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:  # these stand alone
            continue
        if marker == 0xD9:
            raise RefusedError("JPEG without an image")
        length = struct.unpack_from(">H", data, at)[0]
        if length < 2 or at + length > len(data):
            raise RefusedError("JPEG is cut off in its header")
        yield marker, data[at : at + length], at + length
        if marker == 0xDA:
            return
        at += length


def _jpeg_scans(data: bytes, start: int, single: bool) -> list[bytes | memoryview]:
    """Cut out the coded pixels, without whatever follows the end marker.

    Decoders fill a scan that ends too early with grey and only warn. Where one scan holds the
    whole image (sequential JPEG), its end marker is replaced by eight bytes that are no valid code:
    a whole image never needs them, and one that was cut runs out of data, which is an error.
    """
    found = JPEG_END.search(data, start)
    if found is None:
        raise RefusedError("JPEG is cut off: it has no end marker")
    coded = memoryview(data)[start : found.start()]
    if single:
        return [coded, b"\xff\0" * 8]
    scans = 1 + data.count(b"\xff\xda", start, found.start())
    if scans > SCAN_LIMIT:
        raise RefusedError(f"JPEG of {scans} scans; at most {SCAN_LIMIT} are read")
    return [coded, b"\xff\xd9"]


def _png(data: bytes) -> Container:
    """Keep the critical chunks and transparency; every checksum up to the end is verified."""
    kept, at, orientation, text = [data[:8]], 8, 1, TEXT_LIMIT
    header = b""
    for _ in range(CHUNK_LIMIT):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        checksum = struct.unpack_from(">I", data, at + 8 + length)[0]
        if zlib.crc32(kind + body) != checksum:
            raise RefusedError(f"PNG is damaged: checksum of its {_ascii(kind)} chunk")
        at += 12 + length
        if kind == b"IHDR":
            header = body
        if kind == b"tRNS":
            body = _scale_colour_key(body, header)
        if kind == b"eXIf":
            orientation = exif_orientation(body)
        elif kind in (b"zTXt", b"iTXt"):
            text -= _inflated(kind, body, text)
        elif kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            kept.append(struct.pack(">I4s", len(body), kind) + body)
            kept.append(struct.pack(">I", zlib.crc32(kind + body)))
        if kind == b"IEND":
            break
    else:
        raise RefusedError(f"PNG of more than {CHUNK_LIMIT} chunks")
    width, height = struct.unpack_from(">II", header)
    return Container("PNG", b"".join(kept), orientation, (height, width))


def _scale_colour_key(body: bytes, header: bytes) -> bytes:
    """Bring the transparent colour to the 8 bits that the decoder compares it with.

    The decoder scales 2- and 4-bit grey to 8 bits and keeps the high byte of 16-bit colour, but
    leaves the key as it stands in the file.
    """
    depth, kind = header[8], header[9]
    if kind == 0 and depth in (2, 4):
        key = struct.unpack_from(">H", body)[0] & ((1 << depth) - 1)
        return struct.pack(">H", key * 255 // ((1 << depth) - 1))
    if kind == 2 and depth == 16:
        return bytes((0, body[0], 0, body[2], 0, body[4]))
    return body


def _inflated(kind: bytes, body: bytes, limit: int) -> int:
    """Count the bytes a compressed text inflates to; more than `limit` is a bomb."""
    rest = body.split(b"\0", 1)[1]
    if kind == b"iTXt":
        if rest[0] == 0:  # not compressed
            return 0
        rest = rest[2:].split(b"\0", 2)[2]
    else:
        rest = rest[1:]
    count, inflate = 0, zlib.decompressobj()
    while rest and not inflate.eof:
        count += len(inflate.decompress(rest, 1 << 16))
        rest = inflate.unconsumed_tail
        if count > limit:
            raise RefusedError(f"PNG text inflates to more than {TEXT_LIMIT >> 20} MiB")
    return count


def _webp(data: bytes) -> Container:
    """Check the length that the header states and read the size of the canvas."""
    length = struct.unpack_from("<I", data, 4)[0] + 8
    if length > len(data):
        raise RefusedError(f"WebP is cut off: {len(data)} of {length} bytes")
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[i : i + 3], "little") + 1 for i in (24, 27))
    elif kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (value & 0x3FFF for value in struct.unpack_from("<HH", data, 26))
    else:
        raise RefusedError("WebP without an image")
    at, orientation = 12, 1
    while at + 8 <= length:
        name, size = struct.unpack_from("<4sI", data, at)
        if name == b"EXIF":
            orientation = exif_orientation(data[at + 8 : at + 8 + size].removeprefix(b"Exif\0\0"))
        at += 8 + size + size % 2
    return Container("WEBP", data[:length], orientation, (height, width))


def exif_orientation(exif: bytes) -> int:
    """Read the orientation, 1 to 8, from the first directory; 1 where it cannot be read."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, at)
            if tag == 0x0112:
                return value if kind == 3 and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def _ascii(raw: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 else "?" for byte in raw)
