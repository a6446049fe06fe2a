"""Fonts that are the same design, and the split that keeps them together."""

import hashlib

import numpy as np
from numpy.typing import NDArray

SAME = 0.92  # mean cosine of two alphabets from which the second is a copy and is dropped
ALIKE = 0.91  # mean cosine from which two families must stay in one split
SALT = 563  # the answer of `find_salt` for the shipped fonts
SHARES = (("test", 0.15), ("val", 0.10), ("train", 0.75))

Alphabets = NDArray[np.float32]


def similarity(alphabets: NDArray[np.uint8]) -> Alphabets:
    """Compare fonts letter by letter: the mean over letters of the cosine of two pictures.

    Args:
        alphabets: uint8 [fonts, letters, height, width].

    Returns:
        float32 [fonts, fonts], 1 = the same pictures.
    """
    flat = alphabets.reshape(*alphabets.shape[:2], -1).astype(np.float32)
    flat /= np.maximum(np.linalg.norm(flat, axis=2, keepdims=True), 1e-6)
    flat = flat.reshape(len(flat), -1)
    return flat @ flat.T / np.float32(alphabets.shape[1])


def copies(alike: Alphabets, threshold: float = SAME) -> dict[int, int]:
    """Map each font that repeats an earlier one onto that one; the earlier one is kept."""
    found: dict[int, int] = {}
    for font in range(1, len(alike)):
        for earlier in np.flatnonzero(alike[font, :font] >= threshold):
            if int(earlier) not in found:
                found[font] = int(earlier)
                break
    return found


def group(families: list[str], alike: Alphabets, threshold: float = ALIKE) -> list[str]:
    """Name the group of each font: families joined by any two fonts that look alike.

    The name is the first family of the group in alphabetical order.
    """
    parent = {family: family for family in families}

    def root(family: str) -> str:
        while parent[family] != family:
            family = parent[family]
        return family

    for first, second in np.argwhere(np.triu(alike >= threshold, 1)):
        low, high = sorted((root(families[first]), root(families[second])))
        parent[high] = low
    return [root(family) for family in families]


def split_of(name: str, salt: int = SALT) -> str:
    """Give the split of a group: a pure function of its name."""
    digest = hashlib.sha256(f"vitrail glyphs {salt} {name}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    for split, share in SHARES:
        if place < share:
            return split
        place -= share
    return "train"


def familiarity(alike: Alphabets, names: list[str]) -> Alphabets:
    """Measure how usual each font is: its likeness to the nearest font of another group."""
    group_of = np.asarray(names)
    return np.where(group_of[:, None] == group_of, -1, alike).max(axis=1)


def find_salt(alike: Alphabets, names: list[str], within: float = 0.01) -> int:
    """Find the first salt whose splits have the stated shares and fonts as usual as the whole set.

    Sizes and pictures decide, no model does. `within` bounds the difference of each split's share
    of fonts from SHARES, and of its mean familiarity from that of all fonts.
    """
    usual = familiarity(alike, names)
    for salt in range(100_000):
        splits = np.asarray([split_of(name, salt) for name in names])
        parts = [(splits == split, share) for split, share in SHARES]
        if all(abs(part.mean() - share) <= within for part, share in parts) and all(
            abs(usual[part].mean() - usual.mean()) <= within for part, _ in parts
        ):
            return salt
    raise ValueError(f"no salt keeps every split within {within} of its share")
