"""`vitrail check`: look at every image of a data set before a training does."""

import json as json_module
import shlex
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text
from tyro.conf import Positional

from vitrail.cli.consoles import NOTE, OUT
from vitrail.cli.flags import parse
from vitrail.data.check.finding import Finding, Item, plural
from vitrail.data.check.pool import examine_all
from vitrail.data.check.report import CheckReport, conclude
from vitrail.data.check.survey import Survey
from vitrail.data.check.worker import Limits
from vitrail.data.dataset import Data
from vitrail.data.processes import cores
from vitrail.data.quarantine import default_quarantine, write_quarantine
from vitrail.data.remote import shown
from vitrail.data.sources import open_to_measure
from vitrail.errors import DataError, StorageError, UsageError, printable
from vitrail.files import plain_name

SHORTEST = 0.01  # seconds for an image
SMALLEST_MB = 64  # of memory for an image: with less, nothing can be decoded
CASES = 2  # of each finding that are named in the terminal
STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


@dataclass(frozen=True, kw_only=True)
class CheckFlags:
    """Look at every image of a data set: what is broken, the same, missing or odd.

    Writes a page with pictures, and the list of images that training and evaluation leave out.
    """

    data: Positional[str]
    """a folder of images, a manifest, shards or a built-in name"""
    workers: int | None = None
    """processes that decode; as many as there are cores if it is not given"""
    seconds_per_image: float = Limits.seconds
    """of processor time, after which an image is given up"""
    memory_mb: int = Limits.memory_mb
    """memory that decoding one image may take; it is given up above"""
    json: bool = False
    """print the whole report as JSON"""
    page: Path | None = None
    """the page with pictures; NAME-check.html in the current folder if it is not given"""
    quarantine: Path | None = None
    """the list of images to leave out; DIR/quarantine.csv or FILE.quarantine.csv if not given"""
    write: bool = True
    """write the page and the list"""
    strict: bool = False
    """end with exit code 2 if there is an error among the findings"""

    def __post_init__(self) -> None:  # checks only
        """Refuse what cannot be meant. Raises UsageError."""
        for flag, value, least in (
            ("--workers", self.workers, 1),
            ("--seconds-per-image", self.seconds_per_image, SHORTEST),
            ("--memory-mb", self.memory_mb, SMALLEST_MB),
        ):
            if value is not None and not value >= least:
                raise UsageError(f"check: {flag}={value:g} must be at least {least:g}")


def check(args: list[str]) -> None:
    """`vitrail check DATA`."""
    flags = parse(CheckFlags, args, "check")
    data = open_to_measure(flags.data)
    report = conclude(_examine(data, flags))
    if not flags.json:
        _print(report, flags)  # first: nothing of it is lost where the disk is full
    listed = _write_list(report, flags) if flags.write else None
    page = _write_page(report, flags) if flags.write else None
    if flags.json:
        places = {"page": page and str(page), "quarantine": listed and str(listed)}
        OUT.print_json(json_module.dumps(report.to_json() | places), ensure_ascii=True)
    for what, path in (("page", page), ("left out in training and evaluation", listed)):
        if path:
            NOTE.print(printable(f"{what}: {path}"))
    errors = [each.kind for each in report.findings if each.severity == "error"]
    if flags.strict and errors:
        raise DataError(f"{shown(flags.data)}: {', '.join(errors)}; see the findings above")


def _examine(data: Data, flags: CheckFlags) -> Survey:
    """Decode every image, with a progress bar where somebody can see it."""
    survey = Survey(data)
    limits = Limits(
        seconds=flags.seconds_per_image,
        memory_mb=flags.memory_mb,
        patience=max(Limits.patience, 10 * flags.seconds_per_image),
    )
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    workers = flags.workers or cores()
    answers = examine_all(survey.splits, workers=min(workers, len(survey)), limits=limits)
    with (
        closing(answers),
        Progress(*columns, console=NOTE, transient=True, disable=not NOTE.is_terminal) as progress,
    ):
        task = progress.add_task("check", total=len(survey))
        for part, i, answer in answers:
            survey.add(part, i, answer)
            progress.advance(task)
    return survey


class _Rate(ProgressColumn):
    """Shows images a second."""

    def render(self, task: Task) -> Text:
        """Give the text of the column."""
        return Text("" if task.speed is None else f"{task.speed:,.0f} images/s")


def _write_page(report: CheckReport, flags: CheckFlags) -> Path:
    from vitrail.report.check_page import write_check_page  # loads matplotlib

    path = flags.page or Path(f"{plain_name(report.survey.data.name)}-check.html")
    write_check_page(path, report, flags.data)
    return path


def _write_list(report: CheckReport, flags: CheckFlags) -> Path | None:
    """Write what is to be left out, or an empty list over an old one; give where it is."""
    path = flags.quarantine or default_quarantine(flags.data)
    if path is None:
        if report.left_out:
            NOTE.print("nothing can be written beside this data; name a list with --quarantine")
        return None
    if not report.left_out and not path.exists():
        return None
    try:
        write_quarantine(path, report.left_out)
    except StorageError as error:
        if flags.quarantine:
            raise
        NOTE.print(printable(f"{error}; name another place with --quarantine"))
        return None
    return path


def _print(report: CheckReport, flags: CheckFlags) -> None:
    """Print findings and advice."""
    survey = report.survey
    sizes = ", ".join(
        f"{name} {len(split):,}" for name, split in zip(survey.names, survey.splits, strict=True)
    )
    classes = plural(len(survey.data.classes), "class", "classes")
    OUT.print(printable(f"{survey.data.name}: {plural(len(survey), 'image')} ({sizes}), {classes}"))
    if report.findings:
        OUT.print(_table(report.findings))
    else:
        OUT.print("nothing found: every image can be read, no two are alike")
    for each in report.advice:
        OUT.print(printable(each.flags or "a question to you"))
        OUT.print(printable(f"    {each.why}"))
    command = (
        f"vitrail train --data {shlex.quote(shown(flags.data))} --out runs/mine {report.command}"
    )
    OUT.print("")
    OUT.print(printable(command))


def _table(findings: Sequence[Finding]) -> Table:
    table = Table(show_lines=True)
    table.add_column("")
    table.add_column("what", ratio=3)
    table.add_column("for example", ratio=2, overflow="fold")
    for each in findings:
        what = Text(printable(each.summary))
        what.append("\n").append(printable(each.advice), "dim")
        cases = "\n".join(printable(_example(item)) for item in each.items[:CASES])
        table.add_row(Text(each.severity, STYLES[each.severity]), what, cases)
    return table


def _example(item: Item) -> str:
    """Name one case: its images, or what it says."""
    if len(item.images) == 1:
        return f"{item.images[0].key}: {item.reason}"
    if len({image.label for image in item.images}) > 1:
        return " = ".join(f"{image.key} ({image.label})" for image in item.images)
    return " = ".join(image.key for image in item.images) or item.reason
