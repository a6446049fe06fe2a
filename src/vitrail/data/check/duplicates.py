"""Which images are the same: equal pixels, or nearly equal pictures.

A picture's hash has 64 bits, the signs of the low frequencies of its 16 x 16 thumbnail (a pHash:
Zauner 2010, section 3.2.1). Candidates agree in one of four parts of it (multi-index hashing,
Norouzi et al. 2012, arXiv:1307.2982), where each of the two least certain bits of a part may also
be taken the other way. The thumbnails decide. Time grows with n log n, and in a crowd of pictures
that look alike each is compared with CROWD others only.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

from vitrail.data.check.record import GOOD, THUMB

PARTS, BITS = 4, 16  # parts of a hash, bits of each
CROWD = 512  # most candidates of one picture for one part of its hash
FAR = 12  # bits of two hashes from which on pictures are different
BLOCK = 1 << 20  # pairs that are looked at in one go
SOME = 1 << 14  # pictures that are looked at in one go
SAME = 0.1  # difference of thumbnails, as a part of their contrast, up to which they are the same
NOISE = 1.5  # difference that another compression makes on its own, grey levels
COLOUR = 6.0  # difference of the colour thumbnails that is allowed, levels
ASPECT = 0.1  # difference of aspects that is allowed: a small image resized is rounded
PLAIN = 4.0  # contrast of the thumbnail, grey levels, under which there is nothing to compare
DRAWN = 0.35  # part of a grey thumbnail in exactly one tone from which on it is a drawing
TWO_TONES = 0.75  # part of a thumbnail in two tones from which on it is a drawing, too
TONE = 2  # levels by which cells of one tone may differ

Rows = NDArray[np.int64]
Table = NDArray[Any]  # of RECORD, n rows


def exact_groups(table: Table) -> list[Rows]:
    """Find the images with equal pixels: the rows of each group of two or more, in order."""
    rows = np.flatnonzero(table["status"] == GOOD)
    digests = table["pixels"][rows]
    order = np.lexsort((rows, digests[:, 1], digests[:, 0]))
    ranked = digests[order]
    changes = np.flatnonzero((ranked[1:] != ranked[:-1]).any(1)) + 1
    groups = np.split(rows[order], changes)
    return sorted((group for group in groups if len(group) > 1), key=lambda group: int(group[0]))


def near_pairs(table: Table) -> Rows:
    """Find the pairs of images that show the same picture in other pixels.

    Of images with equal pixels only the first is compared, and blank ones are left out.

    Returns:
        p x 2 rows of the table, the smaller first, in order.
    """
    chosen = _comparable(table)
    if len(chosen) < 2:
        return np.empty((0, 2), np.int64)
    hashes, doubts = _hash(table["thumb"][chosen])
    found = [_confirm(table, chosen[pairs]) for pairs in _candidates(hashes, doubts)]
    return np.unique(np.concatenate(found), axis=0)


def is_drawn(table: Table) -> NDArray[np.bool_]:
    """Tell for each row whether it is a drawing: few tones, and little else.

    Letters, signs and simple shapes are often alike without being copies of each other.
    """
    result = np.zeros(len(table), np.bool_)
    for start in range(0, len(table), SOME):
        some = table[start : start + SOME]
        thumbs = some["thumb"].reshape(len(some), -1)
        places = np.arange(len(some))[:, None]
        counts = np.bincount((thumbs + 256 * places).ravel(), minlength=256 * len(some))
        counts = counts.reshape(-1, 256)
        ground = some["grey"] & (counts.max(1) >= DRAWN * thumbs.shape[1])
        sums = np.cumsum(np.pad(counts, ((0, 0), (TONE + 1, TONE))), axis=1)
        tones = sums[:, 2 * TONE + 1 :] - sums[:, : -2 * TONE - 1]  # cells within TONE of each
        first = tones.argmax(1)
        apart = np.abs(np.arange(256) - first[:, None]) > 2 * TONE
        both = tones.max(1) + np.where(apart, tones, 0).max(1)
        result[start : start + SOME] = ground | (both >= TWO_TONES * thumbs.shape[1])
    return result


def _comparable(table: Table) -> Rows:
    """Give the rows that are compared: good, not blank, and each picture once."""
    useful = (table["status"] == GOOD) & ~table["blank"]
    for group in exact_groups(table):
        useful[group[1:]] = False
    rows = np.flatnonzero(useful)
    parts = [rows[start : start + SOME] for start in range(0, len(rows), SOME)]
    return np.concatenate(
        [part[table["thumb"][part].std((1, 2)) >= PLAIN] for part in parts] or [rows]
    )


def _hash(thumbs: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Hash thumbnails [n, 16, 16].

    Returns:
        n hashes, and for each part of each the two bits that are least certain: n x PARTS x 2.
    """
    down, across = np.indices((THUMB, THUMB)).reshape(2, -1)
    low = np.lexsort((down, down + across))[1 : 1 + PARTS * BITS]  # from the slowest, without 0, 0
    low = low.reshape(BITS, PARTS).T.ravel()  # each part has slow and fast ones
    bit = np.uint64(1) << np.arange(PARTS * BITS, dtype=np.uint64)
    hashes = np.empty(len(thumbs), np.uint64)
    doubts = np.empty((len(thumbs), PARTS, 2), np.uint64)
    for start in range(0, len(thumbs), SOME):
        some = slice(start, start + SOME)
        waves = dctn(thumbs[some].astype(np.float32), axes=(1, 2), norm="ortho")
        waves = waves.reshape(-1, THUMB * THUMB)[:, low]
        waves -= np.median(waves, axis=1, keepdims=True)
        hashes[some] = np.where(waves > 0, bit, np.uint64(0)).sum(1, dtype=np.uint64)
        weak = np.abs(waves).reshape(-1, PARTS, BITS).argpartition(1, axis=2)[:, :, :2]
        doubts[some] = bit.reshape(PARTS, BITS)[np.arange(PARTS)[:, None], weak]
    return hashes, doubts


