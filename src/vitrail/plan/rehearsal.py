"""A training that is set up as ever, takes a few steps, and leaves nothing."""

import hashlib
import math
import time
from collections.abc import Mapping
from typing import Any

import torch

from vitrail.checkpoints.staging import Staging
from vitrail.data.check.quick import quick_check
from vitrail.data.processes import cores
from vitrail.data.sources import quarantined
from vitrail.device import pick_precision
from vitrail.errors import ConfigError
from vitrail.memory import free_memory
from vitrail.models.base import count_flops
from vitrail.plan.images import open_few
from vitrail.plan.measured import Measured, Round
from vitrail.plan.peaks import peak
from vitrail.plan.rounds import Rehearsal
from vitrail.train.config import RunConfig
from vitrail.train.data import open_training
from vitrail.train.fitting import (
    activation_bytes,
    can_recompute,
    estimate,
    image_bytes,
    require_fixed,
)
from vitrail.train.setup import Setup, set_up
from vitrail.train.state import make_state
from vitrail.train.team import Team, joined
from vitrail.train.validate import validate

LONGEST = 20.0  # seconds of a step beyond which its batch is not tried
ROOM = 0.85  # part of the free memory that a batch may be expected to take, to be tried


def rehearse(config: RunConfig, started: float) -> Measured:
    """Measure a training with real images, from small batches to its own.

    Args:
        started: when the process began, on the monotonic clock.
    Raises:
        VitrailError: whatever would keep the training from beginning.
    """
    with joined(config.device, config.team.timeout) as team:
        free = free_memory(team.device)
        data = open_training(config, quarantined(config.data.source, config.data.quarantine))
        setup = set_up(_without_passes(config), data, team)
        need, sizes = estimate(setup, team), _sizes(setup, team)
        if free is not None:
            require_fixed(setup, team, need, free)
        if config.data.check:
            quick_check(data, setup.preprocess)
        about = _about(setup, config, team)
        setup, cache, decode = open_few(setup, data, config)
        rehearsal = Rehearsal(setup, make_state(setup, team), team)
        ready = time.monotonic() - started
        start_peak = peak(team.device)
        staging = Staging()
        staging.copy(rehearsal.state.pack(team))  # every training saves its beginning
        rounds = _rounds(rehearsal, config, free)
        validation = _validation(rehearsal, rounds[-1], config.data.workers)
        saving = _checkpoint(rehearsal, staging, rounds[-1])  # as the end: after a validation
        return Measured.parse(
            {
                **about,
                **saving,
                "free": free,
                "need": need,
                "each": sizes,
                "start_peak": start_peak,
                "start_seconds": ready,
                "rounds": rounds,
                "decode_seconds": decode,
                "busy": rehearsal.busy,
                "cache": cache,
                "workers_bytes": rehearsal.workers_bytes,
                "validation_seconds": validation,
            },
            "rehearsal",
        )


def _without_passes(config: RunConfig) -> RunConfig:
    """Leave out what would take a pass over all images before the first step."""
    plain = config.input.replace(normalise="given")
    return config.replace(input=plain, data=config.data.replace(cache="none"))


def _sizes(setup: Setup, team: Team) -> dict[str, Any]:
    """Count the activations as they are asked for, and as they could be."""
    model, config = setup.model, setup.config
    asked = {"precision": config.precision, "recompute": config.recompute}
    kinds: dict[str, Mapping[str, Any]] = {
        "plain": asked | {"recompute": False},
        "bf16": asked | {"precision": "bf16"},
    }
    if can_recompute(model):
        kinds["recompute"] = asked | {"recompute": True}
    return {name: activation_bytes(model, team.device, **kind) for name, kind in kinds.items()}


