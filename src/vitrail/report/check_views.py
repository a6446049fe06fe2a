"""The parts of a check's page as the template shows them."""

from typing import Any, NamedTuple

import numpy as np

from vitrail.data.check.duplicates import Rows
from vitrail.data.check.finding import SEVERITIES, Finding, Item, plural
from vitrail.data.check.report import CheckReport, split_figures
from vitrail.data.check.survey import Survey
from vitrail.data.dataset import LabelSets
from vitrail.data.keyed import uniform
from vitrail.report import check_plots, plots
from vitrail.report.check_pictures import Thumbnail, Thumbnails
from vitrail.report.pictures import svg_uri
from vitrail.report.text import percent, visible
from vitrail.report.views import Plot

PAIRS = 12  # groups of copies that are shown of one finding
SINGLES = 24  # single images that are shown of one finding
LINES = 40  # cases without a picture that are listed of one finding
SAMPLED = 24  # classes of which images are shown
EACH = 6  # images of a class
OPEN, ROWS = 30, 1000  # rows of the class table that are open, and at most


class Case(NamedTuple):
    """One case of a finding: what it is, and its images."""

    reason: str
    pictures: list[Thumbnail]


class Shown(NamedTuple):
    """A finding as the page shows it."""

    severity: str
    kind: str
    summary: str
    advice: str
    pairs: list[Case]  # several images side by side
    singles: list[Case]  # one image each
    lines: list[tuple[str, str]]  # key and reason
    more: int  # cases that are not shown


class ClassRow(NamedTuple):
    """One row of the class table."""

    name: str
    counts: list[int]  # by split
    bar: float  # percent of the largest class


def headlines(report: CheckReport) -> list[dict[str, str]]:
    """Give the figures that stand above all."""
    total, good = len(report.survey), int(report.survey.good.sum())
    found = {
        each: sum(finding.severity == each for finding in report.findings) for each in SEVERITIES
    }
    return [
        {"name": "Usable images", "value": f"{good:,}", "hint": f"of {total:,}", "tone": ""},
        {
            "name": "Errors",
            "value": str(found["error"]),
            "hint": "spoil a training or its measurement",
            "tone": "bad" if found["error"] else "fine",
        },
        {
            "name": "Warnings",
            "value": str(found["warning"]),
            "hint": f"may do so; {plural(found['note'], 'note')} besides",
            "tone": "odd" if found["warning"] else "fine",
        },
        {
            "name": "Left out",
            "value": f"{len(report.left_out):,}",
            "hint": "images on the quarantine list",
            "tone": "",
        },
    ]


def findings(report: CheckReport, thumbnails: Thumbnails) -> list[Shown]:
    """Give every finding with its first cases."""
    return [_finding(each, thumbnails) for each in report.findings]


def _finding(finding: Finding, thumbnails: Thumbnails) -> Shown:
    """Show pictures where there are any to be seen, else lines."""
    pairs = [item for item in finding.items if len(item.images) > 1][:PAIRS]
    singles = [item for item in finding.items if len(item.images) == 1]
    seen = [item for item in singles if thumbnails.survey.good[item.images[0].row]][:SINGLES]
    unseen = [item for item in singles if not thumbnails.survey.good[item.images[0].row]]
    plain = [*unseen, *(item for item in finding.items if not item.images)][:LINES]
    shown = len(pairs) + len(seen) + len(plain)
    return Shown(
        finding.severity,
        finding.kind.replace("_", " "),
        visible(finding.summary, 500),
        visible(finding.advice, 500),
        [_case(item, thumbnails) for item in pairs],
        [_case(item, thumbnails) for item in seen],
        [_line(item) for item in plain],
        finding.count - shown,
    )


def _case(item: Item, thumbnails: Thumbnails) -> Case:
    return Case(visible(item.reason, 160), [thumbnails.make(image) for image in item.images])


