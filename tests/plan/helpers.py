"""A rehearsal that was made up: memory and time are lines, so what follows from them is known."""

from typing import Any

from vitrail.plan.measured import Cache, Measured, Round
from vitrail.plan.predict import Forecast
from vitrail.train.config import RunConfig
from vitrail.train.fitting import Activations, Need
from vitrail.train.learning import OptimConfig

MIB = 2**20
BASE, EACH, IMAGE = 400 * MIB, 10 * MIB, MIB  # memory: of the process, of an image, prepared
OVERHEAD, TIME, READ = 0.02, 0.01, 0.0005  # seconds: of a step, of an image, to read it
INSTANCE = {
    "device": "cpu",
    "precision": "float32",
    "native_bf16": False,
    "threads": 4,
    "cores": 4,
    "classes": 3,
    "train_images": 1000,
    "val_images": 100,
    "steps": 320,
    "validations": 2,
    "checkpoints": 4,
    "flops": 10**9,
    "free": 4096 * MIB,
    "need": Need(1, 2, 1, 1, 1),
    "each": {
        "plain": Activations(0, 8 * MIB),
        "recompute": Activations(0, 2 * MIB),
        "bf16": Activations(3 * MIB, 4 * MIB),
    },
    "image_bytes": IMAGE,
    "start_peak": 300 * MIB,
    "start_seconds": 5.0,
    "decode_seconds": 0.5,
    "busy": 1.0,
    "cache": Cache("none", 0, 0, 0, 0, 0.0, 7.0),
    "workers_bytes": 0,
    "validation_seconds": 0.01,
    "copy_once": 20 * MIB,
    "copy_kept": 50 * MIB,
    "checkpoint_bytes": 50 * MIB,
    "model_bytes": 10 * MIB,
    "copy_seconds": 0.25,
    "write_seconds": 1.0,
}


def round_of(batch: int, parts: int = 1, **changes: Any) -> Round:
    """Make up a round that lies on the lines."""
    size = BASE + EACH * batch // parts + IMAGE * batch
    line = Round(batch, parts, size, READ * batch, OVERHEAD + TIME * batch)
    return line._replace(**changes)


def measured(*rounds: Round, **changes: Any) -> Measured:
    """Make up a rehearsal."""
    rounds = rounds or (round_of(4), round_of(8), round_of(32))
    return Measured(**(INSTANCE | {"rounds": rounds} | changes))


def settings(batch: int = 32, parts: int = 1, workers: int = 0, **changes: Any) -> RunConfig:
    """Ask for a batch."""
    config = RunConfig(train=OptimConfig(batch_size=batch, accumulate=parts, epochs=10), **changes)
    return config.replace(data=config.data.replace(source="somewhere", workers=workers))


def forecast(config: RunConfig | None = None, *rounds: Round, **changes: Any) -> Forecast:
    """Make up what a forecast knows."""
    return Forecast(measured(*rounds, **changes), config or settings())
