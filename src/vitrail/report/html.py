"""Writes the report: one HTML file that loads nothing and runs nothing."""

from pathlib import Path
from typing import Any

from vitrail.files import write_atomic
from vitrail.report.content import ReportContent
from vitrail.report.page import render_page
from vitrail.report.text import flat, percent, visible


def write_report(path: Path, content: ReportContent) -> None:
    """Write the report atomically. The same content gives the same bytes.

    Raises:
        StorageError: it cannot be written; what was there before is untouched.
        ValueError: a picture is not uint8 [h, w, 3].
    """
    write_atomic(path, render(content).encode("utf-8"))


def render(content: ReportContent) -> str:
    """Give the report as one HTML document."""
    return render_page("report.html", ("report.css",), _context(content))


def _context(content: ReportContent) -> dict[str, Any]:
    """Prepare every part of the report."""
    from vitrail.report import plots, views  # load matplotlib only when it is needed

    summary = content.summary
    rows = views.class_rows(summary)
    shown = views.SHORT if len(summary.classes) > views.TABLE else len(rows)
    return {
        "title": visible(content.title, 120),
        "split": visible(summary.split),
        "images": summary.images,
        "classes": len(summary.classes),
        "resamples": summary.resamples,
        "level": f"{summary.level:.0%}",
        "unreadable": views.unreadable(summary),
        "unreadable_count": len(summary.unreadable),
        "facts": views.facts(content),
        "top1": views.top1(summary),
        "headlines": views.headlines(summary),
        "training": views.training(content),
        "table": views.confusion_table(summary),
        "matrix": views.confusion_plot(summary),
        "blocks": plots.BLOCKS,
        "pairs": views.pairs(summary),
        "open_rows": rows[:shown],
        "more_rows": rows[shown:],
        "left_out": len(summary.classes) - len(rows),
        "reliability": views.reliability(summary),
        "ece": percent(summary.ece.value),
        "bins": len(summary.bins),
        "wrong": views.examples(content, "wrong"),
        "right": views.examples(content, "right"),
        "figures": [views.figure(each) for each in content.figures],
        "config": flat(content.config),
        "environment": flat(content.environment),
        "commands": [visible(each, 2000) for each in content.repeat_commands],
        "preprocess_hash": visible(summary.preprocess_hash),
    }
