"""Which sample stands where: the same from any place, for any number of ranks."""

import numpy as np
import pytest

from vitrail.data.dataset import Split
from vitrail.data.keyed import permutation
from vitrail.data.loading.order import COPY_BITS, Order, cut_evenly, part_size
from vitrail.data.loading.sampling import ONCE_EACH, SamplingConfig
from vitrail.errors import ConfigError

PASS = 2**COPY_BITS - 1  # the bits of the epochs that say which pass it is


def make_split(labels: list[int]) -> Split:
    keys = tuple(map(str, range(len(labels))))
    return Split(keys, np.array(labels, np.int64), lambda i: b"")


SPLIT = make_split([0] * 7 + [1] * 3 + [2])
N = len(SPLIT)


@pytest.mark.parametrize("size", [1, 4, 11, 12, 50])
def test_passes_follow_one_another(size: int) -> None:
    order = Order(SPLIT, 5, ONCE_EACH)
    samples, epochs = map(
        np.concatenate, zip(*(order.batch(k, size) for k in range(60)), strict=True)
    )
    for place in range(0, len(samples) - N, N):
        number = place // N
        assert samples[place : place + N].tolist() == permutation(5, number, N).tolist()
        assert (epochs[place : place + N] == number).all()


@pytest.mark.parametrize("sampling", [ONCE_EACH, SamplingConfig(balance="class", repeats=2)])
def test_any_batch_can_be_asked_for_first(sampling: SamplingConfig) -> None:
    unbroken = Order(SPLIT, 5, sampling)
    batches = [unbroken.batch(k, 4) for k in range(30)]
    for k in (29, 3, 17, 0, 8):
        for mine, other in zip(Order(SPLIT, 5, sampling).batch(k, 4), batches[k], strict=True):
            assert mine.tolist() == other.tolist()
        assert unbroken.batch(k, 4)[0].tolist() == batches[k][0].tolist()


def test_repeats_stand_in_one_batch_with_different_copies() -> None:
    order = Order(SPLIT, 5, SamplingConfig(repeats=3))
    plain = Order(SPLIT, 5, ONCE_EACH)
    seen = []
    for k in range(2 * N):
        samples, epochs = order.batch(k, 12)
        distinct, passes = plain.batch(k, 4)
        assert samples.reshape(3, 4).tolist() == [distinct.tolist()] * 3
        assert (epochs & PASS).reshape(3, 4).tolist() == [passes.tolist()] * 3
        assert (epochs >> COPY_BITS).reshape(3, 4).tolist() == [[0] * 4, [1] * 4, [2] * 4]
        assert (samples[:-1] != samples[1:]).all() or k * 4 // N != (k * 4 + 3) // N
        seen += list(zip(samples, epochs, strict=True))
    assert len(set(seen)) == len(seen)  # no draw comes twice
    assert np.bincount(np.array(seen)[:, 0]).tolist() == [2 * N * 12 // N] * N


def test_copies_of_balanced_passes_are_all_different() -> None:
    order = Order(SPLIT, 5, SamplingConfig(balance="class", repeats=2))
    draws = [order.batch(k, 4) for k in range(5 * N)]
    pairs = [pair for samples, epochs in draws for pair in zip(samples, epochs, strict=True)]
    assert len(set(pairs)) == len(pairs) == 20 * N
    copies = np.array([epoch >> COPY_BITS for _, epoch in pairs])
    assert copies.max() >= 2 * 3  # the one image of class 2 is drawn 3 or 4 times a pass


# --- ranks ---


def test_parts() -> None:
    assert part_size(12, 1) == 12 and part_size(12, 4) == 3 and part_size(12, 3, pairs=True) == 4
    assert part_size(7, 1, pairs=True) == 7  # the last of an odd batch stays as it is
    assert part_size(12, 2, repeats=3) == 6


@pytest.mark.parametrize(
    ("batch_size", "ranks", "repeats", "pairs", "message"),
    [
        (10, 4, 1, False, "batch_size=10 must be a multiple of 4 on 4 ranks$"),
        (4, 4, 1, True, "multiple of 8 on 4 ranks, since mixup pairs neighbours"),
        (10, 2, 3, False, "batch_size=10 must be a multiple of sampling.repeats=3"),
        (0, 1, 1, False, "batch_size=0 must be a multiple of 1"),
    ],
)
def test_a_batch_that_cannot_be_cut(
    batch_size: int, ranks: int, repeats: int, pairs: bool, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        part_size(batch_size, ranks, repeats=repeats, pairs=pairs)


@pytest.mark.parametrize("n", [0, 1, 5, 11, 12, 100])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_ranks_cut_evenly(n: int, ranks: int, batch_size: int) -> None:
    cuts = [cut_evenly(n, rank, ranks, batch_size) for rank in range(ranks)]
    assert len({len(cut) for cut in cuts}) == 1
    places = [i for cut in cuts for first, last in cut for i in range(first, last)]
    assert places == list(range(n))
    sizes = [sum(last - first for first, last in cut) for cut in cuts]
    assert max(sizes) - min(sizes) <= 1
    assert max((last - first for cut in cuts for first, last in cut), default=0) <= batch_size
