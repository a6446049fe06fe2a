"""What copies of one picture mean: leaks, conflicting labels, repetitions."""

from collections.abc import Iterator, Sequence

import numpy as np

from vitrail.data.check.copies import Copies, Link
from vitrail.data.check.finding import Finding, Item, Severity, listed, plural
from vitrail.data.check.survey import Survey

SHOWN = 6  # images that are named of one group of copies


def copy_findings(copies: Copies) -> Iterator[Finding]:
    """Tell what was found among the copies, the worst first."""
    yield from _leaks(copies)
    yield from _conflicts(copies)
    yield from _repeated(copies)
    yield from _alike(copies)


def _leaks(copies: Copies) -> Iterator[Finding]:
    """Pictures that are in several splits."""
    survey = copies.survey
    if links := copies.leaks:
        yield Finding(
            kind="leak",
            severity="error",
            count=len(links),
            summary=f"{plural(len(links), 'image')} in more than one split",
            advice="the quarantine list leaves out the copies on the training side",
            items=_items(survey, links),
        )
    if links := copies.near_leaks:
        share = len(copies.impure(links)) / len(survey)
        advice = "the quarantine list leaves out the copies on the training side"
        if copies.many_leak:
            advice = (
                f"{share:.0%} of all images are too many to leave out: if they are frames of one "
                "film or parts of one picture, split again, by where they come from"
            )
        yield Finding(
            kind="near_leak",
            severity="error",
            count=len(links),
            summary=f"{plural(len(links), 'pair')} of nearly the same image across splits",
            advice=advice,
            items=_items(survey, links),
        )


def _conflicts(copies: Copies) -> Iterator[Finding]:
    """Pictures with several labels."""
    if links := copies.conflicts:
        yield Finding(
            kind="conflict",
            severity="error",
            count=len(links),
            summary=f"{plural(len(links), 'image')} with different labels on its copies",
            advice="keep the right one and remove the others; until then the quarantine list "
            "leaves out all of them",
            items=_items(copies.survey, links),
        )
    if links := copies.near_conflicts:
        yield Finding(
            kind="near_conflict",
            severity="warning",
            count=len(links),
            summary=f"{plural(len(links), 'pair')} of nearly the same image with different labels",
            advice="in pictures of one scene that may be right; else one of the labels is wrong",
            items=_items(copies.survey, links),
        )


def _repeated(copies: Copies) -> Iterator[Finding]:
    """Pictures that are in one split several times."""
    survey = copies.survey
    told = {id(link) for link in copies.conflicts + copies.near_conflicts}
    inside = [each for each in copies.exact if id(each) not in told and _is_repeated(survey, each)]
    if inside:
        extra = sum(len(link.rows) - 1 for link in inside)
        yield Finding(
            kind="duplicate",
            severity="warning",
            count=len(inside),
            summary=f"{plural(len(inside), 'image')} repeated within a split, "
            f"{plural(extra, 'copy', 'copies')} in all",
            advice="each copy counts as an image of its own; remove those that are not meant",
            items=_items(survey, inside),
        )
    near = [
        link
        for link in copies.near
        if id(link) not in told and len(set(survey.parts[link.rows])) == 1
    ]
    if near:
        whole = "all" in survey.names
        severity: Severity = "warning" if whole else "note"
        advice = "they count twice; remove those that are not meant"
        if whole:
            advice = "a split that is cut from them may put some on both sides; make split folders"
        yield Finding(
            kind="near_duplicate",
            severity=severity,
            count=len(near),
            summary=f"{plural(len(near), 'pair')} of nearly the same image within a split",
            advice=advice,
            items=_items(survey, near),
        )


def _alike(copies: Copies) -> Iterator[Finding]:
    """Drawings that look alike, which letters and signs do without being copies."""
    if links := copies.alike:
        across = [link for link in links if len(set(copies.survey.parts[link.rows])) > 1]
        yield Finding(
            kind="alike",
            severity="warning" if across else "note",
            count=len(links),
            summary=f"{plural(len(links), 'pair')} of pictures on a plain ground that are alike"
            + (f", {len(across):,} of them across splits" if across else ""),
            advice="letters and signs often are; of photographs it means copies: look at them",
            items=_items(copies.survey, links),
        )


def _is_repeated(survey: Survey, link: Link) -> bool:
    return bool(np.bincount(survey.parts[link.rows]).max() > 1)


def _items(survey: Survey, links: Sequence[Link]) -> tuple[Item, ...]:
    return listed(_item(survey, link) for link in links)


def _item(survey: Survey, link: Link) -> Item:
    """Name the first images of a group, of each split and label at least one if there is room."""
    marks = np.stack([survey.parts[link.rows], survey.labels[link.rows]], axis=1)
    _, first = np.unique(marks, axis=0, return_index=True)
    rest = np.setdiff1d(np.arange(len(link.rows)), first)
    rows = link.rows[np.concatenate([first, rest])[:SHOWN]].tolist()
    images = tuple(survey.image(row) for row in rows)
    digests = survey.table["sha256"][link.rows]
    what = "the same pixels" if link.exact else "nearly the same"
    if (digests == digests[0]).all():
        what = "the same file"
    more = len(link.rows) - len(rows)
    return Item(f"{what}, and {more:,} more" if more else what, images)
