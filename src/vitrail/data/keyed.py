"""Randomness as a function: the same key gives the same numbers, in any process and any order.

So no generator has a state that must be saved, and neither workers nor a resumed run change a draw.
"""

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)

Indexes = int | NDArray[np.int64]


def uniform(
    stream: str, seed: int, epoch: Indexes, sample: Indexes, count: int
) -> NDArray[np.float64]:
    """Draw `count` numbers in [0, 1) for each sample.

    Args:
        stream: what the numbers are for; different streams are independent.
        seed: of the run.
        epoch: how often the sample was seen before; one number, or one for each sample.
        sample: one index, or b.
    Returns:
        float64, b x count.
    """
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64 is meant
        name = stream.encode()
        key = _mix(np.uint64(int.from_bytes(name[:8].ljust(8), "little")))
        for start in range(8, len(name), 8):
            word = int.from_bytes(name[start : start + 8].ljust(8), "little")
            key = _mix(key ^ np.uint64(word))
        key = _mix(key ^ np.uint64(seed % 2**64))
        key = _mix(key ^ np.asarray(epoch, dtype=np.uint64))
        key = _mix(key ^ np.atleast_1d(np.asarray(sample, dtype=np.uint64)))
        steps = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
        bits = _mix(key[:, None] + steps[None, :])
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(x: NDArray[np.uint64] | np.uint64) -> NDArray[np.uint64]:
    """Scramble 64 bits one-to-one. Source: Steele et al. 2014, SplitMix64."""
    x = x + _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)), dtype=np.uint64)


def permutation(seed: int, epoch: int, n: int, stream: int = 0) -> NDArray[np.int64]:
    """Shuffle 0 … n-1; another order for every (seed, epoch, stream)."""
    generator = np.random.Generator(
        np.random.Philox(
            key=np.array([seed % 2**64, epoch], dtype=np.uint64),
            counter=np.array([0, 0, 0, stream], dtype=np.uint64),
        )
    )
    return generator.permutation(n)
