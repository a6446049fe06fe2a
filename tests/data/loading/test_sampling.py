"""How often images and classes are drawn."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from vitrail.data.dataset import LabelSets, Split
from vitrail.data.loading.sampling import ONCE_EACH, Chances, SamplingConfig, find_chances, resample
from vitrail.errors import ConfigError, DataError

LABELS = np.random.default_rng(0).permutation([0] * 70 + [1] * 25 + [3] * 5)  # class 2 is empty
N = len(LABELS)
SIZES = np.array([70, 25, 0, 5])


def split_of(
    labels: NDArray[np.int64] | LabelSets, weights: NDArray[np.float64] | None = None
) -> Split:
    return Split(tuple(map(str, range(len(labels)))), labels, lambda i: b"", weights)


def chances(split: Split, **settings: object) -> Chances:
    found = find_chances(split, SamplingConfig.parse(settings, "sampling"))
    assert found is not None
    return found


def test_nothing_is_weighed_where_each_image_comes_once() -> None:
    assert find_chances(split_of(LABELS, np.ones(N)), ONCE_EACH) is None
    assert find_chances(split_of(LABELS), SamplingConfig(repeats=3)) is None


@pytest.mark.parametrize(
    ("balance", "share"),
    [("class", [1, 1, 0, 1]), ("sqrt", np.sqrt(SIZES))],
)
@pytest.mark.parametrize("epoch", range(5))
def test_classes_are_drawn_as_often_as_they_should(
    balance: str, share: list[float], epoch: int
) -> None:
    """Within less than one of what is expected, in every single epoch."""
    found = chances(split_of(LABELS), balance=balance)
    samples, copies = resample(3, epoch, found)
    assert len(samples) == len(copies) == N
    expected = N * np.array(share) / np.sum(share)
    assert np.abs(np.bincount(LABELS[samples], minlength=4) - expected).max() < 1
    each = (expected / np.maximum(SIZES, 1))[LABELS]
    assert np.abs(np.bincount(samples, minlength=N) - each).max() < 1


def test_weights_are_kept_to() -> None:
    weights = np.random.default_rng(1).random(N) ** 3
    weights[:7] = 0
    found = chances(split_of(LABELS, weights), weighted=True)
    total = np.zeros(N)
    for epoch in range(400):
        counts = np.bincount(resample(3, epoch, found)[0], minlength=N)
        assert np.abs(counts - N * weights / weights.sum()).max() < 1
        total += counts
    assert (total[:7] == 0).all()
    assert np.abs(total / 400 - N * weights / weights.sum()).max() < 0.1  # over many, exact


def test_weights_and_balance_together() -> None:
    """Classes equally, images within a class by weight."""
    weights = np.random.default_rng(1).random(N) + 0.1
    found = chances(split_of(LABELS, weights), weighted=True, balance="class")
    for label in (0, 1, 3):
        own = found.weights[LABELS == label]
        assert own.sum() == pytest.approx(1)
        assert own == pytest.approx(weights[LABELS == label] / weights[LABELS == label].sum())


def test_several_classes_count_as_the_rarest() -> None:
    labels = LabelSets.of([[0], [0], [0, 1], [], [0], [2, 1], []], 4)
    found = chances(split_of(labels), balance="class")
    # sizes 4, 2, 1, 0; two without a class are a class of their own
    assert found.weights.tolist() == [1 / 4, 1 / 4, 1 / 2, 1 / 2, 1 / 4, 1, 1 / 2]
    assert found.groups.tolist() == [0, 0, 1, 4, 0, 2, 4]
    assert chances(split_of(labels), balance="sqrt").weights[5] == 1


def test_copies_number_the_draws_of_an_image() -> None:
    samples, copies = resample(3, 0, chances(split_of(LABELS), balance="class"))
    for i in np.unique(samples):
        assert sorted(copies[samples == i].tolist()) == list(range((samples == i).sum()))


def test_a_draw_is_a_function_of_seed_and_epoch() -> None:
    found = chances(split_of(LABELS), balance="class")
    keys = [(seed, epoch) for seed in range(3) for epoch in range(4)]
    draws = [tuple(resample(seed, epoch, found)[0].tolist()) for seed, epoch in keys]
    assert len(set(draws)) == len(keys)
    again = [tuple(resample(seed, epoch, found)[0].tolist()) for seed, epoch in reversed(keys)]
    assert again[::-1] == draws


def test_draws_never_change() -> None:
    """A resumed run draws what it drew under every earlier version."""
    found = chances(split_of(np.array([0, 0, 0, 0, 1, 1, 2])), balance="class")
    samples, copies = resample(7, 3, found)
    assert samples.tolist() == [6, 6, 4, 0, 5, 2, 3]
    assert copies.tolist() == [0, 1, 0, 0, 0, 0, 0]


def test_neighbours_in_a_class_are_drawn_independently() -> None:
    """Which images of a large class are left out is another choice in each epoch."""
    found = chances(split_of(LABELS), balance="class")
    drawn = [np.bincount(resample(0, epoch, found)[0], minlength=N) for epoch in range(600)]
    large = np.array(drawn)[:, LABELS == 0]  # each is expected 0.48 times
    correlations = np.corrcoef(large.T)[np.triu_indices(70, 1)]
    assert abs(correlations.mean() + 1 / 69) < 0.01  # as drawn without putting back
    assert np.abs(correlations).max() < 5 / np.sqrt(600)


def test_the_order_is_shuffled() -> None:
    found = chances(split_of(LABELS), balance="class")
    places = [np.flatnonzero(LABELS[resample(0, e, found)[0]] == 3) for e in range(50)]
    assert stats.kstest(np.concatenate(places) / N, "uniform").pvalue > 1e-4


def test_rounding_never_draws_what_has_no_weight() -> None:
    """Weights that no binary number holds exactly; the last images of the line have none."""
    weights = np.full(1000, 0.1)
    weights[::3] = 0
    found = Chances(weights, np.zeros(1000, np.int64))
    for epoch in range(200):
        samples, _ = resample(0, epoch, found)
        assert len(samples) == 1000 and weights[samples].all()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, -2.0, 1.0], r"^1: weight -2\.0 must be a finite number, 0 or more"),
        ([1.0, 1.0, np.nan], r"^2: weight nan"),
        ([0.0, 0.0, 0.0], "the weight of every image is 0"),
    ],
)
def test_weights_that_cannot_be_used(weights: list[float], message: str) -> None:
    split = split_of(np.zeros(3, np.int64), np.array(weights))
    with pytest.raises(DataError, match=message):
        chances(split, weighted=True)


def test_weights_that_are_missing() -> None:
    with pytest.raises(ConfigError, match=r"sampling\.weighted: the data have no weights"):
        chances(split_of(LABELS), weighted=True)
