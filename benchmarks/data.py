"""From JPEG files to training batches, beside timm's and Hugging Face's loaders.

    python benchmarks/data.py [IMAGES]

500 x 375 JPEGs, random resized crop to 224, flip, normalised float32 batches of 64; one thread in
the main process, and 0, 1 or 2 workers. In each round every loader runs over the same files, one
after the other; the table gives the median rate and the median of the ratios to Vitrail in the same
round, with their spread. Files are in the page cache.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.pictures import photo_folder
from tests import torchvision_operators

from vitrail.data.augment import AugmentConfig, Draw, augment
from vitrail.data.loader import open_images, train_batches
from vitrail.data.preprocess import Preprocess
from vitrail.data.sources import open_to_measure

ROUNDS, SIZE, BATCH = 5, 224, 64
CROPS = AugmentConfig(crop_area=(0.08, 1.0), flip=True)


def vitrail_loader(root: Path, workers: int) -> Iterable[Any]:
    """One epoch of Vitrail's loader, with what the training does to a batch."""
    split = open_to_measure(str(root)).splits["all"]
    preprocess = Preprocess(size=(SIZE, SIZE))
    images = open_images(split, preprocess, CROPS, workers)
    steps = range(len(split) // BATCH)
    for batch in train_batches(images, seed=0, batch_size=BATCH, steps=steps, workers=workers):
        draw = Draw(0, batch.epochs, batch.samples)
        yield preprocess.normalise(augment(batch.images, draw, CROPS)), batch.labels


def timm_loader(root: Path, workers: int) -> Iterable[Any]:
    """One epoch of timm's, with its plainest training transform."""
    from timm.data import ImageDataset, create_loader

    return create_loader(
        ImageDataset(str(root)),
        input_size=(3, SIZE, SIZE),
        batch_size=BATCH,
        is_training=True,
        use_prefetcher=False,
        color_jitter=None,
        interpolation="bicubic",
        num_workers=workers,
        pin_memory=False,
        persistent_workers=False,
    )


def huggingface_loader(root: Path, workers: int) -> Iterable[Any]:
    """One epoch as the image classification example of transformers sets it up."""
    from datasets import load_dataset
    from torchvision import transforms as t

    change = t.Compose(
        [
            t.RandomResizedCrop(SIZE),
            t.RandomHorizontalFlip(),
            t.ToTensor(),
            t.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )
    data = load_dataset("imagefolder", data_dir=str(root), split="train")

    def apply(rows: dict[str, Any]) -> dict[str, Any]:
        return {
            "pixels": [change(image.convert("RGB")) for image in rows["image"]],
            "label": rows["label"],
        }

    data.set_transform(apply)
    return torch.utils.data.DataLoader(
        data, BATCH, shuffle=True, num_workers=workers, drop_last=True
    )


LOADERS: dict[str, Callable[[Path, int], Iterable[Any]]] = {
    "vitrail": vitrail_loader,
    "timm": timm_loader,
    "datasets and torchvision": huggingface_loader,
}


def main(count: int) -> None:
    """Write the files, run all loaders in turns, print the tables."""
    torchvision_operators.register()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_HOME"] = folder  # datasets keeps its copy there
        root = photo_folder(Path(folder) / "photos", count)
        print(f"{count} JPEG files of 500 x 375, torch {torch.__version__}")
        print("| workers | loader | images/s | x vitrail | spread |\n|---|---|---|---|---|")
        for workers in (0, 1, 2):
            report(root, count, workers)


def report(root: Path, count: int, workers: int) -> None:
    """Time all loaders in turns; the first round does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in LOADERS}
    for _ in range(ROUNDS + 1):
        for name, load in LOADERS.items():
            batches = iter(load(root, workers))
            start = time.perf_counter()
            seen = sum(BATCH for _ in batches)
            assert seen >= count - BATCH
            seconds[name].append(time.perf_counter() - start)
    images = count // BATCH * BATCH
    for name, times in seconds.items():
        ratios = [b / a for a, b in zip(times[1:], seconds["vitrail"][1:], strict=True)]
        rate = images / statistics.median(times[1:])
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"| {workers} | {name} | {rate:.0f} | {statistics.median(ratios):.2f} | {spread} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 640)
