"""A contact sheet of what the model will really see: its own crops, moves and colours."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from vitrail.data.dataset import Data, LabelSets, Split
from vitrail.data.loading.images import Batch, FileImages, Reader, take_labels
from vitrail.data.loading.order import Order, part_size
from vitrail.errors import DataError
from vitrail.explain.panels import table
from vitrail.explain.render import Picture, enlarge, to_picture
from vitrail.objectives.classify import Classify
from vitrail.objectives.losses import Loss
from vitrail.train.config import RunConfig
from vitrail.train.setup import allowed

CELL = 112  # pixels that a small image is enlarged to, at least
LONGEST = 24  # letters of a class name


def contact_sheet(config: RunConfig, data: Data, *, images: int, epochs: int) -> Picture:
    """Draw the first training images, plain and as they are varied from epoch to epoch.

    The column `step 0` is exactly what the model gets in its first step, mixing included; in the
    later ones images are not mixed, since their partners differ.

    Args:
        config: of the training; its seed decides what is shown.
        images: how many rows, at most those of a batch.
        epochs: how many varied columns, at least 1.
    Raises:
        ConfigError: the settings do not fit each other.
        DataError: none of the images can be read.
    """
    split = data.splits["train"]
    size = config.model.resolve(len(data.classes), config.input.channels).image_size
    # What is divided by mean and deviation is shown multiplied again: any will do.
    preprocess = config.input.replace(normalise="given").preprocess(size)
    augmentation = allowed(config.augment, data)
    plain = augmentation.replace(mixup=0.0, cutmix=0.0)
    part_size(config.train.batch_size, 1, repeats=config.data.sampling.repeats)
    order = Order(split, config.seed, config.data.sampling)
    samples, passes = order.batch(0, config.train.batch_size)  # whole: neighbours are mixed
    columns: dict[str, list[Tensor]] = {}
    originals = _load(FileImages(split, preprocess), samples, passes, None)
    if not len(originals.labels):
        raise DataError(f"no readable image in the first batch: {originals.failures[0][1]}")
    columns["image"] = list(originals.images)
    for epoch in range(epochs):
        batch = _load(
            FileImages(split, preprocess, augmentation), samples, passes + epoch, config.seed
        )
        objective = Classify(
            nn.Linear(1, 1),  # only tells the device
            preprocess,
            augmentation if epoch == 0 else plain,
            loss=Loss(len(data.classes)),  # only makes the targets
            seed=config.seed,
        )
        seen, _ = objective.prepare(batch)
        name = "step 0" if epoch == 0 else f"epoch {epoch}"
        columns[name] = list(preprocess.denormalise(seen))
    names = [_name(data, split, int(i)) for i in originals.samples[:images]]
    cells = [
        [enlarge(to_picture(column[row]), CELL) for column in columns.values()]
        for row in range(len(names))
    ]
    note = f"{size[0]} x {size[1]} pixels, seed {config.seed}"
    return table(cells, names, list(columns), f"{data.name}: what the model sees", note)


def _load(
    images: FileImages, samples: NDArray[np.int64], epochs: NDArray[np.int64], seed: int | None
) -> Batch:
    """Read samples as a training would; those that cannot be read are left out."""
    reader = Reader(images, seed)
    rows, pixels, failures = reader(np.concatenate([samples, epochs]), None, np.zeros(2, np.int64))
    assert isinstance(pixels, Tensor)  # there is no room, so they come as they are
    labels = take_labels(images.split.labels, samples[rows])
    return Batch(pixels, labels, samples[rows], epochs[rows], failures)


def _name(data: Data, split: Split, i: int) -> str:
    """Name the class of a sample, or its classes."""
    labels = split.labels
    numbers = labels[i].tolist() if isinstance(labels, LabelSets) else [int(labels[i])]
    name = ", ".join(data.classes[label] for label in numbers) or "(none)"
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
