"""A plan: what a training will take, what limits it, and what to change."""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vitrail.plan.advice import Bound, advise, find_bound
from vitrail.plan.measured import Measured, measure
from vitrail.plan.predict import Forecast
from vitrail.plan.suggest import Suggestion, suggest
from vitrail.train.config import RunConfig


@dataclass(frozen=True)
class Plan:
    """What is predicted of a training. Sizes in bytes, times in seconds."""

    device: str
    precision: str
    train_images: int
    classes: int
    batch_size: int
    measured_batch: bool  # whether its own batch was tried, or follows from smaller ones
    peak_bytes: int  # of the training process, or of the GPU
    needed_bytes: int  # with workers and cache
    free_bytes: int | None
    fits: bool
    largest_batch: int | None
    seconds_per_step: float
    wait_seconds: float  # of a step, for images
    compute_seconds: float
    images_per_second: float
    operations_per_second: float
    steps: int
    start_seconds: float
    validation_seconds: float  # of one pass
    validations: int
    checkpoint_seconds: float  # for which the training stands still
    writing_seconds: float  # beside the training, without the disk
    checkpoints: int
    total_seconds: float
    checkpoint_bytes: int
    disk_bytes: int
    disk_free_bytes: int
    bound: Bound
    advice: tuple[str, ...]
    suggestion: Suggestion

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON values."""
        return asdict(self)


def make_plan(config: RunConfig, *, hours: float | None = None, out: str | Path = ".") -> Plan:
    """Predict a training from a few of its steps; nothing is written.

    Args:
        hours: time that there is for it.
        out: where the run will lie, for the room on its disk.
    Raises:
        VitrailError: whatever would keep the training from beginning.
    """
    return draw_up(measure(config), config, hours, _free_disk(Path(out)))


def draw_up(measured: Measured, config: RunConfig, hours: float | None, disk_free: int) -> Plan:
    """Make a plan of what was measured."""
    forecast = Forecast(measured, config)
    batch, parts = config.train.batch_size, config.train.accumulate
    step, needed = forecast.step(batch, config.data.workers), forecast.needed(batch, parts)
    validation = measured.validation_seconds * measured.val_images
    kept = config.keep_checkpoints + config.keep_best + 1  # one that is being written
    return Plan(
        device=measured.device,
        precision=measured.precision,
        train_images=measured.train_images,
        classes=measured.classes,
        batch_size=batch,
        measured_batch=forecast.own is not None,
        peak_bytes=forecast.peak(batch, parts),
        needed_bytes=needed,
        free_bytes=measured.free,
        fits=measured.free is None or needed <= measured.free,
        largest_batch=forecast.largest_batch(parts),
        seconds_per_step=step,
        wait_seconds=forecast.wait(),
        compute_seconds=step - forecast.wait(),
        images_per_second=batch / step,
        operations_per_second=3 * measured.flops * batch / step,  # the way back takes two
        steps=measured.steps,
        start_seconds=forecast.start,
        validation_seconds=validation,
        validations=measured.validations,
        checkpoint_seconds=measured.copy_seconds,
        writing_seconds=measured.write_seconds,
        checkpoints=measured.checkpoints,
        total_seconds=forecast.start
        + measured.steps * step
        + measured.validations * validation
        + measured.checkpoints * measured.copy_seconds
        + measured.write_seconds,  # of the last one
        checkpoint_bytes=measured.checkpoint_bytes,
        disk_bytes=kept * measured.checkpoint_bytes + measured.model_bytes,
        disk_free_bytes=disk_free,
        bound=find_bound(forecast),
        advice=advise(forecast),
        suggestion=suggest(forecast, hours),
    )


def _free_disk(path: Path) -> int:
    """Give the free bytes where a path will lie."""
    path = path.expanduser().absolute()
    there = next(each for each in (path, *path.parents) if each.exists())
    return shutil.disk_usage(there).free
