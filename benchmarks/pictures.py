"""Photograph-like pictures for the benchmarks: detail at every scale, as photographs have."""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def photograph(height: int, width: int, seed: int) -> Image.Image:
    """Colours whose amplitude falls with the frequency, 1/f, from a keyed generator."""
    generator = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    fall = 1 / np.maximum(np.hypot(rows, columns), 1 / max(height, width))
    shared = _noise(generator, fall, (height, width))  # brightness varies more than colour
    channels = [shared + 0.35 * _noise(generator, fall, (height, width)) for _ in range(3)]
    pixels = np.stack(channels, -1)
    low, high = np.percentile(pixels, [1, 99])
    return Image.fromarray((255 * (pixels - low) / (high - low)).clip(0, 255).astype(np.uint8))


def _noise(generator: np.random.Generator, fall: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    spectrum = fall * np.exp(2j * np.pi * generator.random(fall.shape))
    return np.fft.irfft2(spectrum, size) / np.fft.irfft2(spectrum, size).std()


def jpeg(image: Image.Image, quality: int = 85) -> bytes:
    """Encode with 4:2:0 colour, as cameras do."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=2)
    return buffer.getvalue()


def photo_folder(
    root: Path, count: int, *, size: tuple[int, int] = (375, 500), classes: int = 10
) -> Path:
    """Write `count` JPEG files, each with one of a few contents and a number of its own."""
    contents = [photograph(*size, seed) for seed in range(min(count, 40))]
    for i in range(count):
        place = root / f"class{i % classes}"
        place.mkdir(parents=True, exist_ok=True)
        image = contents[i % len(contents)].copy()
        image.putpixel((i % size[1], i // size[1] % size[0]), (i % 256, i // 256 % 256, 7))
        (place / f"{i:06d}.jpg").write_bytes(jpeg(image))
    return root
