"""The whole check of a data set: findings, figures, advice and what to leave out."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitrail.data.check.advice import Advice, advise, input_size
from vitrail.data.check.class_findings import class_findings
from vitrail.data.check.copies import Copies, Link
from vitrail.data.check.copy_findings import copy_findings
from vitrail.data.check.finding import SEVERITIES, Finding
from vitrail.data.check.image_findings import image_findings
from vitrail.data.check.survey import Survey

FORMAT = 1  # of the JSON; another number where a program that reads it would break


@dataclass(frozen=True)
class CheckReport:
    """What a check found."""

    survey: Survey
    findings: tuple[Finding, ...]  # the worst first
    advice: tuple[Advice, ...]
    left_out: dict[str, str]  # key and reason of what belongs on the quarantine list

    @property
    def command(self) -> str:
        """Give the settings as they stand on a command line."""
        return " ".join(each.flags for each in self.advice if each.flags)

    def to_json(self) -> dict[str, Any]:
        """Give plain lists and dictionaries, with stable names."""
        data = self.survey.data
        return {
            "format": FORMAT,
            "data": data.name,
            "images": len(self.survey),
            "usable": int(self.survey.good.sum()),
            "classes": list(data.classes),
            "splits": [dict(each) for each in split_figures(self.survey)],
            "findings": [each.to_json() for each in self.findings],
            "advice": [{"flags": each.flags, "why": each.why} for each in self.advice],
            "left_out": [{"key": key, "reason": why} for key, why in self.left_out.items()],
        }


def conclude(survey: Survey) -> CheckReport:
    """Draw the conclusions from a survey; a pure function."""
    copies = Copies(survey)
    counts = {name: survey.counts(part) for part, name in enumerate(survey.names)}
    findings = [
        *copy_findings(copies),
        *image_findings(survey, input_size(survey)),
        *class_findings(survey.data, counts),
    ]
    findings.sort(key=lambda each: SEVERITIES.index(each.severity))  # else in the order above
    return CheckReport(
        survey, tuple(findings), tuple(advise(survey)), dict(_left_out(survey, copies))
    )


def split_figures(survey: Survey) -> Iterator[dict[str, Any]]:
    """Give the figures of each split: images, classes, sides in pixels, channels in 0 to 255.

    Mean and deviation of the channels are over all images, each with the same weight.
    """
    for part, name in enumerate(survey.names):
        table = survey.table[survey.starts[part] : survey.starts[part + 1]]
        table = table[survey.good[survey.starts[part] : survey.starts[part + 1]]]
        figures: dict[str, Any] = {
            "name": name,
            "images": len(survey.splits[part]),
            "usable": len(table),
            "bytes": int(table["bytes"].sum()),
            "counts": survey.counts(part).tolist(),
        }
        if len(table):
            mean = table["mean"].astype(np.float64)
            spread = (table["std"].astype(np.float64) ** 2 + mean**2).mean(0) - mean.mean(0) ** 2
            figures["height"] = [int(np.percentile(table["height"], p)) for p in (0, 50, 100)]
            figures["width"] = [int(np.percentile(table["width"], p)) for p in (0, 50, 100)]
            figures["mean"] = [round(each, 3) for each in mean.mean(0).tolist()]
            figures["std"] = [round(each, 3) for each in np.sqrt(np.maximum(spread, 0)).tolist()]
        yield figures


def _left_out(survey: Survey, copies: Copies) -> Iterator[tuple[str, str]]:
    """List what training and evaluation should leave out.

    Broken images, all copies that disagree about the label, and of an image in several splits the
    copies on the training side. A key that also names an image to be kept is not listed.
    """
    found: dict[int, str] = {}
    near = [] if copies.many_leak else copies.near_leaks
    for link in [*copies.leaks, *near]:
        for row in copies.impure([link]).tolist():
            found[row] = _leaked(survey, link)
    for link in copies.conflicts:
        for row in link.rows.tolist():
            found[row] = _contradicted(survey, link, row)
    found |= survey.reasons
    listed = {survey.image(row).key for row in found}
    spared = {
        key
        for part, split in enumerate(survey.splits)
        for i, key in enumerate(split.keys)
        if key in listed and int(survey.starts[part]) + i not in found
    }
    for row in sorted(found):
        key = survey.image(row).key
        if key not in spared:
            yield key, found[row]


def _leaked(survey: Survey, link: Link) -> str:
    best = survey.image(int(link.rows[survey.purity(link.rows).argmax()]))
    return f"{'also' if link.exact else 'nearly the same'} in {best.split}: {best.key}"


def _contradicted(survey: Survey, link: Link, row: int) -> str:
    """Say with which label another copy stands."""
    labels = survey.labels
    other = next(each for each in link.rows.tolist() if labels[each] != labels[row])
    image = survey.image(other)
    return f"{survey.image(row).label} here, {image.label} as {image.split}: {image.key}"
