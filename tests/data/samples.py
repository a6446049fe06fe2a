"""Whole, ordinary files of the six formats that are read, and splits of them."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.data.images import noise, save
from vitrail.data.dataset import Split
from vitrail.data.folder import FileReader
from vitrail.data.loader import Batch


def photo(height: int = 37, width: int = 50, seed: int = 0) -> Image.Image:
    """Smooth colours with a little noise, as photographs have."""
    rough = Image.fromarray(noise(5, 7, 3, seed=seed)).resize((width, height), 3)
    grain = np.random.default_rng(seed).integers(-6, 7, (height, width, 3))
    return Image.fromarray((np.asarray(rough) + grain).clip(0, 255).astype(np.uint8))


def samples() -> dict[str, bytes]:
    """Whole, ordinary files of the six formats, in several forms."""
    image = photo()
    frames = [photo(seed=1), photo(seed=2)]
    return {
        "JPEG": save(image, "JPEG", 6, quality=90),
        "JPEG grey": save(image.convert("L"), "JPEG"),
        "JPEG progressive": save(image, "JPEG", progressive=True),
        "JPEG restart": save(image, "JPEG", restart_marker_blocks=2),
        "PNG": save(image, "PNG", 8),
        "PNG palette": save(image.quantize(16), "PNG", transparency=3),
        "WebP": save(image, "WEBP", 3, quality=80),
        "WebP lossless": save(image.convert("RGBA"), "WEBP", lossless=True),
        "WebP animated": save(image, "WEBP", save_all=True, append_images=frames),
        "GIF": save(image.quantize(32), "GIF"),
        "GIF animated": save(image, "GIF", save_all=True, append_images=frames),
        "TIFF": save(image, "TIFF", 5),
        "TIFF LZW": save(image, "TIFF", compression="tiff_lzw"),
        "TIFF deflate": save(image, "TIFF", compression="tiff_adobe_deflate"),
        "TIFF JPEG": save(image, "TIFF", compression="jpeg"),
        "BMP": save(image, "BMP"),
        "BMP palette": save(image.quantize(16), "BMP"),
    }


def make_split(root: Path, n: int = 11, broken: tuple[int, ...] = ()) -> Split:
    """Write photographs of several shapes; the broken ones are cut short, or not there."""
    keys = tuple(f"{i}.png" for i in range(n))
    for i, key in enumerate(keys):
        data = save(photo(14 + i % 3, 17 + i % 5, seed=i), "PNG")
        if i not in broken:
            (root / key).write_bytes(data)
        elif i % 2:
            (root / key).write_bytes(data[:60])
    return Split(keys, np.array([i % 3 for i in range(n)], np.int64), FileReader(root, keys))


def digest(batches: Iterable[Batch]) -> str:
    """Hash all that batches hold, but for the reasons of failures."""
    found = hashlib.sha256()
    for batch in batches:
        found.update(repr(tuple(batch.images.shape)).encode())
        for values in (batch.images.numpy(), batch.labels.numpy(), batch.samples, batch.epochs):
            found.update(np.ascontiguousarray(values).tobytes())
        found.update(repr([key for key, _ in batch.failures]).encode())
    return found.hexdigest()
