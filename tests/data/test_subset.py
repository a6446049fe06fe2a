"""Parts of a split: nested, by the names of the images."""

import numpy as np
import pytest

from vitrail.data.dataset import LabelSets, Split
from vitrail.data.subset import take_subset
from vitrail.errors import ConfigError, DataError

CLASSES = ("ant", "bee", "cat")
SIZES = (100, 37, 3)


def make_split(order: np.ndarray | None = None) -> Split:
    labels = np.repeat(np.arange(3), SIZES)
    keys = [f"{CLASSES[label]}/{i}.png" for i, label in enumerate(labels)]
    order = np.arange(len(labels)) if order is None else order
    return Split(
        tuple(keys[i] for i in order), labels[order], lambda i: keys[order[i]].encode(), None
    )


def test_fractions_of_each_class() -> None:
    part = take_subset(make_split(), CLASSES, fraction=0.1)
    assert part.counts(3).tolist() == [10, 4, 1]  # at least one of each
    assert take_subset(make_split(), CLASSES, fraction=1.0).keys == make_split().keys
    assert all(part.read(i) == key.encode() for i, key in enumerate(part.keys))
    assert all(key.startswith(CLASSES[part.labels[i]]) for i, key in enumerate(part.keys))


def test_so_many_of_each_class() -> None:
    assert take_subset(make_split(), CLASSES, per_class=3).counts(3).tolist() == [3, 3, 3]


@pytest.mark.parametrize("seed", [0, 1])
def test_small_parts_lie_within_larger_ones(seed: int) -> None:
    split, smaller = make_split(), set[str]()
    for fraction in (0.01, 0.05, 0.1, 0.5, 0.99, 1.0):
        keys = take_subset(split, CLASSES, fraction=fraction, seed=seed).keys
        assert smaller <= set(keys)
        smaller = set(keys)
    one, three = (take_subset(split, CLASSES, per_class=k, seed=seed).keys for k in (1, 3))
    assert set(one) < set(three)


def test_the_order_of_the_split_does_not_matter() -> None:
    """It is kept, and the same images are chosen."""
    order = np.random.default_rng(0).permutation(sum(SIZES))
    mixed = make_split(order)
    for settings in ({"fraction": 0.2}, {"per_class": 2}):
        part = take_subset(mixed, CLASSES, **settings)
        assert set(part.keys) == set(take_subset(make_split(), CLASSES, **settings).keys)
        assert list(part.keys) == [key for key in mixed.keys if key in set(part.keys)]


def test_another_seed_gives_another_part() -> None:
    parts = {take_subset(make_split(), CLASSES, fraction=0.2, seed=s).keys for s in range(5)}
    assert len(parts) == 5


def test_a_class_without_images() -> None:
    part = take_subset(make_split(), (*CLASSES, "dog"), fraction=0.1)
    assert part.counts(4).tolist() == [10, 4, 1, 0]


def test_images_of_several_classes() -> None:
    labels = LabelSets.of(
        [[0, 1] if i % 5 == 0 else [i % 2] if i % 3 else [] for i in range(60)], 2
    )
    split = Split(tuple(map(str, range(60))), labels, lambda i: b"")
    few, more = (take_subset(split, ("a", "b"), per_class=k) for k in (1, 4))
    assert set(few.keys) <= set(more.keys)
    assert min(more.counts(2)) >= 4 and 4 <= len(more) <= 8
    assert len(take_subset(split, ("a", "b"), fraction=0.25)) == 15


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give either fraction or per_class"),
        ({"fraction": 0.5, "per_class": 1}, "give either fraction or per_class"),
        ({"fraction": 0.0}, r"fraction=0\.0 must be above 0"),
        ({"fraction": 1.5}, r"fraction=1\.5 must be above 0 and at most 1"),
        ({"per_class": 0}, "per_class=0 must be at least 1"),
    ],
)
def test_settings_out_of_range(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        take_subset(make_split(), CLASSES, **settings)


def test_a_class_that_is_too_small() -> None:
    with pytest.raises(DataError, match="class 'cat' has 3 images, fewer than per_class=4"):
        take_subset(make_split(), CLASSES, per_class=4)
