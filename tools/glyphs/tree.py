"""Large sets: one PNG a picture, in folders by split and class."""

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from glyphs.choose import Chosen
from glyphs.faces import Face
from glyphs.groups import split_of
from glyphs.render import Jitter, Picture, fit_font, fit_letter
from glyphs.write import class_folder, write_picture

DEGREES = 6.0  # jitter turns by at most this, either way
SCALE = 0.85  # and shrinks to no less than this


@dataclass(frozen=True)
class Tree:
    """What to write."""

    letters: str
    size: int  # pixels, height = width
    images: int  # at most so many
    jitter: int = 0  # extra pictures of each letter
    seed: int = 0


def jitter_of(face: Face, copy: int, seed: int) -> Jitter:
    """Draw the change of one extra copy of a font: a pure function of font, copy and seed."""
    key = [seed, copy, *face.name.encode()]
    degrees, scale = np.random.default_rng(key).random(2)
    return Jitter(float((2 * degrees - 1) * DEGREES), float(SCALE + (1 - SCALE) * scale))


def alphabet(face: Face, tree: Tree, jitter: Jitter) -> list[Picture]:
    """Render one font: each letter fitted alone for one case, all at one scale for mixed case."""
    if tree.letters.isupper():
        return [fit_letter(face.path, letter, tree.size, jitter) for letter in tree.letters]
    return fit_font(face.path, tree.letters, tree.size, jitter)


def write_tree(chosen: Chosen, tree: Tree, out: Path) -> dict[str, int]:
    """Write `out/<split>/<class>/<family>-<style>.png`, plain pictures first, then jittered ones.

    Extra copies end in `-j1`, `-j2`, ...; only whole alphabets are written, so that classes are
    balanced: a font with an empty letter, or at a size too small for its strokes, is left out.

    Returns:
        Number of pictures by split.
    """
    counts = {"train": 0, "val": 0, "test": 0}
    fonts = list(zip(chosen.faces, chosen.groups, strict=True))
    for copy, (face, group) in product(range(1 + tree.jitter), fonts):
        if sum(counts.values()) + len(tree.letters) > tree.images:
            break
        pictures = alphabet(face, tree, jitter_of(face, copy, tree.seed) if copy else Jitter())
        if any(picture.max() < 128 for picture in pictures):
            continue
        split = split_of(group)
        name = f"{face.name}-j{copy}.png" if copy else f"{face.name}.png"
        for letter, picture in zip(tree.letters, pictures, strict=True):
            write_picture(picture, out / split / class_folder(letter) / name)
        counts[split] += len(pictures)
    return counts
