"""From all readable fonts to the ones that are used: refused, faulty and repeated ones left out."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glyphs import groups
from glyphs.catalogue import ONE_FAMILY, REFUSED, VENDORS
from glyphs.faces import Face, choose_styles
from glyphs.packages import read_package
from glyphs.render import Picture, fault

Render = Callable[[Path], list[Picture]]


@dataclass
class Report:
    """Why fonts were left out: reason -> names."""

    reasons: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        """Note one font."""
        self.reasons.setdefault(reason, []).append(name)

    def text(self) -> str:
        """One line a reason: how many, and which packages or fonts."""
        lines = []
        for reason, names in sorted(self.reasons.items()):
            counts = Counter(names)
            listed = ", ".join(f"{name} ({n})" if n > 1 else name for name, n in counts.items())
            lines.append(f"{reason}: {len(names)}: {listed}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Chosen:
    """The fonts that are used, with their pictures and the group that decides their split."""

    faces: list[Face]
    groups: list[str]
    alphabets: NDArray[np.uint8]  # fonts, letters, height, width


def root_of(family: str) -> str:
    """Give the name under which a family is counted: its own, or that of a larger one."""
    return next((root for root in ONE_FAMILY if family.startswith(root)), family)


def stem_of(family: str) -> str:
    """Give the name that ties families to one split: the first word, if that names a design."""
    root = root_of(family)
    first = root.split("-")[0]
    return root if first in VENDORS else first


def refused(name: str) -> str:
    """Say why a person refused the font `family-style`, or ""."""
    return next((why for pattern, why in REFUSED.items() if fnmatchcase(name, pattern)), "")


def read_all(packages: tuple[str, ...], scratch: Path, letters: str, report: Report) -> list[Face]:
    """Read every font of every package; what cannot be used goes into the report."""
    faces = []
    for package in packages:
        for _, face in read_package(package, scratch, letters):
            if isinstance(face, str):
                report.add(face, package)
            elif why := refused(face.name):
                report.add(f"refused, {why}", face.name)
            else:
                faces.append(face)
    return faces


def choose(faces: list[Face], styles: int, render: Render, report: Report) -> Chosen:
    """Take at most `styles` sound styles a family, drop copies, and tie what looks alike.

    A faulty font is left out before the styles are counted, so that another style takes its place.
    """
    sound, pictures = [], {}
    for face in faces:
        try:
            drawn = render(face.path)
        except OSError as error:
            report.add(f"cannot be drawn: {error}", face.name)
            continue
        if why := fault(drawn):
            report.add(f"drawn {why}", face.name)
            continue
        sound.append(face)
        pictures[face.path] = np.stack(drawn)
    taken = choose_styles(sound, styles, root_of)
    alphabets = np.stack([pictures[face.path] for face in taken])
    twins = groups.copies(groups.similarity(alphabets))
    for copy, kept in twins.items():
        report.add("copy of a font that is kept", f"{taken[copy].name} = {taken[kept].name}")
    keep = [index for index in range(len(taken)) if index not in twins]
    alphabets, taken = alphabets[keep], [taken[index] for index in keep]
    stems = [stem_of(face.family) for face in taken]
    return Chosen(taken, groups.group(stems, groups.similarity(alphabets)), alphabets)
