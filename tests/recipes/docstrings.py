"""What a recipe's docstring says, by section."""

import inspect
import re
from collections.abc import Callable

SECTIONS = ("Command", "Score", "Time", "Source", "Differs")


def sections(recipe: Callable[[], object]) -> dict[str, str]:
    """Give the text of each section; a section goes on until the next or a blank line."""
    found: dict[str, str] = {}
    for paragraph in re.split(r"\n\s*\n", inspect.getdoc(recipe) or ""):
        name = ""
        for line in paragraph.splitlines():
            head, colon, rest = line.partition(":")
            if colon and head in SECTIONS:
                name = head
                found[name] = rest.strip()
            elif name:
                found[name] += f" {line.strip()}"
    return found


def paper(source: str) -> str:
    """Give the papers that a source names, by their arXiv numbers, or the source as it stands."""
    numbers = re.findall(r"(arXiv:\d{4}\.\d{5})", source)
    return ", ".join(dict.fromkeys(numbers)) or source.partition(";")[0]
