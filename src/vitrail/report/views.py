"""The parts of a report as the template shows them: texts, classes of colour, data: addresses."""

import math
from typing import Any, NamedTuple

from vitrail.evaluate.summary import Summary
from vitrail.metrics import ClassScore, Estimate
from vitrail.report import plots
from vitrail.report.content import Example, Figure, ReportContent
from vitrail.report.pictures import SHARP, picture_uri, svg_uri
from vitrail.report.text import duration, fact, percent, visible

TABLE = 60  # classes up to which the confusion matrix is a table of counts
SHORT = 30  # rows of the class table that are open when there are many classes
ROWS = 1000  # rows of the class table at most
LISTED = 100  # unreadable images that are listed

Size = tuple[float, float]


class Plot(NamedTuple):
    """A plot for light and dark pages, with a heading and the words that stand for it."""

    title: str
    alt: str
    light: str
    dark: str


class Headline(NamedTuple):
    """One figure with its interval; `span` is low, value and high in percent of the scale."""

    name: str
    value: str
    interval: str
    hint: str
    span: tuple[float, float, float] | None


class ClassRow(NamedTuple):
    """One row of the class table."""

    name: str
    support: int
    recall: str
    precision: str
    f1: str
    bar: float
    weak: bool


def facts(content: ReportContent) -> list[tuple[str, str]]:
    """List what stands under the title."""
    rows = [(visible(str(name)), fact(value)) for name, value in content.model_facts.items()]
    if content.seconds is not None:
        rows.append(("training time", duration(content.seconds)))
    return rows


def headlines(summary: Summary) -> list[Headline]:
    """List the figures besides top-1 accuracy."""
    both = f"{len(summary.classes)} classes"
    rows = [_share("Balanced accuracy", summary.balanced_accuracy, "mean recall of the classes")]
    if summary.top5 is not None:
        hint = f"the true class is among the first 5 of {both}"
        rows.insert(0, _share("Top-5 accuracy", summary.top5, hint))
    return [
        *rows,
        _share("Macro F1", summary.macro_f1, "mean F1 of the classes"),
        _share("Calibration error", summary.ece, "ECE: |confidence − accuracy|, 0 is best"),
        _plain("Negative log likelihood", summary.nll, "nats, 0 is best"),
        _plain("Brier score", summary.brier, "0 is best, 2 is worst"),
    ]


def top1(summary: Summary) -> Headline:
    """Give the figure that stands above all."""
    right = sum(score.correct for score in summary.per_class)
    hint = f"{right:,} of {summary.images:,} images are right"
    return _share("Top-1 accuracy", summary.top1, hint)


def _share(name: str, of: Estimate, hint: str) -> Headline:
    if of.low is None or of.high is None:
        return Headline(name, percent(of.value), "", hint, None)
    interval = f"{percent(of.low).removesuffix('%')} – {percent(of.high)}"
    return Headline(name, percent(of.value), interval, hint, _span(of.low, of.value, of.high))


def _span(low: float, value: float, high: float) -> tuple[float, float, float]:
    return (round(100 * low, 2), round(100 * value, 2), round(100 * high, 2))


def _plain(name: str, of: Estimate, hint: str) -> Headline:
    interval = "" if of.low is None else f"{of.low:.3f} – {of.high:.3f}"
    return Headline(name, f"{of.value:.3f}", interval, hint, None)


def unreadable(summary: Summary) -> list[tuple[str, str]]:
    """List the first images that could not be read, and why."""
    return [
        (visible(key, 120, keep_end=True), visible(reason))
        for key, reason in summary.unreadable[:LISTED]
    ]


def training(content: ReportContent) -> list[Plot]:
    """Draw the curves of which the history has points."""
    names = ("train_loss", "val_loss", "val_top1", "lr")
    train, val, accuracy, rate = [plots.curve(content.history, name) for name in names]
    found = []
    size = (4.2, 2.7)
    if train[0] or val[0]:
        curves = (("training", train[1]), ("validation", val[1]))
        ends = [f"{name} ends at {y[-1]:.3f}" for name, y in curves if y]
        alt = f"Loss by step: {' and '.join(ends)}."
        found.append(_plot("Loss", alt, plots.loss_plot(train, val), size))
    if accuracy[0]:
        alt = f"Validation accuracy by step, ending at {percent(accuracy[1][-1])}."
        found.append(_plot("Validation accuracy", alt, plots.accuracy_plot(accuracy), size))
    if rate[0]:
        alt = f"Learning rate by step, {max(rate[1]):.2g} at most."
        found.append(_plot("Learning rate", alt, plots.rate_plot(rate), size))
    return found


