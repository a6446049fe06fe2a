"""Which licence a font of a Debian package has, and whether Vitrail may ship pictures made from it.

The answer comes from the package's own `copyright` file. Where that has the machine-readable form
(https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/), the paragraphs that may cover
the font are read; else the whole text is. When in doubt the font is refused.
"""

import re
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

ALLOWED = ("OFL", "Apache", "Public-Domain", "MIT", "BSD")
NAMES = (  # pattern of a short name, in lower case -> what it is
    (r"l?gpl|gfdl|agpl|cc-by|artistic|lppl|ipa|gust|bakoma|vera|bitstream|custom|other", ""),
    (r"ofl|open font|open_font|^sil\b", "OFL"),
    (r"apache", "Apache"),
    (r"public.?domain|cc0|unlicense", "Public-Domain"),
    (r"^mit\b|expat|^x11", "MIT"),
    (r"^0?bsd", "BSD"),
)
TEXTS = (  # what a free-text copyright file must hold -> what it is
    (r"sil open font licen[sc]e|open font licen[sc]e", "OFL"),
    (r"apache license,? version 2", "Apache"),
)
COPYLEFT = r"general public licen[sc]e|\bgpl\b"
MIXED = COPYLEFT + r"|lppl|project public licen[sc]e|gust font|creative commons|public domain"
NOT_FONTS = (
    r"\.(xml|xsl|txt|md|html?|css|js|py|pl|sh|rb|c|h|cpp|java)$"
    r"|\.(woff2?|eot|svg|png|pdf|tex|sty|ya?ml)$"
)


def simplify(name: str) -> str:
    """Map one short licence name onto ALLOWED, or onto "" if it is none of them."""
    name = name.strip().strip("()").lower()
    return next((family for pattern, family in NAMES if re.search(pattern, name)), "")


def simplify_expression(expression: str) -> str:
    """Read `A or B`, of which one must be allowed, and `A and B`, of which all must be."""
    for choice in re.split(r"\s+or\s+|\|", expression.strip(), flags=re.IGNORECASE):
        parts = [simplify(part) for part in re.split(r"\s+and\s+|,\s+", choice)]
        if parts and all(parts):
            return parts[0]
    return ""


def paragraphs(text: str) -> list[dict[str, str]]:
    """Split a machine-readable copyright file into paragraphs of lower-case field -> value."""
    found = []
    for block in re.split(r"\n[ \t]*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            head = re.match(r"([A-Za-z-]+):(.*)", line)
            if head:
                name = head[1].lower()
                fields[name] = head[2].strip()
            elif name:
                fields[name] += "\n" + line.strip()
        if fields:
            found.append(fields)
    return found


def covering(text: str, font: str) -> list[str]:
    """List the licence expressions that may cover the file named `font`, less the packaging's own.

    A paragraph that names the font by a pattern for font files decides alone; else every paragraph
    that could hold it counts, because the paths of the source are not those of the package.
    """
    named, possible = [], []
    for paragraph in paragraphs(text):
        licence = paragraph.get("license", "").splitlines()
        if not licence or not licence[0]:
            continue
        for pattern in re.split(r"[\s,]+", paragraph.get("files", "").strip()):
            last = PurePosixPath(pattern).name if pattern else ""
            if not last or "debian/" in pattern or re.search(NOT_FONTS, last):
                continue
            if fnmatchcase(font.lower(), last.lower()):
                sure = re.search(r"\.(ttf|otf|\?tf|\[ot\]tf)$", last, re.IGNORECASE)
                (named if sure else possible).append(licence[0])
    return named or possible


def classify(text: str, font: str) -> str:
    """Name the licence of the file `font` in a package whose copyright file is `text`.

    Returns:
        One of ALLOWED, or "" if the licence is another one or unclear.
    """
    expressions = covering(text, font)
    if expressions:
        simple = [simplify_expression(expression) for expression in expressions]
        return simple[0] if all(simple) else ""
    if re.search(r"^files\s*:", text, re.IGNORECASE | re.MULTILINE):
        return ""
    # Free text: the packaging's own licence is often the GPL and is named in a sentence of its own.
    flat = re.sub(r"\s+", " ", text)
    rest = re.sub(r"[^.]*\bpackaging\b.*", "", flat, flags=re.IGNORECASE)
    if re.search(MIXED, rest, re.IGNORECASE):
        return ""
    return next((f for pattern, f in TEXTS if re.search(pattern, rest, re.IGNORECASE)), "")


def contradicts(licence_field: str) -> bool:
    """Say whether the font's own licence entry (name table, 13) knows a copyleft licence only."""
    free = re.search(r"open font|ofl|apache|public domain|\bmit\b", licence_field, re.IGNORECASE)
    return bool(re.search(COPYLEFT, licence_field, re.IGNORECASE)) and not free
