"""One evaluation as a value: every figure that saved predictions give, for JSON and the report."""

import numpy as np

from vitrail import metrics
from vitrail.config import Config
from vitrail.errors import RunError
from vitrail.metrics import Bin, ClassScore, Estimate, Outcomes
from vitrail.runs import Predictions

LEVEL = 0.95  # of every interval
PAIRS = 20  # most confused pairs that are listed
WORST = 48  # surest mistakes that are listed
RIGHT = 12  # right answers that are listed


class Pair(Config):
    """A class that is taken for another."""

    true: int
    predicted: int
    count: int
    share: float
    """Part of the images of the true class, in (0, 1]."""


class Sample(Config):
    """One image and what was made of it."""

    index: int
    """Place in the predictions, from 0."""
    key: str
    true: int
    predicted: int
    probability: float
    """Of the predicted class."""
    true_probability: float
    """Of the true class."""


class Summary(Config):
    """What an evaluation found. Classes are numbers into `classes`; shares are in [0, 1]."""

    split: str
    classes: tuple[str, ...]
    images: int
    unreadable: tuple[tuple[str, str], ...]
    """Images that could not be used (key, reason); no figure counts them."""
    preprocess_hash: str
    resamples: int
    """Bootstrap resamples behind the intervals; 0 = no intervals."""
    seed: int
    level: float = LEVEL
    """Share of the resampled figures inside an interval."""
    top1: Estimate
    top5: Estimate | None
    """None with five classes or fewer, where it is 1 by definition."""
    balanced_accuracy: Estimate
    """Mean recall over the classes that have images."""
    macro_f1: Estimate
    """Mean F1 over the classes that have images."""
    nll: Estimate
    brier: Estimate
    """Sum over classes of the squared error of the probability, in [0, 2]."""
    ece: Estimate
    """Expected calibration error over `bins`."""
    bins: tuple[Bin, ...]
    per_class: tuple[ClassScore, ...]
    """In the order of `classes`."""
    confused: tuple[Pair, ...]
    """The most frequent mistakes, most frequent first."""
    confusion: tuple[tuple[int, int, int], ...]
    """Cells of the confusion matrix that are not 0: (true, predicted, count)."""
    worst: tuple[Sample, ...]
    """The mistakes made with the greatest confidence, surest first."""
    right: tuple[Sample, ...]
    """Right answers, spread evenly from the surest to the least sure."""

    def confusion_matrix(self) -> metrics.Ints:
        """Count images by (true, predicted) class, [classes, classes]."""
        matrix = np.zeros((len(self.classes), len(self.classes)), dtype=np.int64)
        if self.confusion:
            true, predicted, count = np.array(self.confusion).T
            matrix[true, predicted] = count
        return matrix


def summarise(predictions: Predictions, *, bootstrap: int = 1000, seed: int = 0) -> Summary:
    """Compute every figure of an evaluation from its saved logits.

    The same predictions and seed give the same summary, bit for bit.

    Args:
        bootstrap: resamples behind the 95% intervals; 0 = no intervals.
        seed: of the resampling.
    Raises:
        RunError: no images, a logit that is not finite, or keys, classes, labels and logits that
            do not fit together.
    """
    seen = _compare(predictions)
    figures = metrics.estimates(seen, resamples=bootstrap, seed=seed, level=LEVEL)
    scores = metrics.class_scores(seen)
    cells = metrics.confusion_cells(seen)
    return Summary(
        split=_storable(predictions.split),
        classes=tuple(map(_storable, predictions.classes)),
        images=len(seen.labels),
        unreadable=tuple((_storable(key), _storable(why)) for key, why in predictions.unreadable),
        preprocess_hash=predictions.preprocess_hash,
        resamples=max(bootstrap, 0),
        seed=seed,
        top1=figures["top1"],
        top5=figures.get("top5"),
        balanced_accuracy=figures["balanced_accuracy"],
        macro_f1=figures["macro_f1"],
        nll=figures["nll"],
        brier=figures["brier"],
        ece=figures["ece"],
        bins=tuple(metrics.calibration(seen)[1]),
        per_class=tuple(scores),
        confused=_confused(cells, scores),
        confusion=tuple(cells),
        worst=_samples(seen, predictions.keys, _worst(seen)),
        right=_samples(seen, predictions.keys, _right(seen)),
    )


def _compare(predictions: Predictions) -> Outcomes:
    """Check that the predictions fit together, and compare them with the labels."""
    where = f"predictions of split {predictions.split!r}"
    logits, labels = predictions.logits.numpy(), predictions.labels.numpy()
    if not len(predictions.keys):
        raise RunError(f"{where}: no image could be read; evaluation needs at least one")
    if logits.shape != (len(predictions.keys), len(predictions.classes)):
        raise RunError(
            f"{where}: logits {logits.shape} do not fit {len(predictions.keys)} keys and "
            f"{len(predictions.classes)} classes; evaluate the run again"
        )
    try:
        return metrics.outcomes(logits, labels)
    except ValueError as error:
        raise RunError(f"{where}: {error}; evaluate the run again") from None


def _storable(text: str) -> str:
    """Write the bytes of a file name that are not UTF-8 as escapes, since JSON cannot hold them."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _confused(cells: list[tuple[int, int, int]], scores: list[ClassScore]) -> tuple[Pair, ...]:
    """List the most frequent mistakes; of equally frequent ones the larger share first."""
    pairs = [
        Pair(true=true, predicted=predicted, count=count, share=count / scores[true].support)
        for true, predicted, count in cells
        if true != predicted
    ]
    return tuple(sorted(pairs, key=lambda pair: (-pair.count, -pair.share))[:PAIRS])


def _worst(seen: Outcomes) -> metrics.Ints:
    """Find the surest mistakes: their indexes, surest first."""
    wrong = np.flatnonzero(~seen.correct)
    return wrong[np.argsort(-seen.confidence[wrong], kind="stable")][:WORST]


def _right(seen: Outcomes) -> metrics.Ints:
    """Pick right answers from the whole range of confidence: their indexes, surest first."""
    right = np.flatnonzero(seen.correct)
    right = right[np.argsort(-seen.confidence[right], kind="stable")]
    if len(right) <= RIGHT:
        return right
    return right[np.linspace(0, len(right) - 1, RIGHT).round().astype(np.int64)]


def _samples(seen: Outcomes, keys: tuple[str, ...], indexes: metrics.Ints) -> tuple[Sample, ...]:
    """Describe some images."""
    return tuple(
        Sample(
            index=i,
            key=_storable(keys[i]),
            true=int(seen.labels[i]),
            predicted=int(seen.predicted[i]),
            probability=float(seen.confidence[i]),
            true_probability=float(np.exp(-seen.nll[i])),
        )
        for i in indexes.tolist()
    )
