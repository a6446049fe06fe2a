"""Numbers that are a function of their key."""

import itertools

import numpy as np
import pytest
from scipy import stats

from vitrail.data.keyed import permutation, uniform

STREAMS = ("flip", "affine", "warp", "erase", "mixup", "crop", "step")


def test_numbers_never_change() -> None:
    """A resumed or repeated run draws what it drew under every earlier version."""
    expected = [
        [0.2508893817083705, 0.31930425070228907],
        [0.6227347920669124, 0.25870793794312985],
    ]
    assert uniform("affine", 7, np.array([0, 1]), np.array([3, 4]), 2).tolist() == expected
    assert permutation(7, 3, 10).tolist() == [8, 4, 5, 3, 6, 0, 9, 7, 1, 2]
    assert permutation(7, 3, 10, 1).tolist() == [9, 4, 8, 7, 1, 5, 3, 2, 6, 0]


def test_same_for_scalars_and_arrays() -> None:
    epochs, samples = np.array([0, 5, 5, 2]), np.array([9, 0, 1, 9])
    together = uniform("warp", 3, epochs, samples, 6)
    assert together.shape == (4, 6) and together.dtype == np.float64
    for row, epoch, sample in zip(together, epochs, samples, strict=True):
        assert (uniform("warp", 3, int(epoch), int(sample), 6)[0] == row).all()
    assert (uniform("warp", 3, 5, samples[1:3], 6) == together[1:3]).all()
    assert uniform("warp", 3, 0, np.empty(0, dtype=np.int64), 6).shape == (0, 6)


def test_a_longer_draw_begins_with_the_shorter_one() -> None:
    samples = np.array([1, 2])
    long, short = (uniform("erase", 0, 0, samples, count) for count in (9, 4))
    assert (long[:, :4] == short).all()


@pytest.mark.parametrize("stream", STREAMS)
def test_uniform_over_samples_and_over_epochs(stream: str) -> None:
    over_samples = uniform(stream, 1, 0, np.arange(20_000), 2)
    over_epochs = uniform(stream, 1, np.arange(20_000), np.zeros(20_000, dtype=np.int64), 2)
    for numbers in (over_samples, over_epochs):
        assert numbers.min() >= 0 and numbers.max() < 1
        assert stats.kstest(numbers[:, 0], "uniform").pvalue > 1e-4
        assert stats.kstest(numbers[:, 1], "uniform").pvalue > 1e-4


def test_streams_seeds_epochs_and_columns_are_independent() -> None:
    samples = np.arange(20_000)
    rows = [uniform(stream, 0, 0, samples, 1)[:, 0] for stream in STREAMS]
    rows += [uniform("flip", seed, 0, samples, 1)[:, 0] for seed in (1, 2, 2**40)]
    rows += [uniform("flip", 0, epoch, samples, 1)[:, 0] for epoch in (1, 2, 3)]
    rows += list(uniform("flip", 0, 0, samples, 4)[:, 1:].T)
    rows.append(uniform("flip", 0, 0, samples + 20_000, 1)[:, 0])
    correlations = np.corrcoef(rows)[np.triu_indices(len(rows), 1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(len(samples))


def test_neighbouring_samples_are_independent() -> None:
    numbers = uniform("crop", 0, 0, np.arange(20_001), 1)[:, 0]
    assert abs(np.corrcoef(numbers[1:], numbers[:-1])[0, 1]) < 5 / np.sqrt(20_000)


def test_seed_epoch_and_sample_do_not_stand_for_each_other() -> None:
    keys = list(itertools.product(range(6), repeat=3))
    first = {float(uniform("flip", seed, epoch, sample, 1)[0, 0]) for seed, epoch, sample in keys}
    assert len(first) == len(keys)


def test_long_stream_names_are_told_apart() -> None:
    names = ("mixup", "rectangle", "rectangles", "rectangle of the second kind", "rectangl")
    assert len({float(uniform(name, 0, 0, 0, 1)[0, 0]) for name in names}) == len(names)


@pytest.mark.parametrize("n", [1, 2, 7, 1000])
def test_permutation_is_one(n: int) -> None:
    order = permutation(3, 4, n)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(n))


def test_permutation_differs_by_epoch_seed_and_stream() -> None:
    keys = [(seed, epoch) for seed in (0, 1, 2, -1, 2**63) for epoch in range(4)]
    orders = {
        tuple(permutation(seed, epoch, 50, stream).tolist())
        for seed, epoch in keys
        for stream in (0, 1)
    }
    assert len(orders) == 2 * len(keys)


def test_permutation_puts_each_sample_everywhere() -> None:
    places = np.array([permutation(0, epoch, 10).tolist() for epoch in range(2000)])
    counts = np.stack([np.bincount(column, minlength=10) for column in places.T])
    assert stats.chisquare(counts.ravel()).pvalue > 1e-4
