"""The checkpoint formats by name. A new one is a new file and a line here."""

from collections.abc import Iterator

from vitrail.errors import WeightsError
from vitrail.weights.deit import DEIT
from vitrail.weights.dino import DINO, DINOV2
from vitrail.weights.foreign import Format
from vitrail.weights.google import GOOGLE
from vitrail.weights.huggingface import HUGGINGFACE
from vitrail.weights.mae import MAE
from vitrail.weights.source import Source
from vitrail.weights.swin import SWIN
from vitrail.weights.timm import TIMM
from vitrail.weights.torchvision import TORCHVISION
from vitrail.weights.wrapped import unwrap

# The first that matches reads a file, so those with names of their own come before those that
# share theirs. Vitrail's own format is a folder with model.json: see `native`.
FORMATS: dict[str, Format] = {
    "google": GOOGLE,
    "torchvision": TORCHVISION,
    "mae": MAE,
    "dinov2": DINOV2,
    "dino": DINO,
    "deit": DEIT,
    "swin": SWIN,
    "huggingface": HUGGINGFACE,
    "timm": TIMM,
}


def recognise(source: Source, wanted: str | None = None) -> tuple[str, Source]:
    """Find the format by the names of the tensors, as they are or without what is around them.

    Args:
        wanted: the format, if it is known.
    Returns:
        the name of the format, and the tensors under the names that it knows.
    Raises:
        WeightsError: no format knows them, or not the wanted one.
    """
    for given in _ways_to_see(source):
        for name, format in FORMATS.items():
            if wanted in (None, name) and format.matches(given):
                return name, given
    if wanted is not None:
        bare = unwrap(source)
        if FORMATS[wanted].admits(bare):
            return wanted, bare
        raise WeightsError(
            f"{source.where}: its tensors are not those of format={wanted!r}; leave format out to "
            "have it recognised"
        )
    names = sorted(source.tensors)
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    raise WeightsError(
        f"{source.where}: these {len(names)} tensors are of no known format "
        f"({', '.join(['vitrail', *FORMATS])}): {shown or 'none at all'}"
    )


def _ways_to_see(source: Source) -> Iterator[Source]:
    yield source
    yield unwrap(source)
