"""Batches: every sample once an epoch, the same from any number of workers and any first step."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.images import noise, save
from tests.data.samples import make_split, photo
from vitrail.data.augment import AugmentConfig
from vitrail.data.dataset import Split
from vitrail.data.folder import FileReader
from vitrail.data.keyed import permutation
from vitrail.data.loader import (
    Batch,
    FileImages,
    Images,
    open_images,
    ordered_batches,
    train_batches,
)
from vitrail.data.loading import cache
from vitrail.data.loading.cache import FittedImages
from vitrail.data.preprocess import Preprocess
from vitrail.errors import DataError

PREPROCESS = Preprocess(size=(6, 10))
PLAIN = AugmentConfig()
CROPS = AugmentConfig(crop_area=(0.3, 1.0))
N = 11


@pytest.fixture
def split(tmp_path: Path) -> Split:
    return make_split(tmp_path)


def batches(
    images: Images, steps: range, *, batch_size: int = 4, workers: int = 0, seed: int = 5
) -> list[Batch]:
    return list(
        train_batches(images, seed=seed, batch_size=batch_size, steps=steps, workers=workers)
    )


def require_equal(one: list[Batch], other: list[Batch]) -> None:
    """Bit by bit."""
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)
        assert (a.samples == b.samples).all() and (a.epochs == b.epochs).all()
        assert a.failures == b.failures


# --- the order ---


@pytest.mark.parametrize("batch_size", [1, 4, 11, 12, 30])
def test_each_sample_once_an_epoch(split: Split, batch_size: int) -> None:
    epochs = 12
    images = open_images(split, PREPROCESS, PLAIN, 0)
    taken = batches(images, range(epochs * N // batch_size + 1), batch_size=batch_size)
    assert all(len(batch.labels) == batch_size for batch in taken)
    samples = np.concatenate([batch.samples for batch in taken])
    of_epoch = np.concatenate([batch.epochs for batch in taken])
    for epoch in range(epochs):
        part = samples[epoch * N : (epoch + 1) * N]
        if len(part) == N:
            assert part.tolist() == permutation(5, epoch, N).tolist()
            assert sorted(part.tolist()) == list(range(N))
        assert set(of_epoch[epoch * N : (epoch + 1) * N]) <= {epoch}


def test_labels_and_pixels_are_those_of_the_samples(split: Split) -> None:
    for batch in batches(open_images(split, PREPROCESS, PLAIN, 0), range(3)):
        assert batch.labels.tolist() == [split.labels[i] for i in batch.samples]
        for i, image in zip(batch.samples, batch.images, strict=True):
            assert torch.equal(image, PREPROCESS.load(split.read(int(i)), "x"))


def test_another_seed_gives_another_order(split: Split) -> None:
    images = open_images(split, PREPROCESS, PLAIN, 0)
    orders = {
        tuple(batches(images, range(1), batch_size=N, seed=seed)[0].samples) for seed in range(5)
    }
    assert len(orders) == 5


@pytest.mark.parametrize("batch_size", [1, 4, 11, 50])
def test_ordered_batches_give_each_image_once(split: Split, batch_size: int) -> None:
    images = FileImages(split, PREPROCESS, CROPS)  # crops are for training only
    taken = list(ordered_batches(images, batch_size=batch_size, workers=0))
    assert np.concatenate([batch.samples for batch in taken]).tolist() == list(range(N))
    labels = torch.cat([batch.labels for batch in taken])
    assert labels.tolist() == list(split.labels)
    for i, image in enumerate(torch.cat([batch.images for batch in taken])):
        assert torch.equal(image, PREPROCESS.load(split.read(i), "x"))


# --- the same whatever the machinery ---


@pytest.mark.parametrize("augment", [PLAIN, CROPS], ids=["plain", "crops"])
def test_workers_do_not_matter(tmp_path: Path, augment: AugmentConfig) -> None:
    images = FileImages(make_split(tmp_path, broken=(3, 4)), PREPROCESS, augment)
    alone = batches(images, range(6))
    require_equal(alone, batches(images, range(6), workers=2))
    measured = list(ordered_batches(images, batch_size=4, workers=0))
    require_equal(measured, list(ordered_batches(images, batch_size=4, workers=2)))


def test_the_cache_does_not_matter(tmp_path: Path) -> None:
    split = make_split(tmp_path, broken=(3, 4))
    files = FileImages(split, PREPROCESS, PLAIN)
    for workers in (0, 2):
        cached = open_images(split, PREPROCESS, PLAIN, workers)
        assert isinstance(cached, FittedImages)
        require_equal(batches(files, range(6)), batches(cached, range(6), workers=workers))
    require_equal(
        list(ordered_batches(files, batch_size=4, workers=0)),
        list(ordered_batches(cached, batch_size=4, workers=0)),
    )


def test_what_is_cached(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(open_images(split, PREPROCESS, PLAIN, 0), FittedImages)
    assert isinstance(open_images(split, PREPROCESS, CROPS, 0), FileImages)
    monkeypatch.setattr(cache, "CACHE_LIMIT", N * 3 * 6 * 10)
    assert isinstance(open_images(split, PREPROCESS, PLAIN, 0), FittedImages)
    monkeypatch.setattr(cache, "CACHE_LIMIT", N * 3 * 6 * 10 - 1)
    assert isinstance(open_images(split, PREPROCESS, PLAIN, 0), FileImages)


@pytest.mark.parametrize("augment", [PLAIN, CROPS], ids=["cached", "crops"])
@pytest.mark.parametrize("first", [1, 3, 8])
def test_a_resumed_run_gets_the_same_batches(
    split: Split, augment: AugmentConfig, first: int
) -> None:
    images = open_images(split, PREPROCESS, augment, 0)
    unbroken = batches(images, range(9))
    resumed = open_images(split, PREPROCESS, augment, 0)
    require_equal(unbroken[first:], batches(resumed, range(first, 9)))


def test_the_global_generators_are_left_alone(split: Split) -> None:
    before = torch.get_rng_state()
    state = np.random.get_state()[1].tolist()
    batches(open_images(split, PREPROCESS, CROPS, 0), range(3), workers=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.random.get_state()[1].tolist() == state


# --- random crops ---


def test_crops_change_from_epoch_to_epoch_and_are_parts_of_the_image(split: Split) -> None:
    images = open_images(split, PREPROCESS, CROPS, 0)
    seen: dict[int, set[bytes]] = {}
    for batch in batches(images, range(5), batch_size=N):
        assert batch.images.shape == (N, 3, 6, 10)
        for i, image in zip(batch.samples, batch.images, strict=True):
            seen.setdefault(int(i), set()).add(image.numpy().tobytes())
    assert len(seen) == N
    counts = [len(crops) for crops in seen.values()]  # of 5; in small images two may coincide
    assert min(counts) >= 3 and sum(counts) > 4.5 * N


def test_crops_cover_the_whole_image(tmp_path: Path) -> None:
    """A picture whose grey level is the column: crops reach both ends, and stay in order."""
    ramp = np.tile(np.linspace(0, 255, 40).astype(np.uint8), (20, 1))
    (tmp_path / "0.png").write_bytes(save(Image.fromarray(ramp), "PNG"))
    split = Split(("0.png",), np.array([0]), FileReader(tmp_path, ("0.png",)))
    images = FileImages(split, PREPROCESS, AugmentConfig(crop_area=(0.1, 0.5)))
    (batch,) = batches(images, range(1), batch_size=200)
    rows = batch.images[:, 0, 0].int()
    assert (rows.diff(dim=1) >= 0).all()
    assert rows[:, 0].min() < 10 and rows[:, -1].max() > 245
    assert (rows[:, -1] - rows[:, 0]).float().mean() < 200


# --- images that cannot be read ---


@pytest.mark.parametrize("augment", [PLAIN, CROPS], ids=["cached", "crops"])
def test_a_broken_image_is_left_out_by_name(tmp_path: Path, augment: AugmentConfig) -> None:
    broken = (3, 4)
    split = make_split(tmp_path, broken=broken)
    images = open_images(split, PREPROCESS, augment, 0)
    seen: Counter[int] = Counter()
    failed: Counter[str] = Counter()
    for batch in batches(images, range(2 * N), batch_size=4):  # 8 epochs
        assert len(batch.labels) == len(batch.samples) == len(batch.epochs) == len(batch.images)
        assert len(batch.labels) + len(batch.failures) == 4  # nothing takes its place
        assert batch.labels.tolist() == [split.labels[i] for i in batch.samples]
        seen.update(batch.samples.tolist())
        failed.update(key for key, _ in batch.failures)
    assert seen == {i: 8 for i in range(N) if i not in broken}
    assert failed == {"3.png": 8, "4.png": 8}


def test_reasons_name_the_image(tmp_path: Path) -> None:
    images = FileImages(make_split(tmp_path, broken=(3, 4)), PREPROCESS)
    (batch,) = ordered_batches(images, batch_size=N, workers=0)
    (cut, why_cut), (gone, why_gone) = batch.failures
    assert (cut, gone) == ("3.png", "4.png")
    assert why_cut.startswith("3.png: ")
    assert why_gone == f"{tmp_path / '4.png'}: No such file or directory"


def test_a_batch_without_images_is_empty_when_measuring(tmp_path: Path) -> None:
    images = FileImages(make_split(tmp_path, n=6, broken=(2, 3)), PREPROCESS)
    first, second, third = ordered_batches(images, batch_size=2, workers=0)
    assert second.images.shape == (0, 3, 6, 10) and second.images.dtype == torch.uint8
    assert len(second.labels) == len(second.samples) == 0
    assert [len(batch.failures) for batch in (first, second, third)] == [0, 2, 0]


def test_a_batch_without_images_is_refused_when_training(tmp_path: Path) -> None:
    images = FileImages(make_split(tmp_path, n=3, broken=(1,)), PREPROCESS)
    with pytest.raises(
        DataError, match=r"^1\.png: .*; and no other image of its batch can be read"
    ):
        batches(images, range(3), batch_size=1)


@pytest.mark.parametrize("augment", [PLAIN, CROPS], ids=["cached", "crops"])
def test_all_broken_is_refused(tmp_path: Path, augment: AugmentConfig) -> None:
    split = make_split(tmp_path, n=5, broken=tuple(range(5)))
    message = r"no readable image among 5( tried)?; the first: .*0\.png: No such file"
    with pytest.raises(DataError, match=message):
        open_images(split, PREPROCESS, augment, 0)


def test_a_large_split_is_tried_not_read(tmp_path: Path) -> None:
    """With random crops nothing is decoded in advance but a few images spread over the split."""
    reads: list[int] = []

    def read(i: int) -> bytes:
        reads.append(i)
        return b"no image" if i < 99 else save(photo(9, 13), "PNG")

    split = Split(tuple(map(str, range(100))), np.zeros(100, np.int64), read)
    open_images(split, PREPROCESS, CROPS, 0)
    assert len(reads) == 32 and reads[0] == 0 and reads[-1] == 99


def test_grey_images(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(save(Image.fromarray(noise(9, 8)), "PNG"))
    split = Split(("0.png",), np.array([0]), FileReader(tmp_path, ("0.png",)))
    preprocess = Preprocess(size=(6, 10), channels=1, mean=(0.5,), std=(0.5,))
    (batch,) = batches(open_images(split, preprocess, PLAIN, 0), range(1), batch_size=3)
    assert batch.images.shape == (3, 1, 6, 10)
    assert batch.epochs.tolist() == [0, 1, 2]
