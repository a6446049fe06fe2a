"""What a rehearsal of a training measures, in a process of its own."""

import json
import subprocess
import sys
from typing import Any, NamedTuple

from pydantic import Field

from vitrail import errors
from vitrail.config import Config
from vitrail.errors import ConfigError, VitrailError
from vitrail.train.config import RunConfig
from vitrail.train.fitting import Activations, Need

PROBE = "vitrail.plan.probe"


class Round(NamedTuple):
    """A few steps of one batch size. Times are medians, in seconds."""

    batch: int
    parts: int
    peak: int  # bytes, of validation and steps, beside the copy of the beginning
    wait: float  # for images, a step
    compute: float  # all the rest of a step


class Cache(NamedTuple):
    """Decoded images that the training keeps, or could keep. Bytes, and seconds."""

    kind: str  # of the training images: none, ram or disk
    total: int  # of all training images, whether or not they are kept
    kept: int  # in memory, of train and val, by whichever process
    inside: int  # what the training process will have mapped at its peak
    seen: int  # what the rehearsal had mapped
    filling: float  # before the first step
    decoding: float  # of all training images


class Measured(Config):
    """What a rehearsal found. Sizes in bytes, times in seconds."""

    device: str
    precision: str
    native_bf16: bool  # whether this hardware gains by bf16
    threads: int
    cores: int
    classes: int
    train_images: int
    val_images: int
    steps: int
    validations: int
    checkpoints: int  # with that of the beginning
    flops: int  # of the forward pass of an image
    free: int | None  # before anything was loaded
    need: Need
    each: dict[str, Activations]  # plain, bf16, and where it is possible recompute
    image_bytes: int
    start_peak: int  # before the first step
    start_seconds: float  # without filling the cache
    rounds: tuple[Round, ...] = Field(min_length=1)  # of rising size
    decode_seconds: float  # of one image in one process
    busy: float  # threads that compute, on average
    cache: Cache
    workers_bytes: int
    validation_seconds: float  # of an image
    copy_once: int  # what the copy of the last state adds to the peak of the last round
    copy_kept: int  # the same, where the training goes on with the room of the copy
    checkpoint_bytes: int
    model_bytes: int
    copy_seconds: float  # of a checkpoint, while the training waits
    write_seconds: float  # beside the training, without the disk


def measure(config: RunConfig) -> Measured:
    """Rehearse a training in a child process, which may run out of memory; nothing is written.

    Raises:
        VitrailError: whatever would keep the training from beginning.
        ConfigError: not even a few images fit into memory.
    """
    done = subprocess.run(
        [sys.executable, "-m", PROBE],
        input=json.dumps(config.to_json()),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode < 0:
        raise ConfigError(
            f"the rehearsal was ended by signal {-done.returncode}, mostly for want of memory; "
            "lower train.batch_size, use recompute=True, or take a smaller model"
        )
    if done.returncode:
        raise RuntimeError(f"the rehearsal failed:\n{done.stderr}")
    return parse_answer(json.loads(done.stdout.splitlines()[-1]))


def parse_answer(answer: dict[str, Any]) -> Measured:
    """Take what the child says. Raises the VitrailError that it met."""
    if "error" in answer:
        kind = getattr(errors, answer["error"], VitrailError)
        raise kind(answer["message"])
    return Measured.parse(answer, "rehearsal")
