"""Reads a report as a browser would: its elements, and the texts in them."""

from html.parser import HTMLParser
from pathlib import Path

EMPTY = {"meta", "img", "source", "br", "rect"}  # written without an end tag


class Page(HTMLParser):
    """Every element with its attributes, and the texts by element name; tags must pair up."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"attribute twice: {tag} {attrs}"
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in EMPTY:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open[-1]][-1] += data

    def attributes(self, name: str) -> list[str]:
        """Give every value of an attribute."""
        return [attributes[name] for _, attributes in self.elements if name in attributes]

    def tags(self, tag: str) -> list[dict[str, str]]:
        """Give the attributes of every element of one name."""
        return [attributes for name, attributes in self.elements if name == tag]
