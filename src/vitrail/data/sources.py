"""Where images come from: `--data` is one string everywhere."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vitrail.data.dataset import Data, Split
from vitrail.data.included import load_digits, load_glyphs
from vitrail.data.splitting import Fractions, split_by_content
from vitrail.errors import DataError, ImageError, did_you_mean

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp"})

# Built-in data sets by name. Everything else is the path of a folder.
SOURCES: dict[str, Callable[[], Data]] = {"glyphs": load_glyphs, "digits": load_digits}


def open_data(source: str, fractions: Fractions | None = None) -> Data:
    """Open a data set: the name of a built-in one, or a folder of images.

    A folder is `DIR/<split>/<class>/…` or `DIR/<class>/…`. Without a val folder, val
    is cut from the training images by their content (`split_by_content`), as `fractions` say, and
    so is test where that is missing too.

    Raises:
        DataError: no such folder, no images, one class only, or a class is missing in a split.
    """
    if source in SOURCES:
        return SOURCES[source]()
    return _open_folder(_require_folder(source), fractions or Fractions())


def absolute_source(source: str) -> str:
    """Name a data set so that it is found from any working folder."""
    path = os.path.abspath(os.path.expanduser(source))
    return path if source not in SOURCES and os.path.isdir(path) else source


def open_to_measure(source: str) -> Data:
    """Open images that only measure a model: nothing is cut off, and classes may be missing.

    A folder without split folders is one split, `all`.

    Raises:
        DataError: no such folder, or no images.
    """
    if source in SOURCES:
        return SOURCES[source]()
    root = _require_folder(source)
    folders = _subfolders(root)
    places = _split_folders(root, folders) or {"all": root}
    classes = natural_order(
        sorted({name for place in places.values() for name in _subfolders(place)})
    )
    listed = {name: _list_images(root, classes, place) for name, place in places.items()}
    for name, listing in listed.items():
        if not listing:
            raise DataError(f"{root} ({name}): no images found inside one folder for each class")
    splits = {name: _split(root, listing) for name, listing in listed.items()}
    return Data(name=root.resolve().name, classes=tuple(classes), splits=splits)


def _require_folder(source: str) -> Path:
    """Find the folder that a source names. Raises DataError."""
    root = Path(os.path.expanduser(source))
    if os.path.isdir(root):  # unlike Path.is_dir, also answers for impossible names
        return root
    near = did_you_mean(source, SOURCES)
    what = "is a file, not a folder" if os.path.exists(root) else "no such folder"
    raise DataError(
        f"data={source!r}: {what}{near}; allowed are a folder of images, {' and '.join(SOURCES)}"
    )


def _open_folder(root: Path, fractions: Fractions) -> Data:
    folders = _subfolders(root)
    splits = _split_folders(root, folders)
    if not splits:
        return _cut(root, {"train": _list_images(root, folders)}, natural_order(folders), fractions)
    strangers = [name for name in folders if name.lower() not in SPLIT_NAMES]
    if strangers:
        raise DataError(
            f"{root}: folder {strangers[0]!r} stands beside the split folders; "
            f"allowed beside train are val and test, with one folder for each class inside"
        )
    if "train" not in splits:
        raise DataError(f"{root}: there is {' and '.join(splits)} but no train folder; add it")
    classes = natural_order(_subfolders(splits["train"]))
    listed = {}
    for split, folder in splits.items():
        unknown = [name for name in _subfolders(folder) if name not in classes]
        if unknown:
            raise DataError(
                f"{folder}: class {unknown[0]!r} is not in train; add it there or remove it here"
            )
        listed[split] = _list_images(root, classes, folder)
    return _cut(root, listed, classes, fractions)


def _split_folders(root: Path, folders: list[str]) -> dict[str, Path]:
    """Find the folder of each split. Raises DataError where two stand for the same one."""
    splits: dict[str, Path] = {}
    for name in folders:
        split = SPLIT_NAMES.get(name.lower())
        if split is None:
            continue
        if split in splits:
            raise DataError(
                f"{root}: folders {splits[split].name!r} and {name!r} both stand for the {split} "
                f"split; put their images into one"
            )
        splits[split] = root / name
    return splits


Listing = list[tuple[str, int]]  # (path relative to the root, label)


def _cut(root: Path, listed: dict[str, Listing], classes: list[str], fractions: Fractions) -> Data:
    """Make the splits that are missing, and check that every class is in every split."""
    if len(classes) < 2:
        raise DataError(
            f"{root}: {len(classes)} class{'' if len(classes) == 1 else 'es'} found"
            f"{f' ({classes[0]!r})' if classes else ''}; "
            f"a classifier needs two or more, each with a folder of its own"
        )
    for split, listing in listed.items():
        _require_all_classes(f"{root} ({split})", listing, classes)
    notes: tuple[str, ...] = ()
    if "val" not in listed:
        listed, notes = split_by_content(root, listed, classes, fractions)
    order = [name for name in ("train", "val", "test") if name in listed]
    return Data(
        name=root.resolve().name,
        classes=tuple(classes),
        splits={name: _split(root, listed[name]) for name in order},
        notes=notes,
    )


def _require_all_classes(where: str, listing: Listing, classes: list[str]) -> None:
    if not listing:
        raise DataError(
            f"{where}: no images found; allowed are {', '.join(sorted(IMAGE_SUFFIXES))} files "
            f"inside one folder for each class"
        )
    present = {label for _, label in listing}
    for label, name in enumerate(classes):
        if label not in present:
            raise DataError(f"{where}: class {name!r} has no image; add some or remove the class")


def _split(root: Path, listing: Listing) -> Split:
    keys = tuple(key for key, _ in listing)
    return Split(keys, tuple(label for _, label in listing), FileReader(root, keys))


def restrict(data: Data, keys: Mapping[str, Sequence[str]]) -> Data:
    """Take exactly these samples, in this order: the splits that a run recorded.

    Raises:
        DataError: one of them is no longer there.
    """
    found = {key: (split, i) for split in data.splits.values() for i, key in enumerate(split.keys)}
    splits = {}
    for name, wanted in keys.items():
        missing = [key for key in wanted if key not in found]
        if missing:
            raise DataError(
                f"data={data.name}: {missing[0]!r} of the {name} split is no longer there "
                f"({len(missing)} are missing); restore the images, or name others with --data"
            )
        places = [found[key] for key in wanted]
        labels = tuple(split.labels[i] for split, i in places)
        splits[name] = Split(tuple(wanted), labels, Picked(places))
    return replace(data, splits=splits)


class Picked:
    """Reads chosen samples of other splits."""

    def __init__(self, places: list[tuple[Split, int]]) -> None:
        """The split and index of each sample."""
        self.places = places

    def __call__(self, i: int) -> bytes:
        """Give the bytes of sample i. Raises ImageError."""
        split, place = self.places[i]
        return split.read(place)


def image_files(path: Path) -> list[Path]:
    """Give the file itself, or all image files in a folder and below, in natural order.

    Hidden files and folders are left out, as they are in a data set.

    Raises:
        ImageError: there is no such file or folder.
    """
    if not os.path.exists(path):
        raise ImageError(f"{path}: no such file or folder")
    if not path.is_dir():
        return [path]
    return [path / name for name in _images_below(path, path)]


class FileReader:
    """Reads the i-th file of a list below a root; can be sent to worker processes."""

    def __init__(self, root: Path, keys: tuple[str, ...]) -> None:
        """`keys` are paths relative to `root`."""
        self.root = root
        self.keys = keys

    def __call__(self, i: int) -> bytes:
        """Give the bytes of file i.

        Raises:
            ImageError: it cannot be read.
        """
        path = self.root / self.keys[i]
        try:
            return path.read_bytes()
        except OSError as error:
            raise ImageError(f"{path}: {error.strerror or error}") from None


def _list_images(root: Path, classes: list[str], folder: Path | None = None) -> Listing:
    """List the image files of each class folder and all folders in it, in natural order."""
    listing = []
    for label, name in enumerate(natural_order(classes)):
        listing += [(key, label) for key in _images_below((folder or root) / name, root)]
    return listing


def _images_below(folder: Path, root: Path) -> list[str]:
    """List the image files in a folder and below, relative to `root`, in natural order."""
    found = []
    for place, below, files in os.walk(folder):
        below[:] = [each for each in below if not each.startswith(".")]
        found += [Path(place) / each for each in files if _is_image_name(each)]
    return natural_order([path.relative_to(root).as_posix() for path in found])


def _refuse_folder(error: OSError) -> None:
    raise DataError(f"{error.filename}: {error.strerror or error}") from None


def _is_image_name(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES


def _subfolders(root: Path) -> list[str]:
    try:
        entries = list(os.scandir(root))
    except OSError as error:
        raise DataError(f"{root}: {error.strerror or error}") from None
    return natural_order([e.name for e in entries if e.is_dir() and not e.name.startswith(".")])


def natural_order(names: list[str]) -> list[str]:
    """Sort as people count: 2 before 10."""
    return sorted(names, key=lambda name: (_natural_key(name), name))


def _natural_key(name: str) -> list[tuple[int, int, str]]:
    parts = re.split(r"([0-9]+)", name.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]
