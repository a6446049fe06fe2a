"""Where images come from: `--data` is one string everywhere."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vitrail.data import folder, manifest
from vitrail.data.arrow import hub, parquet
from vitrail.data.dataset import Data, Labels, LabelSets, Split
from vitrail.data.included import load_digits, load_glyphs
from vitrail.data.listing import Listing, arrange, measure_all
from vitrail.data.quarantine import default_quarantine, read_quarantine
from vitrail.data.shards import source as shards
from vitrail.data.splitting import Fractions
from vitrail.errors import DataError, did_you_mean

# Built-in data sets by name.
BUILTIN: dict[str, Callable[[], Data]] = {"glyphs": load_glyphs, "digits": load_digits}


class Source(NamedTuple):
    """One kind of data set that a string can name."""

    what: str  # in words
    matches: Callable[[str], bool]
    list: Callable[[str], Listing]  # raises DataError


# The first that matches is taken.
SOURCES: dict[str, Source] = {
    "hub": Source("hf://NAME, a data set of Hugging Face", hub.matches, hub.list_hub),
    "shards": Source("tar shards such as DIR/{0000..0099}.tar", shards.matches, shards.list_shards),
    "parquet": Source("Parquet files with images inside", parquet.matches, parquet.list_parquet),
    "manifest": Source(
        "a .csv, .tsv, .jsonl or .parquet manifest", manifest.matches, manifest.list_manifest
    ),
    "folder": Source("a folder of images", folder.matches, folder.list_folder),
}


def open_data(
    source: str, fractions: Fractions | None = None, left_out: Mapping[str, str] | None = None
) -> Data:
    """Open a data set to train on: the name of a built-in one, or any of `SOURCES`.

    Without a val split, val is cut from the training images by their content
    (`split_by_content`), as `fractions` say, and so is test where that is missing too.

    Args:
        left_out: images that are not used: key and reason, as a quarantine list has them.
    Raises:
        DataError: no such data, no images, one class only, or a class without training images.
    """
    if source in BUILTIN:
        return BUILTIN[source]()
    return arrange(list_source(source), fractions or Fractions(), left_out or {})


def open_to_measure(source: str, left_out: Mapping[str, str] | None = None) -> Data:
    """Open images that only measure a model: nothing is cut off, and classes may be missing.

    Without splits, all images are one split, `all`.

    Raises:
        DataError: no such data, or no images.
    """
    if source in BUILTIN:
        return BUILTIN[source]()
    return measure_all(list_source(source), left_out or {})


def quarantined(source: str, where: str = "auto") -> dict[str, str]:
    """Read which images of a data set are left out, and why.

    Args:
        where: a quarantine list; `none`; or `auto`, the list that `vitrail check` wrote beside the
            data, if there is one.
    Raises:
        DataError: the list cannot be read.
    """
    path = default_quarantine(source) if where == "auto" else Path(os.path.expanduser(where))
    if where == "none" or path is None or (where == "auto" and not path.exists()):
        return {}
    return read_quarantine(path)


def list_source(source: str) -> Listing:
    """List what a string names, as it lies there. Raises DataError."""
    for kind in SOURCES.values():
        if kind.matches(source):
            return kind.list(source)
    near = did_you_mean(source, BUILTIN)
    there = os.path.exists(os.path.expanduser(source))
    what = "is no data set" if there else "no such file or folder"
    kinds = ", ".join(kind.what for kind in SOURCES.values())
    raise DataError(f"data={source!r}: {what}{near}; allowed are {' and '.join(BUILTIN)}, {kinds}")


def absolute_source(source: str) -> str:
    """Name a data set so that it is found from any working folder."""
    named = source in BUILTIN or "://" in source
    if named or not any(kind.matches(source) for kind in SOURCES.values()):
        return source
    return os.path.abspath(os.path.expanduser(source))


def restrict(data: Data, keys: Mapping[str, Sequence[str]]) -> Data:
    """Take exactly these samples, in this order: the splits that a run recorded.

    Raises:
        DataError: one of them is no longer there.
    """
    places = {
        key: (name, i) for name, split in data.splits.items() for i, key in enumerate(split.keys)
    }
    splits = {}
    for name, wanted in keys.items():
        missing = [key for key in wanted if key not in places]
        if missing:
            raise DataError(
                f"data={data.name}: {missing[0]!r} of the {name} split is no longer there "
                f"({len(missing)} are missing); restore the images, or name others with --data"
            )
        splits[name] = _gather(data, [places[key] for key in wanted])
    return replace(data, splits=splits)


def _gather(data: Data, places: Sequence[tuple[str, int]]) -> Split:
    """Make a split of samples of other splits."""
    names = {name for name, _ in places}
    if len(names) == 1:
        return data.splits[names.pop()].take(np.array([i for _, i in places], np.int64))
    found = [(data.splits[name], i) for name, i in places]
    weighted = all(split.weights is not None for split, _ in found)
    return Split(
        tuple(split.keys[i] for split, i in found),
        _labels(data, found),
        Picked(found),
        np.array([split.weights[i] for split, i in found if split.weights is not None])
        if weighted
        else None,
    )


def _labels(data: Data, found: Sequence[tuple[Split, int]]) -> Labels:
    if data.multi_label:
        sets = [np.atleast_1d(split.labels[i]).tolist() for split, i in found]
        return LabelSets.of(sets, len(data.classes))
    return np.array([split.labels[i] for split, i in found], np.int64)


class Picked:
    """Reads samples of several splits."""

    def __init__(self, places: list[tuple[Split, int]]) -> None:
        """The split and index of each sample."""
        self.places = places

    def __call__(self, i: int) -> bytes:
        """Give the bytes of sample i. Raises ImageError."""
        split, place = self.places[i]
        return split.read(place)
