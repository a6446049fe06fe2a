"""The images of a rehearsal: as the training would keep and read them, but few of them."""

import time
from dataclasses import replace

import numpy as np

from vitrail.data.dataset import Data, Split
from vitrail.data.loader import FileImages, Images, open_images, ordered_batches
from vitrail.data.loading.cache import CACHE_LIMIT, FittedImages, WholeImages
from vitrail.data.loading.filling import estimate_bytes
from vitrail.errors import ImageError
from vitrail.plan.measured import Cache
from vitrail.train.config import RunConfig
from vitrail.train.setup import Setup

FEW = 64  # images that are decoded to learn how long one takes
FILLING = 10.0  # seconds for which a cache is filled


def open_few(setup: Setup, data: Data, config: RunConfig) -> tuple[Setup, Cache, float]:
    """Open the images as the training would, but keep no more of them than are soon decoded.

    Returns:
        also the seconds to decode one image in one process.
    Raises:
        DataError: no image can be decoded.
    """
    augments = {"train": config.augment, "val": config.augment.replace(crop_area=None)}
    files = {
        name: FileImages(data.splits[name], setup.preprocess, each)
        for name, each in augments.items()
    }
    decode = _decode_seconds(files["train"])
    opened: dict[str, Images] = dict(files)
    kinds, sizes = {}, {name: estimate_bytes(each) for name, each in files.items()}
    kept = inside = seen = count = 0
    for name, images in files.items():
        kinds[name] = kind = _kind(images, sizes[name], config)
        if kind == "none":
            continue
        few = _spread(images.split, max(FEW, int(FILLING / max(decode, 1e-9))))
        opened[name] = open_images(few, setup.preprocess, augments[name], 0, "ram")
        count += len(images.split)
        kept += sizes[name] if kind == "ram" else 0  # pages of a file can be given back
        if images.detail is None or not config.data.workers:  # else only workers look at it
            _touch(opened[name])
            inside += sizes[name]
            seen += sizes[name] * len(few) // len(images.split)
    each = decode / max(1, config.data.workers)
    cache = Cache(
        kind=kinds["train"],
        total=sizes["train"],
        kept=kept,
        inside=inside,
        seen=seen,
        filling=each * count,
        decoding=each * len(files["train"].split),
    )
    setup = replace(setup, train_images=opened["train"], val_images=opened["val"])
    return setup, cache, decode


def _kind(images: FileImages, size: int, config: RunConfig) -> str:
    """Say where a split is kept: none, ram or disk; as `open_images` decides."""
    if config.data.cache != "auto":
        return config.data.cache
    return "ram" if images.detail is None and size <= CACHE_LIMIT else "none"


def _decode_seconds(images: FileImages) -> float:
    """Decode some images for the random crops or as they are; give the mean time of one."""
    box = None if images.detail is None else np.full(4, 0.5)
    places = _places(len(images.split), FEW)
    begun = time.monotonic()
    for i in places:
        try:
            images.load(i, box)
        except ImageError:
            continue  # the training leaves it out too
    return (time.monotonic() - begun) / len(places)


def _places(n: int, count: int) -> list[int]:
    """Spread so many places over n, all of them if there are no more."""
    places: list[int] = np.linspace(0, n - 1, min(n, count)).astype(int).tolist()
    return places


def _spread(split: Split, count: int) -> Split:
    """Take so many samples, spread over the split."""
    return split if len(split) <= count else split.take(np.array(_places(len(split), count)))


def _touch(images: Images) -> None:
    """Map all kept images into memory, as a whole epoch would."""
    if isinstance(images, WholeImages):
        images.decoded.pixels[::4096].max(initial=0)
    elif isinstance(images, FittedImages):
        for _ in ordered_batches(images, batch_size=FEW, workers=0):
            pass
