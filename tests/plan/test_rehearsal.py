import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.plan.helpers import MIB, round_of
from tests.train.helpers import paint, tiny_config
from vitrail.errors import ConfigError
from vitrail.plan import images as images_module
from vitrail.plan import rehearsal
from vitrail.plan.measured import Cache, Measured
from vitrail.plan.rehearsal import rehearse
from vitrail.train.config import RunConfig


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint(tmp_path_factory.mktemp("data") / "photos", each=20)


def sizes(found: Measured) -> list[tuple[int, int]]:
    return [(each.batch, each.parts) for each in found.rounds]


def run(config: RunConfig) -> Measured:
    return rehearse(config, time.monotonic())


def test_small_batches_come_first(photos: Path) -> None:
    found = run(tiny_config(photos))
    assert sizes(found) == [(2, 1), (4, 1), (8, 1)]
    assert (found.classes, found.train_images + found.val_images < 60) == (3, True)
    assert found.steps == -(-3 * found.train_images // 8)
    assert found.checkpoints == 4 and found.validations == 2  # at first and every pass; every 1.5
    assert all(each.compute > 0 and each.peak >= found.start_peak // 2 for each in found.rounds)
    assert found.checkpoint_bytes > 4 * found.model_bytes * 0.99  # weights, average, two moments


def test_parts_and_workers_are_those_of_the_training(photos: Path) -> None:
    found = run(tiny_config(photos, train__accumulate=4, data__workers=2, data__cache="none"))
    assert sizes(found) == [(1, 1), (2, 1), (8, 4)]
    assert found.workers_bytes > 0
    assert (found.cache.kind, found.cache.inside, found.cache.filling) == ("none", 0, 0.0)


@pytest.mark.parametrize("batch", [1, 2])
def test_of_tiny_batches_a_larger_one_is_tried_too(photos: Path, batch: int) -> None:
    found = run(tiny_config(photos, train__batch_size=batch, augment__mixup=0.0))
    assert sizes(found) == [(batch, 1), (2 * batch, 1)]


def test_repeats_stay_whole(photos: Path) -> None:
    config = tiny_config(photos, train__batch_size=18)
    sampling = config.data.sampling.replace(repeats=3)
    found = run(config.replace(data=config.data.replace(sampling=sampling)))
    assert sizes(found) == [(3, 1), (6, 1), (18, 1)]


def test_a_batch_that_would_take_too_long_is_not_tried(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "LONGEST", 0.0)
    assert sizes(run(tiny_config(photos))) == [(2, 1), (4, 1)]


@pytest.mark.parametrize(
    ("free", "batch", "parts", "tried"),
    [(None, 512, 1, True), (2000, 100, 1, True), (2000, 200, 1, False), (2000, 400, 8, True)],
)
def test_a_batch_that_would_not_fit_is_not_tried(
    free: int | None, batch: int, parts: int, tried: bool
) -> None:
    rounds = [round_of(4), round_of(8)]  # 11 MiB an image above 400
    room = None if free is None else free * MIB
    assert rehearsal._within(rounds, batch, parts, room) is tried


def test_a_model_that_no_batch_fits_is_refused(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def free_memory(device: torch.device) -> int:
        return 1000

    monkeypatch.setattr(rehearsal, "free_memory", free_memory)
    with pytest.raises(ConfigError, match="gradients, adamw and average"):
        run(tiny_config(photos))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("crops", [False, True])
def test_a_cache_is_filled_in_part_and_counted_whole(
    photos: Path, monkeypatch: pytest.MonkeyPatch, crops: bool, workers: int
) -> None:
    monkeypatch.setattr(images_module, "FEW", 6)
    monkeypatch.setattr(images_module, "FILLING", 0.0)
    changes: dict[str, Any] = {"data__cache": "ram", "data__workers": workers}
    config = tiny_config(photos, **changes)
    if crops:
        config = config.replace(augment=config.augment.replace(crop_area=(0.5, 1.0)))
    found = run(config)
    one, small = 3 * 20 * 28, 3 * 16 * 24  # bytes of a whole image, and of a fitted one
    train, val = found.train_images, found.val_images
    whole = train * (one if crops else small)
    assert found.cache.total == whole
    assert found.cache.kept == whole + val * small
    assert found.cache.inside == (0 if crops and workers else whole) + val * small
    assert found.cache.seen < found.cache.inside
    assert found.cache.kind == "ram" and found.cache.filling > found.cache.decoding > 0


def test_with_random_crops_only_val_is_kept_by_itself(photos: Path) -> None:
    config = tiny_config(photos)
    found = run(config.replace(augment=config.augment.replace(crop_area=(0.5, 1.0))))
    assert found.cache.kind == "none"
    assert found.cache.kept == found.cache.inside == found.val_images * 3 * 16 * 24


def test_measured_statistics_of_the_data_are_not_needed(photos: Path) -> None:
    found = run(tiny_config(photos, input__normalise="data", data__check=False))
    assert isinstance(found.cache, Cache) and len(found.rounds) == 3
