"""Time of the policies of augmentation on one core, beside timm's RandAugment on Pillow images.

    python benchmarks/augment.py [SIZE ...]

Each round runs every policy once on the same batch of 64 photographs, one after the other; the
table gives the median over the rounds in milliseconds an image. Vitrail turns a uint8 batch into a
uint8 batch; timm turns Pillow images into Pillow images, without the way to tensors and back.
"""

import random
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests import torchvision_operators

from vitrail.data.augment import AugmentConfig, Draw, policy_layers
from vitrail.data.augmentation.operations import apply

BATCH, ROUNDS = 64, 15
VITRAIL = {
    "randaugment": AugmentConfig(policy="randaugment"),
    "randaugment-increasing": AugmentConfig(policy="randaugment-increasing", magnitude_std=0.5),
    "trivialaugment": AugmentConfig(policy="trivialaugment"),
    "3-augment": AugmentConfig(policy="3-augment"),
    "jitter 0.4 0.4 0.4 0.1": AugmentConfig(jitter=(0.4, 0.4, 0.4, 0.1)),
}
TIMM = {
    "timm rand-m9-p1 (as randaugment)": "rand-m9-p1",
    "timm rand-m9-mstd0.5-inc1 (as -increasing)": "rand-m9-mstd0.5-inc1",
}


def main(sizes: list[int]) -> None:
    """Time every size."""
    torch.set_num_threads(1)
    torchvision_operators.register()
    from timm.data.auto_augment import rand_augment_transform

    for size in sizes:
        images = photographs(size)
        batch = torch.stack([torch.from_numpy(np.array(each)) for each in images])
        batch = batch.permute(0, 3, 1, 2).contiguous()
        runs: dict[str, Callable[[int], object]] = {
            name: partial(vitrail, batch, config) for name, config in VITRAIL.items()
        }
        for name, text in TIMM.items():
            transform = rand_augment_transform(text, {"img_mean": (128,) * 3})
            runs[name] = partial(one_by_one, transform, images)
        report(size, runs)


def photographs(size: int) -> list[Image.Image]:
    """Cut a batch of squares out of scikit-learn's two photographs."""
    sources = [Image.fromarray(each) for each in load_sample_images().images]
    rng = np.random.default_rng(0)
    crops = []
    for i in range(BATCH):
        left, top = rng.integers(0, 300), rng.integers(0, 100)
        side = rng.integers(200, 320)
        box = (left, top, left + side, top + side)
        crops.append(sources[i % 2].resize((size, size), box=box))
    return crops


def vitrail(batch: torch.Tensor, config: AugmentConfig, epoch: int) -> torch.Tensor:
    """Draw and apply the operations for one batch."""
    draw = Draw(0, np.full(BATCH, epoch), np.arange(BATCH))
    return apply(batch, policy_layers(draw, config, (batch.shape[2], batch.shape[3])))


def one_by_one(
    transform: Callable[[Image.Image], Image.Image], images: list[Image.Image], epoch: int
) -> list[Image.Image]:
    """Transform Pillow images; what is drawn goes on from epoch to epoch by itself."""
    return [transform(each) for each in images]


def report(size: int, runs: dict[str, Callable[[int], object]]) -> None:
    """Time all in turns; the first round does not count."""
    seconds: dict[str, list[float]] = {each: [] for each in runs}
    random.seed(0)
    np.random.seed(0)
    for epoch in range(ROUNDS + 1):
        for each, run in runs.items():
            start = time.perf_counter()
            run(epoch)
            seconds[each].append(time.perf_counter() - start)
    print(f"{BATCH} images of {size} px, torch {torch.__version__}, one thread")
    print("| policy | ms an image | least to most |\n|---|---|---|")
    for each, times in seconds.items():
        per_image = [1e3 * t / BATCH for t in times[1:]]
        spread = f"{min(per_image):.3f} to {max(per_image):.3f}"
        print(f"| {each} | {statistics.median(per_image):.3f} | {spread} |")


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [64, 224])
