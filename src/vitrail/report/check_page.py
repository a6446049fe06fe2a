"""The page of a check: one HTML file that loads nothing and runs nothing."""

import shlex
from pathlib import Path
from typing import Any

from vitrail.data.check.report import CheckReport
from vitrail.data.remote import shown
from vitrail.files import write_atomic
from vitrail.report import check_plots, check_views
from vitrail.report.check_pictures import Thumbnails
from vitrail.report.page import render_page
from vitrail.report.text import visible


def write_check_page(path: Path, report: CheckReport, source: str) -> None:
    """Write the page atomically. It stays below 3 MB, whatever the data.

    Args:
        source: how the data set was named on the command line.
    Raises:
        StorageError: it cannot be written; what was there before is untouched.
    """
    write_atomic(path, render_check(report, source).encode("utf-8"))


def render_check(report: CheckReport, source: str) -> str:
    """Give the page as one HTML document; images are read again for it."""
    return render_page("check.html", ("report.css", "check.css"), _context(report, source))


def _context(report: CheckReport, source: str) -> dict[str, Any]:
    """Prepare every part of the page."""
    survey = report.survey
    thumbnails = Thumbnails(survey)
    found = check_views.findings(report, thumbnails)  # these get their pictures first
    rows = check_views.class_rows(survey)
    command = f"vitrail train --data {shlex.quote(shown(source))} --out runs/mine {report.command}"
    return {
        "title": visible(survey.data.name, 120),
        "images": len(survey),
        "classes": len(survey.data.classes),
        "splits": [visible(name, 40) for name in survey.names],
        "headlines": check_views.headlines(report),
        "findings": found,
        "plots": check_views.drawings(survey),
        "bars": check_plots.BARS,
        "open_rows": rows[: check_views.OPEN],
        "more_rows": rows[check_views.OPEN :],
        "left_out": len(survey.data.classes) - len(rows),
        "split_rows": check_views.split_rows(survey),
        "samples": check_views.samples(survey, thumbnails),
        "advice": [(visible(each.flags, 200), visible(each.why, 500)) for each in report.advice],
        "command": visible(command, 2000),
    }
