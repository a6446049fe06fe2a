"""What saved logits say: accuracy, classes, calibration, and how sure each figure is.

Everything is computed in float64, in slices, so that memory stays bounded for any number of images.

Ties: classes with equal logits are ranked by their index, the lower first, as `argmax` does. So the
predicted class, top-1 accuracy and the confusion matrix always agree.
Figures that are not defined (recall of a class without images) are None, never NaN.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SLICE = 1 << 22  # numbers held at once: 32 MB as float64


@dataclass(frozen=True)
class Outcomes:
    """What became of each of n images; every figure is computed from these columns."""

    classes: int
    labels: Ints  # [n], the true class
    predicted: Ints  # [n], the class with the largest logit
    rank: Ints  # [n], place of the true class among the logits, 0 = first
    confidence: Floats  # [n], probability of the predicted class, in [1 / classes, 1]
    nll: Floats  # [n], negative log likelihood of the true class, nats
    brier: Floats  # [n], squared error of the probabilities summed over classes, in [0, 2]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether the predicted class is the true one, [n]."""
        return np.equal(self.predicted, self.labels)


@dataclass(frozen=True)
class Estimate:
    """A figure with the ends of its interval; None where no interval was asked for."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ClassScore:
    """How one class fares: None where a figure is not defined."""

    support: int  # images of this class
    predicted: int  # images taken for this class
    correct: int  # images that are both
    precision: float | None  # correct / predicted
    recall: float | None  # correct / support
    f1: float | None  # harmonic mean of both; None without support


@dataclass(frozen=True)
class Bin:
    """The images whose confidence lies in (low, high]; means are None where there are none."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


def outcomes(logits: NDArray[np.float32], labels: Ints) -> Outcomes:
    """Compare logits [n, classes] with labels [n].

    Raises:
        ValueError: no images, shapes that do not fit, a label out of range, a logit not finite.
    """
    if logits.ndim != 2 or 0 in logits.shape or labels.shape != logits.shape[:1]:
        raise ValueError(f"logits {logits.shape}, labels {labels.shape}: not [n, classes] and [n]")
    count, classes = logits.shape
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels {labels.min()}..{labels.max()} must be in [0, {classes})")
    rows = max(1, SLICE // classes)
    parts = [_compare(logits[i : i + rows], labels[i : i + rows]) for i in range(0, count, rows)]
    columns = [field.name for field in fields(Outcomes)[1:]]
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in columns}
    return Outcomes(classes=classes, **joined)


def _compare(logits: NDArray[np.float32], labels: Ints) -> Outcomes:
    """Do `outcomes` for as many rows as fit into memory in float64."""
    if not np.isfinite(logits).all():
        raise ValueError("a logit is not finite")
    x = logits.astype(np.float64)
    rows, classes = np.arange(len(x)), np.arange(x.shape[1])
    own = x[rows, labels][:, None]
    ahead = (x > own) | ((x == own) & (classes < labels[:, None]))
    predicted = x.argmax(axis=1)
    x -= x.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(x).sum(axis=1))
    nll = log_sum - x[rows, labels]
    error = np.exp(x - log_sum[:, None])  # probabilities, then their distance from the truth
    error[rows, labels] -= 1
    return Outcomes(
        classes=x.shape[1],
        labels=labels,
        predicted=predicted,
        rank=ahead.sum(axis=1),
        confidence=np.exp(-log_sum),
        nll=nll,
        brier=np.square(error).sum(axis=1),
    )


def top_k_accuracy(seen: Outcomes, k: int) -> float:
    """Share of images whose true class is among the k largest logits; 1 where k >= classes.

    Raises:
        ValueError: k < 1.
    """
    if k < 1:
        raise ValueError(f"k={k} must be at least 1")
    return float((seen.rank < k).mean())


def mean_average_precision(logits: NDArray[np.float32], truth: Ints) -> float | None:
    """Average precision of each class over the images, averaged over classes; several labels each.

    A class that no image has is left out; without any label there is no figure.

    Args:
        logits: [n, classes].
        truth: [n, classes], 1 where an image has the class, else 0.
    """
    from sklearn.metrics import average_precision_score

    scores = [
        average_precision_score(truth[:, k], logits[:, k])
        for k in np.flatnonzero(truth.any(axis=0)).tolist()
    ]
    return float(np.mean(scores)) if scores else None


def confusion_cells(seen: Outcomes) -> list[tuple[int, int, int]]:
    """List the cells of the confusion matrix that are not 0: (true, predicted, count), in order."""
    codes, counts = np.unique(seen.labels * seen.classes + seen.predicted, return_counts=True)
    true, predicted = np.divmod(codes, seen.classes)
    return list(zip(true.tolist(), predicted.tolist(), counts.tolist(), strict=True))


def confusion_matrix(seen: Outcomes) -> Ints:
    """Count images by (true, predicted) class, [classes, classes]."""
    codes = seen.labels * seen.classes + seen.predicted
    return np.bincount(codes, minlength=seen.classes**2).reshape(seen.classes, seen.classes)


