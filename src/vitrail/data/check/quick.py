"""The part of a check that is quick enough to stand before every training."""

import hashlib
from collections.abc import Iterator

import numpy as np
from torch import Tensor

from vitrail.data.check.class_findings import class_findings
from vitrail.data.check.finding import SEVERITIES, Finding, Image, Item, Severity, plural
from vitrail.data.check.record import FLAT
from vitrail.data.check.survey import Survey
from vitrail.data.dataset import Data
from vitrail.data.keyed import uniform
from vitrail.data.preprocess import Preprocess
from vitrail.errors import ImageError

KINDS: dict[str, tuple[Severity, str]] = {  # what is told of the images that were looked at
    "broken": ("error", "cannot be used"),
    "leak": ("error", "in more than one split"),
    "blank": ("warning", "of one colour only"),
}


def quick_check(data: Data, preprocess: Preprocess, *, images: int = 256) -> list[Finding]:
    """Look at counts and names, and decode some images; give the worst findings first.

    The images are spread over all splits, and the same ones each time. `vitrail check` looks at
    all of them, and for copies that are not equal byte by byte.

    Args:
        images: how many are decoded at most, in this process.
    """
    counts = {name: split.counts(len(data.classes)) for name, split in data.splits.items()}
    findings = [*_sample(Survey(data), preprocess, images), *class_findings(data, counts)]
    return sorted(findings, key=lambda each: SEVERITIES.index(each.severity))


def _sample(survey: Survey, preprocess: Preprocess, images: int) -> Iterator[Finding]:
    """Decode some images, and compare their files."""
    count = min(images, len(survey))
    places = np.arange(count)
    drawn = (places + uniform("check", 0, 0, places, 1)[:, 0]) * len(survey) / max(1, count)
    cases: dict[str, list[Item]] = {kind: [] for kind in KINDS}
    seen: dict[bytes, Image] = {}
    for row in drawn.astype(np.int64).tolist():
        part, i = survey.place(row)
        image = survey.image(row)
        try:
            data = survey.splits[part].read(i)
            pixels = preprocess.load(data, image.key)
        except ImageError as error:
            cases["broken"].append(Item(str(error).removeprefix(f"{image.key}: "), (image,)))
            continue
        if _is_blank(pixels, preprocess):
            cases["blank"].append(Item("of one colour", (image,)))
        first = seen.setdefault(hashlib.sha256(data).digest(), image)
        if first.split != image.split:
            cases["leak"].append(Item("the same file", (first, image)))
    for kind, (severity, what) in KINDS.items():
        if found := cases[kind]:
            yield Finding(
                kind=kind,
                severity=severity,
                count=len(found),
                summary=f"{len(found)} of {plural(count, 'image')} looked at: {what}",
                advice="`vitrail check` finds all of them, and lists what is to be left out",
                items=tuple(found),
            )


def _is_blank(pixels: Tensor, preprocess: Preprocess) -> bool:
    """Whether an image shows nothing; of 16 bits, measurements may use a small part."""
    if preprocess.depth == 16:
        return bool(pixels.min() == pixels.max())
    return bool(pixels.float().std(dim=(1, 2), correction=0).max() < FLAT)
