"""A folder of images: `DIR/<split>/<class>/…` or `DIR/<class>/…`."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vitrail.data.dataset import Names
from vitrail.data.listing import Listing, number_classes
from vitrail.data.naming import SPLIT_NAMES, is_image_name, natural_order
from vitrail.errors import DataError, ImageError

LARGEST = 1 << 30  # bytes of an image file


def matches(source: str) -> bool:
    """Whether a string names a folder."""
    return os.path.isdir(os.path.expanduser(source))  # also answers for impossible names


def list_folder(source: str) -> Listing:
    """List the images of a folder, class by class, in natural order.

    Hidden files and folders are left out. Where one subfolder has the name of a split, all of them
    must have one.

    Raises:
        DataError: folders of classes and splits are mixed, or a folder cannot be read.
    """
    root = Path(os.path.expanduser(source))
    folders = _subfolders(root)
    splits = _split_folders(root, folders)
    strangers = [name for name in folders if splits and name.lower() not in SPLIT_NAMES]
    if strangers:
        raise DataError(
            f"{root}: folder {strangers[0]!r} stands beside the split folders; "
            f"allowed beside train are val and test, with one folder for each class inside"
        )
    inside = {name: _subfolders(root / folder) for name, folder in splits.items()} or {"": folders}
    classes = number_classes((name for names in inside.values() for name in names), str(root))
    keys: list[str] = []
    labels: list[int] = []
    places = {}
    for split, names in inside.items():
        first, top = len(keys), f"{splits[split]}/" if split else ""
        for label, name in enumerate(classes):
            if name in names:
                found = _images_below(f"{root}/{top}{name}", f"{top}{name}/")
                keys += found
                labels += [label] * len(found)
        places[split] = np.arange(first, len(keys))
    packed = Names.of(keys)
    return Listing(
        name=root.resolve().name,
        where=str(root),
        keys=packed,
        classes=classes,
        labels=np.array(labels, np.int64),
        read=FileReader(root, packed),
        splits={} if "" in places else places,
    )


def _split_folders(root: Path, folders: list[str]) -> dict[str, str]:
    """Find the folder of each split. Raises DataError where two stand for the same one."""
    splits: dict[str, str] = {}
    for name in folders:
        split = SPLIT_NAMES.get(name.lower())
        if split is None:
            continue
        if split in splits:
            raise DataError(
                f"{root}: folders {splits[split]!r} and {name!r} both stand for the {split} "
                f"split; put their images into one"
            )
        splits[split] = name
    return splits


def _subfolders(root: Path) -> list[str]:
    try:
        entries = list(os.scandir(root))
    except OSError as error:
        raise DataError(f"{root}: {error.strerror or error}") from None
    names = [each.name for each in entries if not each.name.startswith(".") and is_folder(each)]
    return natural_order(names)


def is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether it is a folder, perhaps by a link; a link to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


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
    return [path / name for name in _images_below(str(path), "")]


def _images_below(folder: str, prefix: str) -> list[str]:
    """List the image files in a folder and below as `prefix` and path, in natural order."""
    found: list[str] = []
    waiting = [(folder, prefix)]
    while waiting:
        place, start = waiting.pop()
        try:
            with os.scandir(place) as entries:
                for each in entries:
                    if each.name.startswith("."):
                        continue
                    if each.is_dir(follow_symlinks=False):  # a link may lead back here
                        waiting.append((each.path, f"{start}{each.name}/"))
                    elif is_image_name(each.name):
                        found.append(start + each.name)
        except OSError as error:
            raise DataError(f"{place}: {error.strerror or error}") from None
    return natural_order(found)


class FileReader:
    """Reads the i-th file of a list below a root; can be sent to worker processes."""

    def __init__(self, root: Path, keys: Sequence[str]) -> None:
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
            with open(path, "rb", opener=_open_at_once) as file:
                about = os.fstat(file.fileno())
                if not stat.S_ISREG(about.st_mode):
                    raise ImageError(f"{path}: is no regular file")
                if about.st_size > LARGEST:
                    raise ImageError(f"{path}: has {about.st_size} bytes, more than {LARGEST}")
                return file.read()
        except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
            raise ImageError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _open_at_once(path: str, flags: int) -> int:
    """Open a file without waiting: a named pipe would wait for its writer for ever."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
