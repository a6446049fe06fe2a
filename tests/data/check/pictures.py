"""Photograph-like pictures and a folder of them with known faults."""

import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from vitrail.data.keyed import uniform

CLASSES = ("ash", "birch", "cedar", "oak", "yew")


def picture(number: int, low: int = 40, high: int = 90) -> Image.Image:
    """Draw smooth colours, a few shapes and a little grain; each number is another picture."""
    u = uniform("picture", 7, 0, number, 2 + 3 * 25 + 4 * 9)[0]
    height, width = (low + (u[:2] * (high + 1 - low)).astype(int)).tolist()
    coarse = Image.fromarray((u[2:77].reshape(5, 5, 3) * 255).astype(np.uint8))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.float32)
    y, x = np.mgrid[:height, :width].astype(np.float32) / max(height, width)
    for row, column, tall, wide, box, *colour, _ in u[77:].reshape(4, 9):
        tall, wide = 0.05 + 0.2 * tall, 0.05 + 0.2 * wide
        down, right = np.abs(y - row) / tall, np.abs(x - column) / wide
        inside = np.maximum(down, right) < 1 if box < 0.5 else down**2 + right**2 < 1
        pixels[inside] = np.array(colour) * 255
    grain = uniform("grain", 7, 0, number, height * width)[0].reshape(height, width, 1)
    return Image.fromarray((pixels + 12 * (grain - 0.5)).clip(0, 255).astype(np.uint8))


def encode(image: Image.Image, quality: int = 90) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def recoded(image: Image.Image, scale: float = 0.9, quality: int = 70) -> bytes:
    """Another file of the same picture: resized by a tenth, and with more loss."""
    size = (round(image.width * scale), round(image.height * scale))
    return encode(image.resize(size, Image.Resampling.BICUBIC), quality)


@dataclass
class Planted:
    """What is wrong in a folder, by key."""

    images: int
    truncated: set[str] = field(default_factory=set)
    near: dict[str, str] = field(default_factory=dict)  # in train, and what it is a copy of
    leaks: dict[str, str] = field(default_factory=dict)
    conflicts: dict[str, str] = field(default_factory=dict)

    @property
    def all(self) -> set[str]:
        """Give every image that is named in some way."""
        pairs = {**self.near, **self.leaks, **self.conflicts}
        return self.truncated | set(pairs) | set(pairs.values())


def plant(root: Path, images: int) -> Planted:
    """Fill a folder: 1 % truncated, 0.5 % recoded across splits, 3 leaks, 2 wrong labels."""
    keys = []
    for i in range(images):
        place = (i * 0.618034) % 1  # spreads the splits over the classes
        split = "train" if place < 0.7 else "val" if place < 0.85 else "test"
        keys.append(f"{split}/{CLASSES[i % len(CLASSES)]}/{i:05d}.jpg")
    for split in ("train", "val", "test"):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
    for i, key in enumerate(keys):
        (root / key).write_bytes(encode(picture(i)))
    return _spoil(root, keys, Planted(images))


def _spoil(root: Path, keys: list[str], planted: Planted) -> Planted:
    """Overwrite training images with what is wrong; no image is used twice."""
    count = len(CLASSES)
    free = {
        (split, label): [i for i, key in enumerate(keys) if key.startswith(f"{split}/{name}/")]
        for split in ("train", "val", "test")
        for label, name in enumerate(CLASSES)
    }
    for n in range(planted.images // 100):
        key = keys[free["train", n % count].pop()]
        data = (root / key).read_bytes()
        (root / key).write_bytes(data[: len(data) * (20 + 7 * n % 75) // 100])
        planted.truncated.add(key)
    for n in range(planted.images // 200):
        source = free[("val", "test")[n % 2], n % count].pop()
        key = keys[free["train", n % count].pop()]
        (root / key).write_bytes(recoded(picture(source), (0.9, 1.1)[n % 2], 70))
        planted.near[key] = keys[source]
    for n in range(3):
        source, key = free["test", n].pop(), keys[free["train", n].pop()]
        (root / key).write_bytes((root / keys[source]).read_bytes())
        planted.leaks[key] = keys[source]
    for n in range(2):
        source, key = free["train", n].pop(), keys[free["train", n + 2].pop()]
        (root / key).write_bytes((root / keys[source]).read_bytes())
        planted.conflicts[key] = keys[source]
    return planted
