"""What is odd or wrong about classes and names."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from vitrail.data.check.finding import Finding, Item, Severity, listed, plural
from vitrail.data.dataset import Data

TINY, SMALL = 2, 10  # images to learn a class from, under which it is named
UNEVEN, VERY_UNEVEN = 3.0, 10.0  # images of the largest class in units of the smallest
STRANGE = re.compile(  # folders that programs make
    r"\..*|__macosx|thumbs|@eadir|\$recycle\.bin|lost\+found|system volume information"
    r"|__pycache__|cvs"
    r"|(new|untitled) folder( ?\(?\d+\)?)?|untitled.*|neuer ordner.*|nouveau dossier.*"
    r"|(.* - )?copy( \(?\d+\)?)?|copy of .*|temp|tmp|backup|unsorted|quarantine",
    re.IGNORECASE,
)
Counts = dict[str, NDArray[np.int64]]  # images of each class, by split


def class_findings(data: Data, counts: Counts) -> Iterator[Finding]:
    """Tell what was found about classes and names.

    Args:
        counts: for each split, how many usable images each class has.
    """
    yield from _few(data)
    yield from _missing(data, counts)
    yield from _tiny(data, counts)
    yield from _imbalance(data, counts)
    yield from _names(data)
    yield from _strange(data)


def training_split(data: Data) -> str:
    """Name the split that is learned from: train, or the only one."""
    return "train" if "train" in data.splits else next(iter(data.splits))


def _few(data: Data) -> Iterator[Finding]:
    if len(data.classes) < 2 and not data.multi_label:
        yield Finding(
            kind="one_class",
            severity="error",
            count=1,
            summary=f"{plural(len(data.classes), 'class', 'classes')}: nothing to tell apart",
            advice="put the images of each class into a folder of their own",
            items=(),
        )


def _missing(data: Data, counts: Counts) -> Iterator[Finding]:
    """Classes without an image in a split."""
    learned = training_split(data)
    for name, each in counts.items():
        missing = [data.classes[i] for i in np.flatnonzero(each == 0)]
        if missing:
            severity: Severity = "error" if name == learned else "warning"
            cannot = "be learned" if name == learned else "be measured"
            yield Finding(
                kind="missing_class",
                severity=severity,
                count=len(missing),
                summary=f"{plural(len(missing), 'class', 'classes')} without a usable image in "
                f"{name}",
                advice=f"such a class cannot {cannot}; add images, or remove the class everywhere",
                items=listed(Item(f"{each!r} has no image in {name}") for each in missing),
            )


def _tiny(data: Data, counts: Counts) -> Iterator[Finding]:
    """Classes with very few images to learn from."""
    name = training_split(data)
    each = counts[name]
    for kind, low, high, advice in (
        ("tiny_class", 1, TINY, "one image cannot show what varies in a class; add more"),
        ("small_class", TINY, SMALL, "expect little of them, and measure them one by one"),
    ):
        found = np.flatnonzero((each >= low) & (each < high))
        if len(found):
            yield Finding(
                kind=kind,
                severity="warning",
                count=len(found),
                summary=f"{plural(len(found), 'class', 'classes')} with fewer than {high} images "
                f"in {name}",
                advice=advice,
                items=listed(
                    Item(f"{data.classes[i]!r} has {plural(int(each[i]), 'image')} in {name}")
                    for i in found
                ),
            )


def _imbalance(data: Data, counts: Counts) -> Iterator[Finding]:
    """Classes of very different sizes."""
    name = training_split(data)
    ratio = imbalance(counts[name])
    if ratio < UNEVEN:
        return
    each = counts[name]
    present = np.flatnonzero(each)
    order = present[np.argsort(each[present], kind="stable")]
    severity: Severity = "warning" if ratio > VERY_UNEVEN and not data.multi_label else "note"
    advice = "accuracy hides the small classes; look at balanced accuracy and each class"
    if severity == "warning":
        advice = "draw small classes more often (--data.sampling.balance sqrt); look at each class"
    yield Finding(
        kind="imbalance",
        severity=severity,
        count=len(present),
        summary=f"the largest class of {name} has {ratio:,.1f} times the images of the smallest; "
        f"as even as {effective(each):.1f} of {len(present)} equal classes",
        advice=advice,
        items=listed(
            Item(f"{data.classes[i]!r} has {plural(int(each[i]), 'image')}") for i in order
        ),
    )


def imbalance(counts: NDArray[np.int64]) -> float:
    """Give the images of the largest class in units of the smallest that has any; 1 if none has."""
    present = counts[counts > 0]
    return float(present.max() / present.min()) if len(present) else 1.0


def effective(counts: NDArray[np.int64]) -> float:
    """Give the number of equal classes that would be as uneven: exp of the entropy."""
    shares = counts[counts > 0] / max(1, counts.sum())
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _names(data: Data) -> Iterator[Finding]:
    """Names that some systems take for one."""
    alike = list(_collisions(data.classes))
    if alike:
        yield Finding(
            kind="class_names",
            severity="warning",
            count=len(alike),
            summary=f"{plural(len(alike), 'class name')} spelled in several ways",
            advice="classes that differ in case or in how letters are encoded only are one class "
            "to most people; join them",
            items=listed(Item(" and ".join(map(repr, names))) for names in alike),
        )
    files = list(_collisions(*(split.keys for split in data.splits.values())))
    if files:
        yield Finding(
            kind="file_names",
            severity="warning",
            count=len(files),
            summary=f"{plural(len(files), 'file name')} differing in case or encoding only",
            advice="on a Mac or on Windows one would replace the other; rename them",
            items=listed(Item(" and ".join(map(repr, names))) for names in files),
        )


def _collisions(*parts: Sequence[str]) -> Iterator[list[str]]:
    """Group different names that are one without case and with composed letters."""
    known: dict[str, set[str]] = defaultdict(set)
    for name in chain(*parts):
        if not name.isascii() or name != name.lower():
            known[_plain(name)].add(name)
    plain = {name for name in chain(*parts) if name in known}  # of most names the only spelling
    for name, found in known.items():
        found |= {name} & plain
        if len(found) > 1:
            yield sorted(found)


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _strange(data: Data) -> Iterator[Finding]:
    found = [name for name in data.classes if STRANGE.fullmatch(name.strip())]
    if found:
        yield Finding(
            kind="strange_class",
            severity="warning",
            count=len(found),
            summary=f"{plural(len(found), 'class')} named like a folder that a program made"
            if len(found) == 1
            else f"{len(found)} classes named like folders that programs made",
            advice="move such folders out of the data set",
            items=listed(Item(repr(name)) for name in found),
        )
