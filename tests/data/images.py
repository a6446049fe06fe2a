"""Image files made for the tests, each with the pixels that it must decode to."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitrail.data.decode import decode

Bytes8 = NDArray[np.uint8]
HEIGHT, WIDTH = 40, 24  # upright; multiples of 8, so that flat JPEG blocks are exact

# EXIF 2.3, 4.6.4 A: which side of the upright image the 0th row and the 0th column of the file are
STORED_AT: dict[int, Callable[[Bytes8, Bytes8, int, int], tuple[Bytes8, Bytes8]]] = {
    1: lambda r, c, h, w: (r, c),  # top, left
    2: lambda r, c, h, w: (r, w - 1 - c),  # top, right
    3: lambda r, c, h, w: (h - 1 - r, w - 1 - c),  # bottom, right
    4: lambda r, c, h, w: (h - 1 - r, c),  # bottom, left
    5: lambda r, c, h, w: (c, r),  # left, top
    6: lambda r, c, h, w: (c, w - 1 - r),  # right, top
    7: lambda r, c, h, w: (h - 1 - c, w - 1 - r),  # right, bottom
    8: lambda r, c, h, w: (h - 1 - c, r),  # left, bottom
}


def stored(upright: NDArray, orientation: int) -> NDArray:
    """Lay an upright image out as a file of this EXIF orientation has it."""
    height, width = upright.shape[:2]
    shape = (width, height) if orientation >= 5 else (height, width)
    rows, columns = np.indices(shape)
    return upright[STORED_AT[orientation](rows, columns, height, width)]


def noise(*shape: int, seed: int = 0, high: int = 256) -> Bytes8:
    return np.random.default_rng(seed).integers(0, high, shape).astype(np.uint8)


def blocks(channels: int, seed: int = 0) -> Bytes8:
    """Flat squares of 8x8 pixels, which JPEG of quality 100 keeps exactly."""
    small = noise(HEIGHT // 8, WIDTH // 8, channels, seed=seed)
    return small.repeat(8, axis=0).repeat(8, axis=1)


def save(image: Image.Image, kind: str, orientation: int = 1, **options: object) -> bytes:
    """Write a file; an orientation other than 1 is stated in its EXIF."""
    if orientation != 1:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def pixels(data: bytes, channels: int = 3, **options: object) -> Bytes8:
    """Decode to [height, width, channels]."""
    tensor = decode(data, channels=channels, where="x", max_pixels=10_000_000, **options)
    return tensor.permute(1, 2, 0).numpy()


def png(kind: int, depth: int, rows: list[bytes], size: tuple[int, int], *extra: bytes) -> bytes:
    """Write a PNG by hand: colour type, bits, raw rows, (height, width), chunks before the data."""
    header = struct.pack(">IIBBBBB", size[1], size[0], depth, kind, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", data), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


# --- what each mode must become, in plain numpy ---


def on_white(colours: Bytes8, alpha: Bytes8) -> Bytes8:
    exact = colours * (alpha / 255.0) + 255.0 * (1 - alpha / 255.0)
    return np.floor(exact + 0.5).astype(np.uint8)


def grey3(grey: NDArray) -> Bytes8:
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


def cmyk_to_rgb(cmyk: Bytes8) -> Bytes8:
    """(255 - c) * (255 - k) / 255, with the rounding on the part that is taken away."""
    light = 255 - cmyk[..., 3:].astype(int)
    return (light - np.floor(cmyk[..., :3] * light / 255 + 0.5)).astype(np.uint8)


def ycck_to_rgb(ycck: Bytes8) -> Bytes8:
    """ITU-R 601 in the integers of libjpeg gives the inks, which are inverted, as is K."""
    y, cb, cr, k = (ycck[..., i].astype(int) for i in range(4))
    cb, cr = cb - 128, cr - 128
    red = y + ((91881 * cr + 32768) >> 16)
    green = y + ((-46802 * cr - 22554 * cb + 32768) >> 16)
    blue = y + ((116130 * cb + 32768) >> 16)
    inks = np.stack([red, green, blue], axis=-1).clip(0, 255)
    return cmyk_to_rgb(np.concatenate([inks, 255 - k[..., None]], axis=-1).astype(np.uint8))


# --- one file of each mode ---

Made = tuple[bytes, Bytes8]  # the file, and the upright RGB pixels that it must give


def made(
    mode: str, kind: str, upright: NDArray, expected: Bytes8, orientation: int, **options: object
) -> Made:
    image = Image.fromarray(stored(upright, orientation))
    image = image if image.mode == mode else image.convert(mode)
    return save(image, kind, orientation, **options), expected


def bilevel(kind: str, orientation: int) -> Made:
    upright = noise(HEIGHT, WIDTH, high=2) * 255
    return made("1", kind, upright, grey3(upright), orientation)


def grey(kind: str, orientation: int) -> Made:
    upright = noise(HEIGHT, WIDTH)
    return made("L", kind, upright, grey3(upright), orientation)


def grey_alpha(kind: str, orientation: int) -> Made:
    upright = noise(HEIGHT, WIDTH, 2)
    image = Image.fromarray(stored(upright, orientation), "LA")
    expected = grey3(on_white(upright[..., 0], upright[..., 1]))
    return save(image, kind, orientation), expected


def palette(kind: str, orientation: int, *, alpha: str = "") -> Made:
    colours, alphas = noise(256, 3, seed=1), noise(256, seed=2)
    upright = noise(HEIGHT, WIDTH)
    image = Image.fromarray(stored(upright, orientation), "P")
    image.putpalette(colours.tobytes())
    expected = colours[upright]
    if alpha == "tRNS":
        expected = on_white(expected, alphas[upright][..., None])
        return save(image, kind, orientation, transparency=alphas.tobytes()), expected
    if alpha == "PA":
        opacity = noise(HEIGHT, WIDTH, seed=3)
        image = image.convert("PA")
        image.putalpha(Image.fromarray(stored(opacity, orientation)))
        expected = on_white(expected, opacity[..., None])
    return save(image, kind, orientation), expected


def rgb(kind: str, orientation: int, **options: object) -> Made:
    upright = noise(HEIGHT, WIDTH, 3)
    return made("RGB", kind, upright, upright, orientation, **options)


def rgba(kind: str, orientation: int, **options: object) -> Made:
    upright = noise(HEIGHT, WIDTH, 4)
    expected = on_white(upright[..., :3], upright[..., 3:])
    return made("RGBA", kind, upright, expected, orientation, **options)


def cmyk(kind: str, orientation: int) -> Made:
    upright = blocks(4)
    image = Image.fromarray(stored(upright, orientation), "CMYK")
    return save(image, kind, orientation, quality=100, subsampling=0), cmyk_to_rgb(upright)


def ycck(kind: str, orientation: int) -> Made:
    """Pillow writes no YCCK: the Adobe marker of a CMYK file is told that the inks are YCC."""
    upright = blocks(4)
    image = Image.fromarray(255 - stored(upright, orientation), "CMYK")  # Pillow inverts
    data = bytearray(save(image, kind, orientation, quality=100, subsampling=0))
    data[data.index(b"Adobe") + 11] = 2
    return bytes(data), ycck_to_rgb(upright)


def rgb_jpeg(kind: str, orientation: int) -> Made:
    """Grey blocks, as the rounding of YCbCr is not what is tested."""
    upright = grey3(blocks(1)[..., 0])
    return made("RGB", kind, upright, upright, orientation, quality=100)


def grey16(kind: str, orientation: int) -> Made:
    upright = np.random.default_rng(4).integers(0, 65536, (HEIGHT, WIDTH)).astype(np.uint16)
    expected = grey3(np.floor(upright / 257 + 0.5))
    return made("I;16", kind, upright, expected, orientation)


def grey32(kind: str, orientation: int) -> Made:
    upright = np.random.default_rng(5).integers(0, 65536, (HEIGHT, WIDTH)).astype(np.int32)
    return made("I", kind, upright, grey3(np.floor(upright / 257 + 0.5)), orientation)


def floating(kind: str, orientation: int) -> Made:
    upright = np.random.default_rng(6).random((HEIGHT, WIDTH), dtype=np.float32)
    expected = grey3(np.floor(upright.astype(np.float64) * 255 + 0.5))
    return made("F", kind, upright, expected, orientation)


MODES: dict[str, Callable[[int], Made]] = {
    "1 PNG": lambda o: bilevel("PNG", o),
    "1 TIFF": lambda o: bilevel("TIFF", o),
    "L PNG": lambda o: grey("PNG", o),
    "L TIFF": lambda o: grey("TIFF", o),
    "LA PNG": lambda o: grey_alpha("PNG", o),
    "LA TIFF": lambda o: grey_alpha("TIFF", o),
    "P PNG": lambda o: palette("PNG", o),
    "P TIFF": lambda o: palette("TIFF", o),
    "P+tRNS PNG": lambda o: palette("PNG", o, alpha="tRNS"),
    "PA TIFF": lambda o: palette("TIFF", o, alpha="PA"),
    "RGB PNG": lambda o: rgb("PNG", o),
    "RGB TIFF": lambda o: rgb("TIFF", o),
    "RGB TIFF LZW": lambda o: rgb("TIFF", o, compression="tiff_lzw"),
    "RGB WebP": lambda o: rgb("WEBP", o, lossless=True),
    "RGB JPEG": lambda o: rgb_jpeg("JPEG", o),
    "RGBA PNG": lambda o: rgba("PNG", o),
    "RGBA TIFF": lambda o: rgba("TIFF", o),
    "RGBA WebP": lambda o: rgba("WEBP", o, lossless=True, exact=True),
    "CMYK JPEG": lambda o: cmyk("JPEG", o),
    "CMYK TIFF": lambda o: cmyk("TIFF", o),
    "YCCK JPEG": lambda o: ycck("JPEG", o),
    "I;16 PNG": lambda o: grey16("PNG", o),
    "I;16 TIFF": lambda o: grey16("TIFF", o),
    "I TIFF": lambda o: grey32("TIFF", o),
    "F TIFF": lambda o: floating("TIFF", o),
}