def _candidates(hashes: NDArray[np.uint64], doubts: NDArray[np.uint64]) -> Iterator[Rows]:
    """Give pairs of places whose hashes are near, each perhaps more than once."""
    top = np.uint64(64 - BITS)
    for part in range(PARTS):
        turn = np.uint64(BITS * part), np.uint64((64 - BITS * part) % 64)
        turned = hashes >> turn[0] | hashes << turn[1] if part else hashes  # this part is last
        turned = turned << top | turned >> np.uint64(BITS)  # this part is first
        order = np.argsort(turned, kind="stable")
        ranked = turned[order]
        for flips in range(4):
            asked = turned.copy()
            for which in range(2):
                if flips >> which & 1:
                    flip = doubts[:, part, which] >> turn[0]
                    asked ^= flip << top
            first = np.searchsorted(ranked, asked >> top << top, "left")
            last = np.searchsorted(ranked, asked | (np.uint64(1) << top) - np.uint64(1), "right")
            middle = np.searchsorted(ranked, asked, "left")
            first = np.maximum(first, middle - CROWD // 2)
            last = np.minimum(last, first + CROWD)
            yield from _spread(hashes, order, first, last)


def _spread(hashes: NDArray[np.uint64], order: Rows, first: Rows, last: Rows) -> Iterator[Rows]:
    """Pair place i with `order[first[i]:last[i]]`, in blocks; keep those whose hashes are near."""
    counts = np.maximum(last - first, 0)
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        done = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + BLOCK, "right")))
        some = counts[start:stop]
        one = np.repeat(np.arange(start, stop), some)
        within = np.arange(int(some.sum())) - np.repeat(ends[start:stop] - some - done, some)
        other = order[np.repeat(first[start:stop], some) + within]
        near = (one != other) & (np.bitwise_count(hashes[one] ^ hashes[other]) <= FAR)
        yield np.sort(np.stack([one[near], other[near]], axis=1), axis=1)
        start = stop


def _confirm(table: Table, pairs: Rows) -> Rows:
    """Keep the pairs of rows whose thumbnails are the same."""
    pairs = np.unique(pairs, axis=0)
    kept = []
    for start in range(0, len(pairs), SOME):
        some = pairs[start : start + SOME]
        one, other = table[some[:, 0]], table[some[:, 1]]
        a, b = one["thumb"].astype(np.float32), other["thumb"].astype(np.float32)
        apart = np.sqrt(((a - b) ** 2).mean((1, 2)))
        contrast = np.minimum(a.std((1, 2)), b.std((1, 2)))
        tint = np.sqrt(((one["colour"] - other["colour"].astype(np.float32)) ** 2).mean((1, 2, 3)))
        shape = (one["width"] * other["height"].astype(np.float64)) / (
            other["width"] * one["height"].astype(np.float64)
        )
        same = (apart <= np.maximum(NOISE, SAME * contrast)) & (tint <= COLOUR)
        kept.append(some[same & (np.abs(np.log(shape)) <= ASPECT)])
    return np.concatenate(kept) if kept else np.empty((0, 2), np.int64)
