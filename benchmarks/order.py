"""What the loader costs beside the decoding itself: the order, the workers, the cache.

    python benchmarks/order.py

Times are on one thread each. Loader and bare loop decode the same images with the same crops, one
after the other in each round; the table gives medians over the rounds, and of the ratios within
one. Processor time is that of all processes together.
"""

import io
import os
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
from vitrail.data.augment import AugmentConfig
from vitrail.data.dataset import Names, Split
from vitrail.data.folder import FileReader
from vitrail.data.keyed import uniform
from vitrail.data.loader import train_batches
from vitrail.data.loading.cache import open_images
from vitrail.data.loading.images import FileImages, Images
from vitrail.data.loading.order import Order
from vitrail.data.loading.sampling import ONCE_EACH, SamplingConfig
from vitrail.data.preprocess import Preprocess

ROUNDS = 7
IMAGENET = 1_281_167
IMAGES, BATCH, STEPS = 256, 64, 16
CROPS = AugmentConfig(crop_area=(0.08, 1.0))
SIZE = (224, 224)


def main() -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    order()
    with tempfile.TemporaryDirectory() as folder:
        split = photographs(Path(folder))
        workers(split)
        cache(split)


def order() -> None:
    """Time a pass over as many images as ImageNet has, and a batch in the middle of it."""
    labels = np.random.default_rng(0).integers(0, 1000, IMAGENET)
    split = Split(range(IMAGENET), labels, bytes)
    print(f"{IMAGENET:,} images\n\n| order | pass, ms | batch of 1023, µs | memory, MB |")
    print("|---|---|---|---|")
    for name, sampling in {
        "every image once": ONCE_EACH,
        "classes equally": SamplingConfig(balance="class"),
        "repeated 3 times": SamplingConfig(repeats=3),
    }.items():
        passes, batches = [], []
        for number in range(ROUNDS):
            stream = Order(split, number, sampling)
            passes.append(seconds(lambda stream=stream: stream.batch(0, 1023)))
            batches.append(seconds(lambda stream=stream: stream.batch(500, 1023)))
        tracemalloc.start()
        Order(split, 99, sampling).batch(0, 1023)
        memory = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        print(
            f"| {name} | {1e3 * statistics.median(passes):.1f} (least {1e3 * min(passes):.1f}) "
            f"| {1e6 * statistics.median(batches):.0f} | {memory / 1e6:.0f} |"
        )


def workers(split: Split) -> None:
    """Compare the loader with a bare loop that decodes."""
    images = FileImages(split, Preprocess(size=SIZE), CROPS)
    ready = Ready(split, images.preprocess)
    ways: dict[str, Callable[[], None]] = {"bare loop": lambda: bare(images)}
    ways |= {f"loader, {n} workers": lambda n=n: run(images, n) for n in (0, 1, 2)}
    ways |= {f"no decoding, {n} workers": lambda n=n: run(ready, n) for n in (0, 1, 2)}
    wall: dict[str, list[float]] = {name: [] for name in ways}
    work: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            before = processor()
            wall[name].append(seconds(way))
            work[name].append(processor() - before)
    print(f"\n500x375 JPEG to {SIZE[0]} px, random crops, {STEPS} batches of {BATCH}\n")
    print("| | ms an image | processor, ms an image | × bare loop, processor | spread |")
    print("|---|---|---|---|---|")
    count = BATCH * STEPS / 1e3
    for name in ways:
        ratios = [a / b for a, b in zip(work[name], work["bare loop"], strict=True)]
        print(
            f"| {name} | {statistics.median(wall[name]) / count:.3f} "
            f"| {statistics.median(work[name]) / count:.3f} | {statistics.median(ratios):.2f} "
            f"| {min(ratios):.2f} to {max(ratios):.2f} |"
        )


def cache(split: Split) -> None:
    """Count batches a second from decoded images in memory."""
    print("\n| from memory | workers | batches a second |\n|---|---|---|")
    for name, size, augment, batch in [
        ("32 px, batches of 128", (32, 32), AugmentConfig(), 128),
        ("224 px, batches of 64", SIZE, AugmentConfig(), 64),
        ("224 px, batches of 64, random crops", SIZE, CROPS, 64),
    ]:
        images = open_images(split, Preprocess(size=size), augment, 0, "ram")
        for count in (0, 2) if augment is CROPS else (0,):
            times = [
                seconds(lambda i=images, n=count, b=batch: run(i, n, b, 64)) for _ in range(ROUNDS)
            ]
            print(f"| {name} | {count} | {64 / statistics.median(times):.0f} |")


def bare(images: FileImages) -> None:
    """Decode the images of the batches, and do nothing else."""
    stream = Order(images.split, 0, ONCE_EACH)
    for k in range(STEPS):
        samples, epochs = stream.batch(k, BATCH)
        for i, box in zip(samples, uniform("crop", 0, epochs, samples, 4), strict=True):
            images.load(int(i), box)


def run(images: Images, count: int, batch: int = BATCH, steps: int = STEPS) -> None:
    """Take all batches."""
    for _ in train_batches(images, seed=0, batch_size=batch, steps=range(steps), workers=count):
        pass


class Ready:
    """Gives the same image always."""

    def __init__(self, split: Split, preprocess: Preprocess) -> None:
        """Of a split."""
        self.split = split
        self.preprocess = preprocess
        self.image = torch.zeros(3, *preprocess.size, dtype=torch.uint8)

    def load(self, i: int, box: object) -> torch.Tensor:
        """Give it."""
        return self.image


def photographs(folder: Path) -> Split:
    """Write smooth pictures with noise, as large as those of ImageNet are on average."""
    keys = Names.of(f"{i}.jpg" for i in range(IMAGES))
    for i, key in enumerate(keys):
        random = np.random.default_rng(i)
        rough = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        pixels = np.asarray(rough.resize((500, 375), 3)) + random.integers(-8, 9, (375, 500, 3))
        out = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=90)
        (folder / key).write_bytes(out.getvalue())
    return Split(keys, np.arange(IMAGES) % 10, FileReader(folder, keys))


def seconds(do: Callable[[], object]) -> float:
    """Time something."""
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


def processor() -> float:
    """Give the processor time of this process and of all that it has ended."""
    return sum(os.times()[:4])


if __name__ == "__main__":
    main()
