"""What all pages share: one HTML file that loads nothing and runs nothing."""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render_page(template: str, styles: tuple[str, ...], context: dict[str, Any]) -> str:
    """Fill in a template; it gets `context`, its `style` and the `policy` that allows only that.

    Args:
        template: the name of a file in `templates`.
        styles: names of style sheets there; HTML has to escape nothing in them.
    """
    folder = Path(__file__).parent / "templates"
    style = "".join((folder / name).read_text(encoding="utf-8") for name in styles)
    return _templates().get_template(template).render(context, style=style, policy=_policy(style))


@cache
def _templates() -> Environment:
    """Load the templates. Everything that is inserted is escaped; a missing name is an error."""
    return Environment(
        loader=PackageLoader("vitrail.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _policy(style: str) -> str:
    """Allow this style sheet and pictures inside the file; forbid everything else."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
