"""The data sets that come with the package: `glyphs` (letters of typefaces) and `digits` (scanned).

Both are read from local files; nothing is downloaded. Neither may be mirrored: a mirrored letter is
another letter, or none.
"""

import hashlib
import io
import json
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitrail.data.dataset import Data, Split
from vitrail.errors import DataError

INDEX_FIELDS = {"format", "size", "classes", "splits", "fonts"}
DIGIT_SHARES = (("test", 0.2), ("val", 0.1), ("train", 0.7))
DIGIT_SEED = "vitrail digits 0"

Tiles = NDArray[np.uint8]


def load_glyphs(folder: Traversable | None = None) -> Data:
    """Give the letters A to Z in several hundred fonts, 32 x 32 grey, white on black.

    The splits share no family of typefaces, so val and test ask for letters in designs never seen.
    Fonts and licences: `glyphs.json` and `GLYPHS-LICENSES.md` in `builtin` beside this file.

    Args:
        folder: where the files are; those of the package by default.

    Raises:
        DataError: a file is missing or damaged.
    """
    folder = folder or files("vitrail.data") / "builtin"
    index = _read_index(folder / "glyphs.json")
    classes, size = index["classes"], index["size"]
    splits = {}
    for name, part in index["splits"].items():
        fonts = [index["fonts"][place] for place in part["fonts"]]
        tiles = _read_sheet(folder / part["sheet"], part["sha256"], size)
        names = [f"{font['family']}-{font['style']}" for font in fonts]
        keys = [f"{name}/{letter}/{font}.png" for letter in classes for font in names]
        if len(tiles) != len(keys):
            raise _damaged(folder / part["sheet"], f"{len(tiles)} tiles instead of {len(keys)}")
        labels = np.repeat(np.arange(len(classes)), len(fonts))
        splits[name] = Split(tuple(keys), labels, _reader(tiles))
    return Data("glyphs", tuple(classes), splits, flips_safe=False)


def load_digits() -> Data:
    """Give scikit-learn's 1,797 scanned digits, 8 x 8 grey, 0..16 stretched to 0..255.

    Source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI; the half that
    scikit-learn ships. The split depends on the pixels alone, so equal pictures stay together.
    """
    from sklearn import datasets

    bunch = datasets.load_digits()
    tiles = np.rint(np.asarray(bunch.images) * (255 / 16)).astype(np.uint8)
    members: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for place, tile in enumerate(tiles):
        members[_digit_split(tile.tobytes())].append(place)
    splits = {}
    for name, places in members.items():
        labels = np.asarray(bunch.target)[places].astype(np.int64)
        keys = tuple(
            f"{name}/{label}/{place:04d}.png" for place, label in zip(places, labels, strict=True)
        )
        splits[name] = Split(keys, labels, _reader(tiles[places]))
    return Data("digits", tuple("0123456789"), splits, flips_safe=False)


def _digit_split(pixels: bytes) -> str:
    """Give the split of a picture: a pure function of its pixels."""
    digest = hashlib.sha256(DIGIT_SEED.encode() + pixels).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    for split, share in DIGIT_SHARES:
        if place < share:
            return split
        place -= share
    return "train"


def _read_index(path: Traversable) -> dict[str, Any]:
    """Read `glyphs.json`."""
    try:
        index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(index, dict) or not INDEX_FIELDS <= index.keys():
        raise _damaged(path, f"fields {sorted(INDEX_FIELDS)} expected")
    if index["format"] != 1:
        raise _damaged(path, f"format {index['format']!r} instead of 1")
    return index


def _read_sheet(path: Traversable, sha256: str, size: int) -> Tiles:
    """Read one sheet: a row of tiles a letter, a column a font.

    Returns:
        uint8 [letters * fonts, size, size], letter by letter.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _damaged(path, str(error)) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise _damaged(path, "its sha256 is not the one in glyphs.json")
    sheet = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    rows, columns = sheet.shape[0] // size, sheet.shape[1] // size
    tiles = sheet.reshape(rows, size, columns, size).swapaxes(1, 2)  # rows columns size size
    return np.ascontiguousarray(tiles).reshape(rows * columns, size, size)


def _damaged(path: Traversable, why: str) -> DataError:
    """Word the refusal of a file that came with the package."""
    return DataError(f"{path}: the file is damaged or missing ({why}); install vitrail again")


def _reader(tiles: Tiles) -> Callable[[int], bytes]:
    """Give the function that reads tile i; it can be pickled, for worker processes."""
    return partial(_tile_png, tiles)


def _tile_png(tiles: Tiles, place: int) -> bytes:
    """Encode one tile [height, width] as an 8-bit grey PNG."""
    buffer = io.BytesIO()
    Image.fromarray(tiles[place]).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
