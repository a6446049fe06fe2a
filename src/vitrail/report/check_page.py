"""The page of a check: one HTML file that loads nothing and runs nothing."""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from vitrail.data.check.report import CheckReport
from vitrail.files import write_atomic
from vitrail.report import check_plots, check_views
from vitrail.report.check_pictures import Thumbnails
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
    style = _style()
    template = _templates().get_template("check.html")
    return template.render(_context(report, source), style=style, policy=_policy(style))


@cache
def _templates() -> Environment:
    """Load the templates. Everything that is inserted is escaped; a missing name is an error."""
    return Environment(
        loader=PackageLoader("vitrail.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _style() -> str:
    """Read the style of all reports, and what this page adds; HTML has to escape nothing in it."""
    folder = Path(__file__).parent / "templates"
    names = ("report.css", "check.css")
    return "".join((folder / name).read_text(encoding="utf-8") for name in names)


def _policy(style: str) -> str:
    """Allow this style sheet and pictures inside the file; forbid everything else."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _context(report: CheckReport, source: str) -> dict[str, Any]:
    """Prepare every part of the page."""
    survey = report.survey
    thumbnails = Thumbnails(survey)
    found = check_views.findings(report, thumbnails)  # these get their pictures first
    rows = check_views.class_rows(survey)
    command = f"vitrail train --data {source} --out runs/mine {report.command}"
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
