"""What is odd or wrong about single images."""

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np

from vitrail.data.check.duplicates import Rows
from vitrail.data.check.finding import Finding, Item, listed, plural
from vitrail.data.check.record import Record
from vitrail.data.check.survey import Survey

SLENDER = 10.0  # longer side in units of the shorter one
OUTLIER = 5.0  # times larger or smaller than the median side
FEW = 0.01  # part of all images that outliers may be; more are a second kind of image
ENLARGED = 2.0  # times that an image is enlarged to the advised size


def image_findings(survey: Survey, size: int) -> Iterator[Finding]:
    """Tell what was found image by image.

    Args:
        size: side of the model's input in pixels, as advised.
    """
    yield from _broken(survey)
    good = np.flatnonzero(survey.good)
    if not len(good):
        return
    yield from _blank(survey, good)
    yield from _shapes(survey, good)
    yield from _small(survey, good, size)
    yield from _modes(survey, good)
    yield from _rotated(survey, good)
    yield from _grey(survey, good)


def _broken(survey: Survey) -> Iterator[Finding]:
    if survey.reasons:
        count = len(survey.reasons)
        rows = sorted(survey.reasons)
        yield Finding(
            kind="broken",
            severity="error",
            count=count,
            summary=f"{plural(count, 'image')} cannot be used: broken, cut off or refused",
            advice="replace or remove them; the quarantine list leaves them out",
            items=listed(Item(survey.reasons[row], (survey.image(row),)) for row in rows),
        )


def _blank(survey: Survey, good: Rows) -> Iterator[Finding]:
    rows = good[survey.table["blank"][good]]
    if len(rows):
        yield Finding(
            kind="blank",
            severity="warning",
            count=len(rows),
            summary=f"{plural(len(rows), 'image')} of one colour: nothing is to be seen",
            advice="look whether they are meant; a model can only learn their class by heart",
            items=_items(survey, rows, _colour),
        )


def _shapes(survey: Survey, good: Rows) -> Iterator[Finding]:
    """Images that are very long and narrow, or far larger or smaller than most."""
    sides = np.stack([survey.table[side][good] for side in ("height", "width")]).astype(np.float64)
    slender = (sides.max(0) > SLENDER * sides.min(0)) | (sides.min(0) <= 1)
    if slender.any():
        rows = good[slender]
        yield Finding(
            kind="extreme_shape",
            severity="warning",
            count=len(rows),
            summary=f"{plural(len(rows), 'image')} longer than {SLENDER:g} times the other side, "
            "or 1 pixel thin",
            advice="little of them is left after a centre crop; look whether they are meant",
            items=_items(survey, rows, _size),
        )
    apart = np.abs(np.log(np.sqrt(sides.prod(0)) / np.median(np.sqrt(sides.prod(0)))))
    outlying = (apart > np.log(OUTLIER)) & ~slender
    if outlying.any() and outlying.mean() <= FEW:
        rows = good[outlying]
        yield Finding(
            kind="size_outlier",
            severity="note",
            count=len(rows),
            summary=f"{plural(len(rows), 'image')} more than {OUTLIER:g} times larger or smaller "
            "than most",
            advice="look whether they are thumbnails or scans that do not belong here",
            items=_items(survey, rows, _size),
        )


def _small(survey: Survey, good: Rows, size: int) -> Iterator[Finding]:
    short = np.minimum(survey.table["height"][good], survey.table["width"][good])
    rows = good[short * ENLARGED < size]
    if len(rows):
        yield Finding(
            kind="small",
            severity="note",
            count=len(rows),
            summary=f"{plural(len(rows), 'image')} less than half as large as the advised input "
            f"of {size} pixels",
            advice="they are enlarged and look blurred to the model; fine if there are few",
            items=_items(survey, rows, _size),
        )


def _modes(survey: Survey, good: Rows) -> Iterator[Finding]:
    modes = survey.table["mode"][good]
    counts = Counter(modes.tolist())
    if len(counts) > 1:
        usual, _ = counts.most_common(1)[0]
        others = good[modes != usual]
        text = ", ".join(f"{mode.decode()} {count:,}" for mode, count in counts.most_common())
        yield Finding(
            kind="mixed_modes",
            severity="note",
            count=len(others),
            summary=f"several kinds of pixels: {text}",
            advice="all are brought to the model's colours; look whether a class stands out",
            items=_items(survey, others, lambda row: bytes(row["mode"]).decode()),
        )


def _rotated(survey: Survey, good: Rows) -> Iterator[Finding]:
    rows = good[survey.table["orientation"][good] > 1]
    if len(rows):
        yield Finding(
            kind="rotated",
            severity="note",
            count=len(rows),
            summary=f"{plural(len(rows), 'image')} turned by EXIF orientation",
            advice="they are turned upright here, as cameras mean it; other programs may not",
            items=_items(survey, rows, lambda row: f"EXIF orientation {row['orientation']}"),
        )


def _grey(survey: Survey, good: Rows) -> Iterator[Finding]:
    """Grey images among coloured ones, or all stored as colour."""
    in_colour = np.char.startswith(survey.table["mode"][good], b"RGB")
    rows = good[survey.table["grey"][good] & in_colour & ~survey.table["blank"][good]]
    if len(rows):
        yield Finding(
            kind="grey_as_colour",
            severity="note",
            count=len(rows),
            summary=f"{plural(len(rows), 'image')} stored as colour without any",
            advice="look whether some classes are grey and others are not: a model would learn it",
            items=_items(survey, rows, _size),
        )


def _items(survey: Survey, rows: Rows, reason: Callable[[Record], str]) -> tuple[Item, ...]:
    return listed(Item(reason(survey.table[row]), (survey.image(row),)) for row in rows.tolist())


def _size(row: Record) -> str:
    return f"{row['height']}x{row['width']} pixels"


def _colour(row: Record) -> str:
    red, green, blue = (round(float(each)) for each in row["mean"])
    return f"about {red}, {green}, {blue} everywhere"
