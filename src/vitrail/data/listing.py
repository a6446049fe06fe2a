"""From what a source holds to a data set: classes are checked, missing splits are cut.

Every kind of source gives a `Listing`; what follows is the same for all of them.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from vitrail.data.dataset import Data, Labels, LabelSets, Split
from vitrail.data.naming import IMAGE_SUFFIXES, is_text, natural_order
from vitrail.data.splitting import Fractions, split_by_content
from vitrail.errors import DataError, ImageError

LONGEST_CLASS_NAME = 1000  # characters
MANY = 2000  # images above which reading all of them shows progress


@dataclass(frozen=True)
class Listing:
    """The samples of a source, as they lie there."""

    name: str  # of the data set
    where: str  # begins every error
    keys: Sequence[str]  # unique and stable
    classes: tuple[str, ...]  # in label order
    labels: Labels
    read: Callable[[int], bytes]  # raises ImageError; can be sent to worker processes
    splits: Mapping[str, NDArray[np.int64]]  # places of each; none where nothing tells them apart
    weights: NDArray[np.float64] | None = None
    digest: Callable[[int], bytes] | None = None  # sha256 of the bytes, where it is known already
    notes: tuple[str, ...] = ()


def number_classes(names: Iterable[str], where: str) -> tuple[str, ...]:
    """Put class names into natural order, which is the order of the labels.

    Raises:
        DataError: a name is empty or unreasonably long.
    """
    unique = set(names)
    for name in unique:
        if not name.strip() or len(name) > LONGEST_CLASS_NAME or not is_text(name):
            raise DataError(
                f"{where}: class name {name[:50]!r} is empty or longer than {LONGEST_CLASS_NAME} "
                "characters, or no text; give every class a name"
            )
    return tuple(natural_order(unique))


def arrange(listing: Listing, fractions: Fractions, left_out: Mapping[str, str]) -> Data:
    """Make the data set that a model is trained on.

    Without a val split, val is cut from the training images by their content, as `fractions` say,
    and so is test where that is missing too. Images of `left_out` (key and reason) are not used.

    Raises:
        DataError: no images, one class only, or a class without an image to train on.
    """
    listing, left = _without(listing, left_out)
    least = 1 if isinstance(listing.labels, LabelSets) else 2
    if len(listing.classes) < least:
        raise DataError(
            f"{listing.where}: {len(listing.classes)} class{_es(len(listing.classes))} found"
            f"{f' ({listing.classes[0]!r})' if listing.classes else ''}; "
            f"a classifier needs {'one' if least == 1 else 'two'} or more"
        )
    splits = dict(listing.splits) or {"train": np.arange(len(listing.keys))}
    _require_training(listing, splits, left)
    notes = listing.notes
    if "val" not in splits:
        cuts = {"val": fractions.val}
        if "test" not in splits and fractions.test > 0:
            cuts["test"] = fractions.test
        parts, told = split_by_content(
            listing.where,
            splits["train"],
            _contents(listing, splits["train"], fractions.seed),
            listing.labels,
            listing.classes,
            cuts,
        )
        splits |= parts
        notes = (*notes, f"split by file content with seed {fractions.seed}: {told}")
    order = [name for name in ("train", "val", "test") if name in splits]
    missing = [_missing(listing, name, splits[name]) for name in order[1:]]
    return Data(
        name=listing.name,
        classes=listing.classes,
        splits={name: _split(listing, splits[name]) for name in order},
        notes=(*notes, *(note for note in missing if note)),
    )


def measure_all(listing: Listing, left_out: Mapping[str, str]) -> Data:
    """Make a data set that only measures: nothing is cut off, and classes may be missing.

    What no split claims is one split, `all`.

    Raises:
        DataError: a split without images.
    """
    listing, left = _without(listing, left_out)
    splits = dict(listing.splits) or {"all": np.arange(len(listing.keys))}
    for name, places in splits.items():
        if not len(places):
            raise DataError(f"{listing.where} ({name}): no images found{left}")
    return Data(
        name=listing.name,
        classes=listing.classes,
        splits={name: _split(listing, places) for name, places in splits.items()},
        notes=listing.notes,
    )


def _without(listing: Listing, left_out: Mapping[str, str]) -> tuple[Listing, str]:
    """Take the images of a list out of every split; give words on it for what may go wrong then."""
    if not left_out:
        return listing, ""
    kept = np.fromiter((key not in left_out for key in listing.keys), bool, len(listing.keys))
    splits = listing.splits or {"": np.arange(len(listing.keys))}
    splits = {name: places[kept[places]] for name, places in splits.items()}
    count = int((~kept).sum())
    if not listing.splits:  # the places themselves are what is left
        listing = _take(listing, splits[""])
        splits = {}
    notes = list(listing.notes)
    if count:
        notes.append(f"{count} images are left out by the quarantine list")
    if count < len(left_out):
        notes.append(f"{len(left_out) - count} lines of the quarantine list name no image here")
    left = f" ({count} are left out by the quarantine list)" if count else ""
    return replace(listing, splits=splits, notes=tuple(notes)), left


def _take(listing: Listing, places: NDArray[np.int64]) -> Listing:
    """Keep these samples only."""
    split = _split(listing, places)
    digest = listing.digest
    return replace(
        listing,
        keys=split.keys,
        labels=split.labels,
        read=split.read,
        weights=split.weights,
        digest=None if digest is None else _Through(digest, places),
    )


class _Through:
    """Gives the digest of chosen samples."""

    def __init__(self, digest: Callable[[int], bytes], places: NDArray[np.int64]) -> None:
        self.digest = digest
        self.places = places

    def __call__(self, i: int) -> bytes:
        return self.digest(int(self.places[i]))


def _split(listing: Listing, places: NDArray[np.int64]) -> Split:
    whole = Split(listing.keys, listing.labels, listing.read, listing.weights)
    every = len(places) == len(whole) and bool((places == np.arange(len(places))).all())
    return whole if every else whole.take(places)


def _contents(listing: Listing, places: NDArray[np.int64], seed: int) -> list[bytes]:
    """Hash seed and content of each sample, nothing for one that cannot be read.

    Shows progress where there are many.
    """
    console = Console(stderr=True)
    quiet = len(places) < MANY or not console.is_terminal
    digests = []
    for i in track(places.tolist(), "read", console=console, transient=True, disable=quiet):
        try:
            content = (listing.digest or _hashed(listing.read))(i)
            digests.append(hashlib.sha256(f"{seed}:".encode() + content).digest())
        except ImageError:
            digests.append(b"")  # whoever loads it will say so
    return digests


def _hashed(read: Callable[[int], bytes]) -> Callable[[int], bytes]:
    return lambda i: hashlib.sha256(read(i)).digest()


def _require_training(listing: Listing, splits: Mapping[str, NDArray[np.int64]], left: str) -> None:
    """Refuse data without training images, or with a class that has none.

    Args:
        left: words on images that were left out.
    """
    if "train" not in splits:
        there = " and ".join(splits)
        raise DataError(f"{listing.where}: there is {there} but no train split; add it")
    for name, places in splits.items():
        if not len(places):
            raise DataError(
                f"{listing.where} ({name}): no images found{left}; allowed are "
                f"{', '.join(sorted(IMAGE_SUFFIXES))} files, each with its class"
            )
    lacking = np.flatnonzero(_counts(listing, splits["train"]) == 0)
    if not len(lacking):
        return
    label = int(lacking[0])
    name = listing.classes[label]
    for split, places in splits.items():
        if split != "train" and _counts(listing, places)[label]:
            raise DataError(
                f"{listing.where} ({split}): class {name!r} is not in train; "
                f"add it there or remove it here"
            )
    raise DataError(
        f"{listing.where} (train): class {name!r} has no image{left}; add some or remove the class"
    )


def _missing(listing: Listing, split: str, places: NDArray[np.int64]) -> str:
    """Say which classes a split lacks, if any: they cannot be measured there."""
    lacking = np.flatnonzero(_counts(listing, places) == 0)
    if not len(lacking):
        return ""
    names = ", ".join(repr(listing.classes[label]) for label in lacking[:3])
    more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
    return f"{split} has no image of {len(lacking)} class{_es(len(lacking))}: {names}{more}"


def _counts(listing: Listing, places: NDArray[np.int64]) -> NDArray[np.int64]:
    labels = listing.labels
    taken = labels.take(places).values if isinstance(labels, LabelSets) else labels[places]
    return np.bincount(taken, minlength=len(listing.classes))


def _es(count: int) -> str:
    return "" if count == 1 else "es"