def _rounds(rehearsal: Rehearsal, config: RunConfig, free: int | None) -> list[Round]:
    """Take steps of two small batches, and of the training's own where that seems to fit."""
    batch, parts, unit = config.train.batch_size, config.train.accumulate, config.data.sampling
    small = max(1, min(8, batch // parts // 4) // unit.repeats) * unit.repeats
    peak_before, rounds = peak(rehearsal.team.device), list[Round]()
    if 2 * small < batch and not config.compile:  # another size would be compiled anew
        rounds = [rehearsal.round(size, 1, 0) for size in (small, 2 * small)]
        if not _within(rounds, batch, parts, free):
            return rounds
    try:
        rounds.append(rehearsal.round(batch, parts, config.data.workers))
        twice = 2 * rounds[0].peak - peak_before  # the largest batch follows from two
        if len(rounds) == 1 and not config.compile and (free is None or twice <= ROOM * free):
            rounds.append(rehearsal.round(2 * batch, parts, config.data.workers))
    except torch.OutOfMemoryError:
        if not rounds:
            raise ConfigError(
                f"train.batch_size={batch} does not fit into the memory of the GPU; "
                "lower it, use recompute=True, or take a smaller model"
            ) from None
    return rounds


def _within(rounds: list[Round], batch: int, parts: int, free: int | None) -> bool:
    """Whether the training's own batch may be tried, judged from two smaller ones."""
    small, large = rounds
    factor = (batch - small.batch) / (large.batch - small.batch)
    seconds = small.compute + factor * max(0.0, large.compute - small.compute)
    part = (batch / parts - small.batch) / (large.batch - small.batch)
    size = small.peak + part * max(0, large.peak - small.peak)
    return seconds <= LONGEST and (free is None or size <= ROOM * free)


def _validation(rehearsal: Rehearsal, last: Round, workers: int) -> float:
    """Give the seconds of one image of a validation pass."""
    setup = rehearsal.sized(last.batch, last.parts, workers)
    begun = time.monotonic()
    figures = validate(setup, rehearsal.state.ema.model, rehearsal.team, 0, limit=2)
    return (time.monotonic() - begun) / max(1.0, figures["val_images"])


def _checkpoint(rehearsal: Rehearsal, staging: Staging, last: Round) -> dict[str, Any]:
    """Copy the state as a save does; give sizes and times."""
    device = rehearsal.team.device
    files = rehearsal.state.pack(rehearsal.team)
    staging.copy(files)  # makes the room
    once = peak(device)
    rehearsal.go_on(last.batch, last.parts)
    kept = peak(device)
    files = rehearsal.state.pack(rehearsal.team)
    begun = time.monotonic()
    staging.copy(files)
    copied = time.monotonic()
    block = bytes(2**24)
    hashlib.sha256(block)
    rate = len(block) / (time.monotonic() - copied)
    size = {file: sum(each.nbytes for each in tensors.values()) for file, tensors in files.items()}
    total = sum(size.values())
    return {
        "copy_once": max(0, once - last.peak),
        "copy_kept": max(0, kept - last.peak),
        "checkpoint_bytes": total,
        "model_bytes": size["model"],
        "copy_seconds": copied - begun,
        "write_seconds": 2 * total / rate,  # written, and read back
    }


def _about(setup: Setup, config: RunConfig, team: Team) -> dict[str, Any]:
    """Describe what is trained, and on what."""
    channels = setup.preprocess.channels
    native = pick_precision("auto", team.device) == "bf16"

    def times(epochs: float) -> int:
        return math.ceil(setup.steps / setup.steps_of(epochs))

    return {
        "device": str(team.device),
        "precision": setup.config.precision,
        "native_bf16": native,
        "threads": torch.get_num_threads(),
        "cores": cores(),
        "classes": len(setup.data.classes),
        "train_images": len(setup.data.splits["train"]),
        "val_images": len(setup.data.splits["val"]),
        "steps": setup.steps,
        "validations": times(config.eval_every_epochs),
        "checkpoints": 1 + times(config.save_every_epochs),
        "flops": count_flops(setup.model, setup.preprocess.size, channels),
        "image_bytes": image_bytes(setup),
    }
