"""The checkpoint formats by name. A new one is a new file and a line here."""

from vitrail.errors import WeightsError
from vitrail.weights.foreign import Format
from vitrail.weights.source import Source
from vitrail.weights.timm import TIMM

# The first that matches reads a file, so those with names of their own come before those that
# share theirs. Vitrail's own format is a folder with model.json: see `native`.
FORMATS: dict[str, Format] = {
    "timm": TIMM,
}


def recognise(source: Source) -> str:
    """Find the format by the names of the tensors.

    Raises:
        WeightsError: no format knows them.
    """
    for name, format in FORMATS.items():
        if format.matches(source):
            return name
    names = sorted(source.tensors)
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    raise WeightsError(
        f"{source.where}: these {len(names)} tensors are of no known format "
        f"({', '.join(['vitrail', *FORMATS])}): {shown or 'none at all'}"
    )
