"""What kind of file it is, told by the first bytes and never by a name."""

SIGNATURES = {  # the formats that are read
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "NPY": (b"\x93NUMPY",),
}
REFUSED = {  # well-known files that are named in the error
    b"%PDF": "PDF",
    b"8BPS": "Photoshop (PSD)",
    b"%!PS": "PostScript (EPS)",
    b"\xc5\xd0\xd3\xc6": "PostScript (EPS)",
    b"\0\0\x01\0": "icon (ICO)",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
    b"SIMPLE  =": "FITS",
    b"\xd7\xcd\xc6\x9a": "Windows metafile (WMF)",
    b"PK\x03\x04": "ZIP archive",
    b"\x1f\x8b": "gzip archive",
    b"version https://git-lfs": "Git LFS pointer (run `git lfs pull`)",
}
MARKUP = {b"<svg": "SVG", b"<!doctype html": "HTML", b"<html": "HTML", b"<?xml": "XML"}


class RefusedError(Exception):
    """The image cannot be used; the message is the reason, without where the image came from."""


def recognise(data: bytes) -> str:
    """Tell the format from the first bytes.

    Raises:
        RefusedError: it is not one of the formats that are read; the message names what it is.
    """
    if not data:
        raise RefusedError("the file is empty")
    for name, starts in SIGNATURES.items():
        if data.startswith(starts):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    raise RefusedError(
        f"unsupported format: {_name(data)}; JPEG, PNG, WebP, GIF, TIFF, BMP and .npy are read"
    )


def _name(data: bytes) -> str:
    """Name a file that is not read."""
    for start, name in REFUSED.items():
        if data.startswith(start):
            return name
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        return "AVIF" if brand in (b"avif", b"avis") else "HEIF (HEIC)" if _heif(brand) else "video"
    text = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(tuple(MARKUP)):
        return next(name for mark, name in MARKUP.items() if mark in text)
    return "unknown, begins with " + data[:8].hex(" ")


def _heif(brand: bytes) -> bool:
    return brand[:3] in (b"hei", b"hev", b"mif", b"msf")
