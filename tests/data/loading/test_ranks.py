"""One order for all: whatever the workers, the ranks and the step at which a run goes on."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.data.samples import digest, make_split
from vitrail.data.augment import AugmentConfig
from vitrail.data.dataset import LabelSets, Split
from vitrail.data.loader import open_images, ordered_batches, require_each_once, train_batches
from vitrail.data.loading.images import Batch, FileImages
from vitrail.data.loading.sampling import ONCE_EACH, SamplingConfig
from vitrail.data.preprocess import Preprocess
from vitrail.errors import ConfigError, DataError

NEAREST = Preprocess(size=(6, 10), interpolation="nearest")  # the same pixels on any processor
PLAIN, CROPS = AugmentConfig(), AugmentConfig(crop_area=(0.3, 1.0))
SAMPLINGS = {
    "none": ONCE_EACH,
    "balanced": SamplingConfig(balance="class"),
    "weighted": SamplingConfig(weighted=True),
    "repeated": SamplingConfig(balance="sqrt", repeats=2),
}
# of the first version of the loader, which knew neither ranks nor sampling: seed 5, steps 0 to 8
FIRST = {
    ("plain", 4): "6dd06309085b5b821218e7ede37f668d4785d1e555ebdefb89aa514d38ff0455",
    ("plain", 30): "4c84c50cbee8852cc95a9e1c79c38a670e27d66f971a347bd70d651624ab90a6",
    ("crops", 4): "eb320ab103860080c369fa6041014f7350cce063867fac4263639a63685bf8ab",
    ("crops", 30): "1344c6d4186c7a665a5abbdda17c29ec360c9854eceb47b45f2cdaf6afe6c4db",
}
FIRST_ORDERED = "39dc2579a9bb32df874d9612e8efb919b2fdf6e87a1ddabd5f523a2a02e94e63"


def weighted(split: Split) -> Split:
    return Split(split.keys, split.labels, split.read, np.arange(1.0, len(split) + 1))


@pytest.fixture
def split(tmp_path: Path) -> Split:
    return weighted(make_split(tmp_path, broken=(3, 4)))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("augment", "batch_size"), FIRST)
def test_batches_are_those_of_the_first_version(
    split: Split, augment: str, batch_size: int, workers: int
) -> None:
    images = FileImages(split, NEAREST, CROPS if augment == "crops" else PLAIN)
    batches = train_batches(images, seed=5, batch_size=batch_size, steps=range(9), workers=workers)
    assert digest(batches) == FIRST[augment, batch_size]
    assert digest(ordered_batches(images, batch_size=4, workers=workers)) == FIRST_ORDERED


def join(parts: Sequence[Batch]) -> Batch:
    """Put the parts of a batch that the ranks have together again."""
    return Batch(
        torch.cat([part.images for part in parts]),
        torch.cat([part.labels for part in parts]),
        np.concatenate([part.samples for part in parts]),
        np.concatenate([part.epochs for part in parts]),
        tuple(itertools.chain.from_iterable(part.failures for part in parts)),
    )


def across(
    images: FileImages, sampling: SamplingConfig, steps: range, ranks: int, workers: int
) -> list[Batch]:
    """Give whole batches, each put together from its ranks."""
    of_ranks = [
        train_batches(
            images,
            seed=5,
            batch_size=16,
            steps=steps,
            workers=workers,
            sampling=sampling,
            rank=rank,
            ranks=ranks,
        )
        for rank in range(ranks)
    ]
    return [join(parts) for parts in zip(*of_ranks, strict=True)]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_r2_same_for_all_workers_ranks_and_first_steps(split: Split, sampling: str) -> None:
    images, settings = FileImages(split, NEAREST, CROPS), SAMPLINGS[sampling]
    unbroken = across(images, settings, range(7), 1, 0)
    combinations = itertools.product((0, 1, 4), (1, 2, 4))
    for workers, ranks in combinations if sampling == "none" else [(0, 4), (2, 1)]:
        first, middle = (workers + ranks) % 5, 5  # broken there, and gone on with others
        resumed = across(images, settings, range(first, middle), ranks, workers)
        resumed += across(images, settings, range(middle, 7), 6 // max(ranks, 3), workers // 2)
        assert digest(resumed) == digest(unbroken[first:])


def test_r2_log_of_samples(split: Split) -> None:
    """Broken off and gone on with at random steps: no sample is missing, none is repeated."""
    images, chance = FileImages(split, NEAREST, CROPS), np.random.default_rng(0)
    log: list[tuple[str, int]] = []
    step = 0
    while step < 44:
        last = min(44, step + int(chance.integers(1, 9)))
        ranks, workers = int(chance.choice([1, 2, 4])), int(chance.choice([0, 1, 4]))
        for batch in across(images, ONCE_EACH, range(step, last), ranks, workers):
            log += [(split.keys[i], e) for i, e in zip(batch.samples, batch.epochs, strict=True)]
            log += [(key, -1) for key, _ in batch.failures]
        step = last
    n, epochs = len(split), 44 * 16 // len(split)
    readable = [key for i, key in enumerate(split.keys) if i not in (3, 4)]
    assert sorted(pair for pair in log if pair[1] >= 0) == sorted(
        itertools.product(readable, range(epochs))
    )
    assert [log.count((split.keys[i], -1)) for i in (3, 4)] == [epochs] * 2
    assert len(log) == n * epochs


def test_r12_same_seed_twice_and_without_workers(split: Split) -> None:
    images = FileImages(split, NEAREST, CROPS)
    runs = [
        digest(train_batches(images, seed=3, batch_size=4, steps=range(200), workers=workers))
        for workers in (0, 0, 4)
    ]
    assert len(set(runs)) == 1


def test_a_batch_that_cannot_be_cut_is_refused_at_once(split: Split) -> None:
    images = FileImages(split, NEAREST)
    with pytest.raises(ConfigError, match="batch_size=4 must be a multiple of 3 on 3 ranks"):
        train_batches(images, seed=0, batch_size=4, steps=range(1), workers=0, ranks=3)


def test_images_of_several_classes(tmp_path: Path) -> None:
    plain = make_split(tmp_path, broken=(3, 4))
    sets = [[], [0, 3], [2], [1], [0], [1, 2, 3], *([[3]] * 5)]
    split = Split(plain.keys, LabelSets.of(sets, 4), plain.read)
    for images in (FileImages(split, NEAREST), open_images(split, NEAREST, PLAIN, 0)):
        for batch in ordered_batches(images, batch_size=4, workers=0):
            expected = [[int(c in sets[i]) for c in range(4)] for i in batch.samples]
            assert batch.labels.tolist() == expected


# --- measuring ---


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("batch_size", [1, 3, 20])
def test_ranks_measure_each_image_once(split: Split, ranks: int, batch_size: int) -> None:
    for images in (FileImages(split, NEAREST), open_images(split, NEAREST, PLAIN, 0)):
        of_ranks = [
            list(ordered_batches(images, batch_size=batch_size, workers=0, rank=rank, ranks=ranks))
            for rank in range(ranks)
        ]
        assert len({len(batches) for batches in of_ranks}) == 1
        whole = [join(batches) for batches in of_ranks]
        samples = [batch.samples for batch in whole]
        require_each_once(split, samples, [batch.failures for batch in whole])
        readable = [i for i in range(len(split)) if i not in (3, 4)]
        assert np.concatenate(samples).tolist() == readable


def test_more_ranks_than_images(tmp_path: Path) -> None:
    images = FileImages(make_split(tmp_path, n=2), NEAREST)
    of_ranks = [
        list(ordered_batches(images, batch_size=4, workers=0, rank=rank, ranks=3))
        for rank in range(3)
    ]
    assert [[len(batch.labels) for batch in batches] for batches in of_ranks] == [[0], [1], [1]]
    assert of_ranks[0][0].images.shape == (0, 3, 6, 10)


@pytest.mark.parametrize(
    ("samples", "failures", "message"),
    [
        ([[0, 1, 2], [5, 6, 7, 8, 9, 10]], [["3.png"], []], r"^4\.png: measured 0 times on 2 r"),
        ([[0, 1, 2, 3, 4], [4, 5, 6, 7, 8, 9, 10]], [[], []], r"^4\.png: measured 2 times"),
        ([range(11), []], [["3.png"], ["4.png"]], r"^3\.png: measured 2 times .*are 2 of 11"),
    ],
)
def test_an_image_missing_or_doubled_is_found(
    split: Split, samples: list[list[int]], failures: list[list[str]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        require_each_once(
            split,
            [np.array(list(part), np.int64) for part in samples],
            [[(key, "why") for key in part] for part in failures],
        )


def test_two_processes_measure_each_image_once(tmp_path: Path) -> None:
    split = make_split(tmp_path, broken=(3, 4))
    mp.spawn(measure, (split, tmp_path), nprocs=2)
    assert sorted(path.name for path in tmp_path.glob("done-*")) == ["done-0", "done-1"]


def measure(rank: int, split: Split, root: Path) -> None:
    """Measure one of two parts, tell the other rank, and prove the whole; runs in a process."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{root}/meet", rank=rank, world_size=2)
    images = FileImages(split, NEAREST)
    whole = join(list(ordered_batches(images, batch_size=4, workers=1, rank=rank, ranks=2)))
    found: list[tuple[list[int], list[tuple[str, str]]]] = [([], [])] * 2
    dist.all_gather_object(found, (whole.samples.tolist(), list(whole.failures)))
    require_each_once(split, [np.array(part) for part, _ in found], [part for _, part in found])
    (root / f"done-{rank}").touch()
    dist.destroy_process_group()
