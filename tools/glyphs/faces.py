"""Font files and what they say of themselves; which styles of a family are taken."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from fontTools.ttLib import TTFont, TTLibError

from glyphs.licences import contradicts

STYLE_WORDS = (
    "thin hairline extralight ultralight light book regular roman normal plain medium semibold "
    "demibold demi semi extrabold ultrabold bold heavy extra black ultra fat "
    "italic oblique slanted inclined kursiv "
    "cond condensed compressed extracondensed semicondensed narrow expanded extended wide"
).split()
UPRIGHT = ("regular", "roman", "normal", "plain", "book")
PREFERRED = (  # the styles taken first; any other follows in alphabetical order
    "regular", "bold", "italic", "light", "bold-italic", "black", "medium", "condensed",
)  # fmt: skip


@dataclass(frozen=True)
class Face:
    """One style of one typeface."""

    path: Path
    package: str
    version: str
    licence: str
    family: str = ""  # slug, without words of weight, slope or width
    style: str = ""  # slug of those words; "regular" if there is none
    title: str = ""  # family name as the font writes it
    copyright: str = ""  # as the font's name table states it

    @property
    def name(self) -> str:
        """`family-style`: unique among the faces that are kept."""
        return f"{self.family}-{self.style}"


def words_of(text: str) -> list[str]:
    """Part a name into lower-case words, at spaces, marks and `aB`."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    return [word for word in re.split(r"[^a-z0-9]+", spaced.lower()) if word]


def split_name(title: str, style: str, stem: str = "") -> tuple[str, str]:
    """Part a font's names into family slug and style slug.

    Style words in the file's name (`stem`) count more than the style that the name table gives,
    because several packages ship all styles under one name.
    `("Lato Black", "Italic")` gives `("lato", "black-italic")`.
    """
    words = words_of(title) or words_of(stem)
    family = [word for word in words if word not in STYLE_WORDS] or words[:1]
    moved = [word for word in words if word not in family]
    in_file = [word for word in words_of(stem) if word in STYLE_WORDS]
    found = dict.fromkeys([*moved, *(in_file or words_of(style))])
    plain = [word for word in found if word not in UPRIGHT and word not in family]
    return "-".join(family), "-".join(plain) or "regular"


def name_of(font: TTFont, *numbers: int) -> str:
    """Give the first entry of the name table that is there, on one line."""
    for number in numbers:
        text = font["name"].getDebugName(number)
        if text and text.strip():
            return re.sub(r"\s+", " ", text).strip()
    return ""


def has_letters(font: TTFont, letters: str) -> bool:
    """Say whether a Unicode table of the font maps every letter to a glyph of its own."""
    table = font.getBestCmap() or {}
    names = [table.get(ord(letter), ".notdef") for letter in letters]
    return ".notdef" not in names and len(set(names)) == len(names)


def read_face(path: Path, face: Face, letters: str) -> Face | str:
    """Fill in what the font file says; give the reason instead if it cannot be used."""
    try:
        with path.open("rb") as stream, TTFont(stream, lazy=True) as font:
            if "fvar" in font:
                return "variable font"
            if not {"glyf", "CFF "} & set(font.keys()):
                return "no outlines"
            if not has_letters(font, letters):
                return "letters missing"
            title = name_of(font, 16, 1) or path.stem
            family, style = split_name(title, name_of(font, 17, 2), path.stem)
            notice = name_of(font, 0)
            licence_field = name_of(font, 13)
    except (TTLibError, OSError, KeyError, AssertionError, UnicodeError) as error:
        return f"cannot be read: {type(error).__name__}"
    if contradicts(licence_field):
        return "the font itself says GPL"
    return replace(face, family=family, style=style, title=title, copyright=notice)


def rank(face: Face) -> tuple[int, str, str]:
    """Order the styles of a family: PREFERRED first, then by name."""
    place = PREFERRED.index(face.style) if face.style in PREFERRED else len(PREFERRED)
    return place, face.style, str(face.path)


def choose_styles(
    faces: Iterable[Face], styles: int, root_of: Callable[[str], str] = str
) -> list[Face]:
    """Take at most `styles` faces a family, one of each name, in the order of `rank`.

    `root_of` gives the name under which a family is counted.
    """
    families: dict[str, dict[str, Face]] = {}
    for face in sorted(faces, key=rank):
        families.setdefault(root_of(face.family), {}).setdefault(face.name, face)
    taken = [face for family in families.values() for face in list(family.values())[:styles]]
    return sorted(taken, key=lambda face: (face.family, rank(face)))