def class_scores(seen: Outcomes) -> list[ClassScore]:
    """Score each class, in class order."""
    columns = seen.labels, seen.predicted, seen.labels[seen.correct]
    counts = np.stack([np.bincount(column, minlength=seen.classes) for column in columns], axis=1)
    return [
        ClassScore(
            support=support,
            predicted=predicted,
            correct=correct,
            precision=correct / predicted if predicted else None,
            recall=correct / support if support else None,
            f1=2 * correct / (support + predicted) if support else None,
        )
        for support, predicted, correct in counts.tolist()
    ]


def calibration(seen: Outcomes, bins: int = 15) -> tuple[float, list[Bin]]:
    """Compare confidence with accuracy in `bins` bins of equal width, closed on the right.

    Returns:
        The expected calibration error, in [0, 1], and the bins of the reliability diagram.
    Source: Guo et al. 2017, arXiv:1706.04599, section 2.
    """
    edges = np.linspace(0, 1, bins + 1).tolist()
    where = _bins(seen.confidence, bins)
    table = []
    for i in range(bins):
        sure, right = seen.confidence[where == i], seen.correct[where == i]
        means = (float(sure.mean()), float(right.mean())) if len(sure) else (None, None)
        table.append(Bin(edges[i], edges[i + 1], len(sure), *means))
    gaps = _group((seen.correct - seen.confidence)[None], where, bins)
    return float(np.abs(gaps).sum() / len(where)), table


def _bins(confidence: Floats, bins: int) -> Ints:
    """Number of the bin (i / bins, (i + 1) / bins] of each confidence."""
    return np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence, side="left")


def estimates(
    seen: Outcomes, *, resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, Estimate]:
    """Give the headline figures, each with its percentile bootstrap interval over images.

    They are top1, top5 (only with more than 5 classes: else it is 1 by definition),
    balanced_accuracy and macro_f1 (means over the classes that have images), nll, brier, ece (15
    bins). An interval is widened to hold its own figure: the resampled ECE is biased upwards, so
    its percentiles can miss it. With one image, or all right, an interval has no width.

    Args:
        resamples: how many times n images are drawn from the n with replacement; 0 = no intervals.
        level: share of the resampled figures inside the interval, in (0, 1).
    Source: Efron 1979, doi:10.1214/aos/1176344552.
    """
    values = _statistics(seen, np.ones((1, len(seen.labels))))
    if resamples < 1:
        return {name: Estimate(float(value[0])) for name, value in values.items()}
    drawn = [
        _statistics(seen, each) for each in _draw(len(seen.labels), resamples, seed, seen.classes)
    ]
    result = {}
    for name, value in values.items():
        point = float(value[0])
        every = np.concatenate([part[name] for part in drawn])
        low, high = np.percentile(every, [50 * (1 - level), 50 * (1 + level)]).tolist()
        result[name] = Estimate(point, min(low, point), max(high, point))
    return result


def _draw(count: int, resamples: int, seed: int, classes: int) -> Iterator[Floats]:
    """Draw how often each image is in each resample: [some, count], `resamples` rows in all."""
    random = np.random.default_rng(seed)
    rows = max(1, SLICE // max(count, classes))
    for first in range(0, resamples, rows):
        some = min(rows, resamples - first)
        chosen = random.integers(0, count, size=(some, count))
        chosen += np.arange(some)[:, None] * count
        yield np.bincount(chosen.ravel(), minlength=some * count).reshape(some, count).astype(float)


def _statistics(seen: Outcomes, weights: Floats) -> dict[str, Floats]:
    """Compute every headline figure, [b], for b weightings [b, n] of the n images at once."""
    total = weights.sum(axis=1)
    correct = seen.correct.astype(np.float64)
    support = _group(weights, seen.labels, seen.classes)  # b classes
    hits = _group(weights * correct, seen.labels, seen.classes)
    taken = _group(weights, seen.predicted, seen.classes)
    gaps = _group(weights * (correct - seen.confidence), _bins(seen.confidence, 15), 15)
    present = support > 0
    recall = hits / np.where(present, support, 1)
    f1 = np.where(present, 2 * hits / np.where(present, support + taken, 1), 0)
    figures = {"top1": weights @ correct / total}
    if seen.classes > 5:
        figures["top5"] = weights @ (seen.rank < 5).astype(np.float64) / total
    return figures | {
        "balanced_accuracy": recall.sum(axis=1) / present.sum(axis=1),
        "macro_f1": f1.sum(axis=1) / present.sum(axis=1),
        "nll": weights @ seen.nll / total,
        "brier": weights @ seen.brier / total,
        "ece": np.abs(gaps).sum(axis=1) / total,
    }


def _group(values: Floats, keys: Ints, groups: int) -> Floats:
    """Sum the columns of values [b, n] that have the same key: [b, groups]."""
    order = keys.argsort(kind="stable")
    present, starts = np.unique(keys[order], return_index=True)
    sums = np.zeros((len(values), groups))
    sums[:, present] = np.add.reduceat(values[:, order], starts, axis=1)
    return sums