def _line(item: Item) -> tuple[str, str]:
    key = visible(item.images[0].key, 120, keep_end=True) if item.images else ""
    return key, visible(item.reason, 300)


def samples(survey: Survey, thumbnails: Thumbnails) -> list[Case]:
    """Show some images of each class, the same ones each time, of the first split that has any."""
    shown = []
    for label in _spread(len(survey.data.classes), SAMPLED):
        rows = _rows_of(survey, label)
        u = uniform("samples", 0, 0, label, EACH)[0]
        chosen = {int(rows[int((n + u[n]) * len(rows) / EACH)]) for n in range(EACH) if len(rows)}
        pictures = [thumbnails.make(survey.image(row)) for row in sorted(chosen)]
        shown.append(Case(visible(survey.data.classes[label], 60), pictures))
    return shown


def _spread(count: int, most: int) -> list[int]:
    """Choose at most so many places, evenly."""
    return [n * count // min(count, most) for n in range(min(count, most))]


def _rows_of(survey: Survey, label: int) -> Rows:
    """Find the good images of a class, in the first split that has any."""
    for part, split in enumerate(survey.splits):
        places = np.arange(len(split))
        labels = split.labels
        if isinstance(labels, LabelSets):
            places = np.repeat(places, np.diff(labels.ends, prepend=0))
            labels = labels.values
        rows: Rows = int(survey.starts[part]) + places[labels == label]
        if survey.good[rows].any():
            return rows[survey.good[rows]]
    return np.empty(0, np.int64)


def class_rows(survey: Survey) -> list[ClassRow]:
    """List the classes with their usable images by split, the largest first."""
    counts = np.stack([survey.counts(part) for part in range(len(survey.splits))])
    total = counts.sum(0)
    order = np.argsort(-total, kind="stable")[:ROWS].tolist()
    most = max(1, int(total.max(initial=0)))
    return [
        ClassRow(
            visible(survey.data.classes[i], 80),
            counts[:, i].tolist(),
            round(100 * int(total[i]) / most, 1),
        )
        for i in order
    ]


def drawings(survey: Survey) -> list[Plot]:
    """Draw class balance and the shapes of the images."""
    counts = np.stack([survey.counts(part) for part in range(len(survey.splits))])
    table = survey.table[survey.good]
    if not len(table):
        return []
    heights, widths = table["height"].astype(np.int64), table["width"].astype(np.int64)
    text = f"from {heights.min()}x{widths.min()} to {heights.max()}x{widths.max()} pixels"
    return [
        _plot(
            "Class balance",
            f"Images of {counts.shape[1]} classes, from {counts.sum(0).min()} to "
            f"{counts.sum(0).max()}.",
            check_plots.balance_plot(counts),
        ),
        _plot("Sizes", f"Sizes {text}.", check_plots.size_plot(heights, widths)),
        _plot("Shapes", "Images by width : height.", check_plots.aspect_plot(heights, widths)),
    ]


def _plot(title: str, alt: str, draw: plots.Draw) -> Plot:
    light, dark = plots.both(draw, (4.2, 3.0))
    return Plot(title, alt, svg_uri(light), svg_uri(dark))


def split_rows(survey: Survey) -> list[dict[str, Any]]:
    """List each split with its images, sides and channels."""
    return [
        {
            "name": visible(each["name"], 40),
            "images": f"{each['images']:,}",
            "usable": percent(each["usable"] / max(1, each["images"])),
            "classes": f"{sum(count > 0 for count in each['counts']):,}",
            "height": " – ".join(map(str, each.get("height", ["–"]))),
            "width": " – ".join(map(str, each.get("width", ["–"]))),
            "mean": " ".join(f"{value / 255:.3f}" for value in each.get("mean", [])) or "–",
            "std": " ".join(f"{value / 255:.3f}" for value in each.get("std", [])) or "–",
            "size": f"{each['bytes'] / 1e6:,.1f} MB",
        }
        for each in split_figures(survey)
    ]