def reliability(summary: Summary) -> Plot:
    """Draw the reliability diagram."""
    ece = percent(summary.ece.value)
    alt = f"Accuracy against confidence in {len(summary.bins)} bins; ECE {ece}."
    return _plot("Reliability", alt, plots.reliability_plot(summary.bins), (4.2, 4.2))


def _plot(title: str, alt: str, draw: plots.Draw, size: Size) -> Plot:
    light, dark = plots.both(draw, size)
    return Plot(title, alt, svg_uri(light), svg_uri(dark))


def confusion_table(summary: Summary) -> dict[str, Any] | None:
    """Give the confusion matrix as rows of (count, colour class), or None with too many classes."""
    if len(summary.classes) > TABLE:
        return None
    matrix = summary.confusion_matrix()
    rows = []
    for i, counts in enumerate(matrix.tolist()):
        total = max(sum(counts), 1)
        shares = [
            count / total if i == j else math.sqrt(count / total) for j, count in enumerate(counts)
        ]
        cells = [
            (count or "", f"{'r' if i == j else 'e'}{min(10, math.ceil(10 * share))}")
            for j, (count, share) in enumerate(zip(counts, shares, strict=True))
        ]
        rows.append((visible(summary.classes[i], 24), cells))
    names = [name for name, _ in rows]
    return {"names": names, "rows": rows, "upright": max(map(len, names)) > 2, "size": len(names)}


def confusion_plot(summary: Summary) -> Plot | None:
    """Draw the confusion matrix of many classes, or None where it is a table."""
    if len(summary.classes) <= TABLE:
        return None
    alt = f"Confusion matrix of {len(summary.classes)} classes; the most confused pairs are listed."
    draw = plots.matrix_plot(summary.confusion, len(summary.classes))
    return _plot("Confusion", alt, draw, (5.2, 5.2))


def pairs(summary: Summary) -> list[tuple[str, str, int, str, float]]:
    """List the most frequent mistakes: true, predicted, count, share of the class (text, bar)."""
    names = [visible(name, 60) for name in summary.classes]
    return [
        (
            names[pair.true],
            names[pair.predicted],
            pair.count,
            percent(pair.share, 0),
            round(100 * pair.share, 1),
        )
        for pair in summary.confused
    ]


def class_rows(summary: Summary) -> list[ClassRow]:
    """List the classes, the lowest recall first, those without images last."""

    def order(item: tuple[str, ClassScore]) -> tuple[float, int]:
        score = item[1]
        return (2.0 if score.recall is None else score.recall, -score.support)

    table = sorted(zip(summary.classes, summary.per_class, strict=True), key=order)
    return [
        ClassRow(
            name=visible(name, 80),
            support=score.support,
            recall=percent(score.recall),
            precision=percent(score.precision),
            f1=percent(score.f1),
            bar=round(100 * (score.recall or 0), 1),
            weak=_wilson_high(score.correct, score.support) < summary.top1.value,
        )
        for name, score in table[:ROWS]
    ]


def _wilson_high(correct: int, count: int, z: float = 1.96) -> float:
    """Upper end of the 95% interval of a share (Wilson 1927, doi:10.2307/2276774)."""
    if not count:
        return 1.0
    share = correct / count
    spread = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return (share + z**2 / (2 * count) + spread) / (1 + z**2 / count)


def examples(content: ReportContent, kind: str) -> list[dict[str, Any]]:
    """List the examples of one kind with their pictures."""
    return [_example(each) for each in content.examples if each.kind == kind]


def _example(example: Example) -> dict[str, Any]:
    true, predicted = visible(example.true, 60), visible(example.predicted, 60)
    alt = f"Image of {true}, taken for {predicted}"
    shown = [("image", alt, example.picture)]
    shown += [(visible(text, 60), visible(text, 60), image) for text, image in example.overlays]
    return {
        "key": visible(example.key, 80, keep_end=True),
        "true": true,
        "predicted": predicted,
        "probability": percent(example.probability),
        "pictures": [
            {
                "caption": text,
                "alt": alt,
                "uri": picture_uri(image),
                "sharp": max(image.shape) <= SHARP,
            }
            for text, alt, image in shown
        ],
    }


def figure(each: Figure) -> dict[str, Any]:
    """Prepare an extra figure."""
    uri = svg_uri(each.image) if isinstance(each.image, str) else picture_uri(each.image, 1600)
    sharp = not isinstance(each.image, str) and max(each.image.shape) <= SHARP
    return {
        "title": visible(each.title),
        "text": visible(each.text, 2000),
        "uri": uri,
        "sharp": sharp,
    }
