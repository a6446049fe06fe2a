"""Run a trained model over a split and keep what it says."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from vitrail.data.dataset import Data, LabelSets, Split
from vitrail.data.loader import FileImages, ordered_batches, require_each_once
from vitrail.data.preprocess import Preprocess
from vitrail.errors import DataError, did_you_mean
from vitrail.models import Backbone
from vitrail.objectives.outputs import collect_logits
from vitrail.runs import Predictions

BATCH_SIZE = 256


def predict_split(
    model: Backbone,
    data: Data,
    split: str,
    *,
    workers: int = 0,
    tell: Callable[[int], None] = lambda images: None,
) -> Predictions:
    """Give the model's logits for every image of a split, through the model's own preprocessing.

    Classes are matched by name, so the data may have them in another order or lack some.

    Args:
        tell: called with the number of images done since the last call.
    Raises:
        DataError: there is no such split, a class is unknown to the model, or no image can be read.
    """
    if model.multi_label:
        raise DataError(
            f"data={data.name}: the model gives each image any number of classes; "
            "only models of one class for each image can be measured yet"
        )
    part = relabel(data, require_split(data, split), model.classes)
    preprocess = model.preprocess
    assert isinstance(preprocess, Preprocess)  # every loaded model has one
    images = FileImages(part, preprocess)
    batches = ordered_batches(images, batch_size=BATCH_SIZE, workers=workers)
    outputs = collect_logits(model, preprocess, batches, tell=tell)
    require_each_once(part, [outputs.samples], [outputs.failures])
    return Predictions(
        split=split,
        keys=tuple(part.keys[i] for i in outputs.samples),
        classes=model.classes,
        logits=outputs.logits,
        labels=outputs.labels,
        preprocess_hash=preprocess.hash,
        unreadable=outputs.failures,
    )


def require_split(data: Data, name: str) -> Split:
    """Look a split up. Raises DataError."""
    if name not in data.splits:
        raise DataError(
            f"data={data.name}: no split {name!r}{did_you_mean(name, data.splits)}; "
            f"there is {', '.join(data.splits)}"
        )
    return data.splits[name]


def final_split(data: Data) -> str:
    """Name the split that says how good a model is: test where there is one, else val, else all."""
    return next(name for name in ("test", "val", *data.splits) if name in data.splits)


def relabel(data: Data, split: Split, classes: tuple[str, ...]) -> Split:
    """Number the labels as the model does, by class name. Raises DataError."""
    if isinstance(split.labels, LabelSets):
        raise DataError(
            f"data={data.name}: its images have several labels each; only data with one class for "
            "each image can be measured yet"
        )
    used = split.counts(len(data.classes)) > 0
    unknown = [name for i, name in enumerate(data.classes) if used[i] and name not in classes]
    if unknown:
        raise DataError(
            f"data={data.name}: class {unknown[0]!r} is unknown to the model, which knows "
            f"{len(classes)} classes{did_you_mean(unknown[0], classes)}"
        )
    number = {name: i for i, name in enumerate(classes)}
    mapped = np.array([number.get(name, -1) for name in data.classes], np.int64)
    return replace(split, labels=mapped[split.labels])
