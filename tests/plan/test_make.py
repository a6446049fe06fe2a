import json
import math
from pathlib import Path

import pytest

from tests.plan.helpers import MIB, measured, round_of, settings
from tests.train.helpers import paint, tiny_config
from vitrail.plan import make, make_plan
from vitrail.plan.make import draw_up
from vitrail.plan.measured import Measured
from vitrail.train.config import RunConfig

STEP = 0.356  # seconds


def test_time_is_that_of_all_parts() -> None:
    plan = draw_up(measured(), settings(), None, 10**12)
    assert plan.seconds_per_step == pytest.approx(STEP)
    assert plan.wait_seconds + plan.compute_seconds == pytest.approx(STEP)
    assert plan.images_per_second == pytest.approx(32 / STEP)
    assert plan.operations_per_second == pytest.approx(3e9 * 32 / STEP)
    assert plan.validation_seconds == pytest.approx(1.0)
    parts = 5 + 320 * STEP + 2 * 1.0 + 4 * 0.25 + 1.0  # the last checkpoint is waited for
    assert plan.total_seconds == pytest.approx(parts)


def test_disk_is_for_all_checkpoints_that_lie_there_at_a_time() -> None:
    config = settings().replace(keep_checkpoints=3)
    assert draw_up(measured(), config, None, 1).disk_bytes == (3 + 1 + 1) * 50 * MIB + 10 * MIB
    no_best = config.replace(keep_best=False)
    assert draw_up(measured(), no_best, None, 1).disk_bytes == (3 + 1) * 50 * MIB + 10 * MIB


def test_a_plan_is_plain_json() -> None:
    plan = draw_up(measured(), settings(), 0.001, 10**12)
    values = json.loads(json.dumps(plan.to_json(), allow_nan=False))
    assert values["suggestion"]["settings"] == {"train.epochs": "1"}
    assert {"peak_bytes", "seconds_per_step", "bound", "advice", "largest_batch"} <= values.keys()


@pytest.mark.parametrize(("free", "fits"), [(None, True), (400 * MIB, False), (802 * MIB, True)])
def test_it_fits_where_so_much_is_free(free: int | None, fits: bool) -> None:
    plan = draw_up(measured(free=free), settings(), None, 1)
    assert plan.needed_bytes == 802 * MIB
    assert plan.fits is fits
    assert (plan.bound == "memory") is not fits


def test_what_was_not_tried_is_told() -> None:
    tried, reckoned = settings(8), settings(64)
    found = measured(round_of(4), round_of(8))
    assert draw_up(found, tried, None, 1).measured_batch
    assert not draw_up(found, reckoned, None, 1).measured_batch


def test_the_disk_is_that_of_the_nearest_folder_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(config: RunConfig) -> Measured:
        return measured()

    monkeypatch.setattr(make, "measure", measure)
    plan = make_plan(settings(), out=tmp_path / "not" / "there")
    assert plan.disk_free_bytes > 0
    assert list(tmp_path.iterdir()) == []


def test_a_real_training_is_planned_and_nothing_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(paint(tmp_path / "photos"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = sorted(tmp_path.rglob("*"))
    plan = make_plan(config)
    assert sorted(tmp_path.rglob("*")) == before
    assert plan.measured_batch and plan.fits
    assert plan.steps == math.ceil(3 * plan.train_images / 8)
    assert 150 * MIB < plan.peak_bytes < 2000 * MIB  # PyTorch itself takes most of it
    assert 0 < plan.seconds_per_step < plan.total_seconds
    state = 4 * plan.checkpoint_bytes  # far below an average model of this size
    assert 0 < state < 10 * MIB
