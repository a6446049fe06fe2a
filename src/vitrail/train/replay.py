"""A step that went wrong, taken again from its bundle alone."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vitrail.device import Precision, pick_device, pick_precision
from vitrail.errors import ConfigError
from vitrail.train.blame import Layer, repeat
from vitrail.train.bundle import Bundle, read_bundle
from vitrail.train.config import checked
from vitrail.train.environment import environment
from vitrail.train.events import Event, json_number
from vitrail.train.scaler import Scaler
from vitrail.train.team import Team

NEAR = 1e-3  # relative; other hardware and other precisions round differently


@dataclass(frozen=True)
class Replay:
    """What a step gave when it was taken again, beside what it gave in the training."""

    event: Event
    device: str
    precision: str
    loss: float
    norm: float
    expected_loss: float
    expected_norm: float | None  # None where the rank could not know its own
    first: str  # what is the first not to be finite
    layers: dict[str, Layer]
    differences: list[str]  # between the machine of then and this one

    @property
    def reproduced(self) -> bool:
        """Whether the same went wrong again."""
        if self.event.kind == "spike":
            return math.isclose(self.loss, self.expected_loss, rel_tol=NEAR)
        return bool(self.first)

    @property
    def to_the_bit(self) -> bool:
        """Whether loss and length of the gradient are the same to the bit."""
        pairs = [(self.loss, self.expected_loss)]
        if self.expected_norm is not None:
            pairs.append((self.norm, self.expected_norm))
        return all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in pairs)

    def to_json(self) -> dict[str, Any]:
        """Give JSON values; numbers that are not finite become texts."""
        norm = self.expected_norm
        return {
            "reproduced": self.reproduced,
            "to_the_bit": self.to_the_bit,
            "loss": json_number(self.loss),
            "norm": json_number(self.norm),
            "expected_loss": json_number(self.expected_loss),
            "expected_norm": None if norm is None else json_number(norm),
            "first": self.first,
            "device": self.device,
            "precision": self.precision,
            "differences": self.differences,
            "advice": advise(self),
            "event": self.event.to_json(),
            "layers": {
                name: {
                    "largest": json_number(layer.largest),
                    "gradient": json_number(layer.gradient),
                }
                for name, layer in self.layers.items()
            },
        }


def replay(path: Path, device: str = "", precision: Precision | None = None) -> Replay:
    """Take a step again: the same weights, images, draws and number of threads.

    Args:
        path: a bundle, such as RUN/replays/step-00001234.
        device: as in the settings; the one of then if it is not given and is here, else the CPU.
        precision: as in the settings; the one of then if it is not given.
    Raises:
        RunError, WeightsError, ConfigError: it is no bundle, damaged, or the device is not here.
    """
    bundle = read_bundle(path)
    place, event = bundle.place, bundle.event
    chosen = pick_device(device) if device else _device_of(bundle)
    config = checked(
        bundle.config,
        device=str(chosen),
        precision=pick_precision(precision or bundle.config.precision, chosen),
    )
    objective = bundle.objective.to(chosen)
    scaler = Scaler(config.precision, chosen)
    if place.loss_scale is not None:
        scaler.scale.fill_(place.loss_scale)
    team = Team(chosen, place.rank, place.ranks)
    with _threads(bundle.threads):
        found = repeat(objective, objective.model, bundle.batch, event.step, config, team, scaler)
        differences = _differences(bundle, config.device, config.precision)
    return Replay(
        event=event,
        device=config.device,
        precision=config.precision,
        loss=found.loss,
        norm=found.norm,
        expected_loss=place.loss,
        expected_norm=place.norm,
        first=found.seen.first,
        layers=found.seen.layers,
        differences=differences,
    )


def advise(found: Replay) -> str:
    """Say what one may do about what was found."""
    images = ", ".join(found.event.samples[:3])
    if not found.reproduced:
        return (
            "nothing is wrong with this step here: take it again on the device and in the "
            "precision of then, and if it is right there too, test that machine's memory"
        )
    if found.event.kind == "spike":
        return (
            f"look at the images ({images}, …); lower train.lr, lengthen train.warmup_epochs or "
            "set train.clip_norm"
        )
    if found.first.endswith("(weights)"):
        return "the weights were damaged before the step: go on from a checkpoint of before"
    if found.first == "the images":
        return f"mend the images or leave them out ({images}, …)"
    if found.precision == "fp16":
        return "see whether it goes well with --precision bf16 or float32, and train so"
    return "lower train.lr, lengthen train.warmup_epochs or set train.clip_norm"


def _device_of(bundle: Bundle) -> torch.device:
    """Give the device of then if there is one like it here, else the CPU."""
    try:
        return pick_device(bundle.config.device)
    except ConfigError:
        return torch.device("cpu")


def _differences(bundle: Bundle, device: str, precision: str) -> list[str]:
    """List what is other than then and changes rounding."""
    then, now = dict(bundle.environment), environment(device)
    pairs = {
        "precision": (bundle.config.precision, precision),
        "processor": (then.get("processor"), now["processor"]),
        "torch": (dict(then.get("packages") or {}).get("torch"), now["packages"]["torch"]),
    }
    found = [f"{name} {a} then, {b} now" for name, (a, b) in pairs.items() if a != b]
    if bundle.config.compile:
        found.append("the model was compiled then, and is not now")
    if bundle.place.ranks > 1:
        found.append("the other ranks are not here; loss and gradient are this rank's own")
    return found


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let PyTorch use so many threads: they decide how sums are rounded."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, count))
    try:
        yield
    finally:
        torch.set_num_threads(before)
