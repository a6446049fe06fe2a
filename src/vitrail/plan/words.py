"""A plan in words, for the terminal."""

from collections.abc import Iterator

from vitrail.plan.advice import seconds
from vitrail.plan.make import Plan
from vitrail.train.fitting import gibibytes

BOUNDS = {
    "memory": "memory: it does not fit",
    "data": "data: the training waits for images",
    "compute": "compute: images are there in time",
}


def describe(plan: Plan) -> list[str]:
    """Give the lines that people read."""
    return [f"{name:<12}{what}" for name, what in _lines(plan)]


def _lines(plan: Plan) -> Iterator[tuple[str, str]]:
    images = f"{plan.train_images:,} images of {plan.classes} classes"
    yield "training", f"{images} on {plan.device} in {plan.precision}"
    yield "memory", _memory(plan)
    yield "step", _step(plan)
    yield (
        "whole run",
        f"{seconds(plan.total_seconds)}: {plan.steps:,} steps, after {seconds(plan.start_seconds)} "
        "of reading and building",
    )
    yield "validation", f"{seconds(plan.validation_seconds)} a pass, {plan.validations} times"
    yield (
        "checkpoint",
        f"{gibibytes(plan.checkpoint_bytes)}, {plan.checkpoints} times: "
        f"{seconds(plan.checkpoint_seconds)} of waiting, then {seconds(plan.writing_seconds)} "
        "and what the disk takes, beside the training",
    )
    yield "disk", f"{gibibytes(plan.disk_bytes)} of {gibibytes(plan.disk_free_bytes)} that are free"
    if plan.largest_batch is not None:
        yield "largest", _largest(plan.largest_batch, plan.train_images)
    yield "limit", BOUNDS[plan.bound]
    for line in plan.advice:
        yield "change", line
    for line in plan.suggestion.why:
        yield "suggested", line


def _memory(plan: Plan) -> str:
    """Say what is needed of what is free."""
    own = gibibytes(plan.peak_bytes)
    where = "the training process" if plan.device == "cpu" else "the GPU"
    beside = ""
    if plan.needed_bytes > plan.peak_bytes:
        beside = f", {gibibytes(plan.needed_bytes)} with workers and cache"
    free = "" if plan.free_bytes is None else f"; {gibibytes(plan.free_bytes)} are free"
    return f"{own} at most in {where}{beside}{free}"


def _largest(batch: int, images: int) -> str:
    """Say which batch is the largest that fits."""
    if batch == 0:
        return "not even one image at a time fits"
    more = ", all images at once" if batch >= images else ""
    return f"train.batch_size={batch} fits into this memory{more}"


def _step(plan: Plan) -> str:
    """Say how long a step takes."""
    how = "" if plan.measured_batch else ", reckoned from smaller batches"
    return (
        f"{seconds(plan.seconds_per_step)} for {plan.batch_size:,} images{how}: "
        f"{seconds(plan.wait_seconds)} of waiting for images, "
        f"{seconds(plan.compute_seconds)} of computing; "
        f"{plan.images_per_second:,.1f} images and "
        f"{plan.operations_per_second / 1e9:,.1f} G operations a second"
    )
