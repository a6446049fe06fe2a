"""The smallest loop that has a guard, with the parts that the training's own loop has."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tests.train.helpers import tiny_config
from vitrail.checkpoints import Saver
from vitrail.data.loader import Batch
from vitrail.runs import Run
from vitrail.train.blame import weights_are_finite
from vitrail.train.config import RunConfig
from vitrail.train.data import open_training
from vitrail.train.events import Event, Events
from vitrail.train.guard import WARM
from vitrail.train.incident import handle
from vitrail.train.optim import set_lr
from vitrail.train.setup import Setup, set_up
from vitrail.train.state import State, make_state
from vitrail.train.team import Team
from vitrail.weights.digest import tensor_digest

SAVE_EVERY = 4
ALONE = Team(torch.device("cpu"))


def guarded_config(photos: Path, **changes: Any) -> RunConfig:
    """Give settings of 15 steps."""
    return tiny_config(photos, **({"train__epochs": 4.0, "train__lr": 1e-3} | changes))


def read_batch(setup: Setup, step: int) -> Batch:
    """Read the batch of a step once more."""
    return next(setup.batches(range(step, step + 1), ALONE, lambda line: None))


@dataclass
class Walk:
    """A training that is under way."""

    run: Run
    setup: Setup
    state: State = field(init=False)
    events: Events = field(init=False)
    losses: dict[int, str] = field(default_factory=dict)  # of each step, as it was last taken

    def __post_init__(self) -> None:
        self.state = make_state(self.setup, ALONE)
        # as if 20 losses had been seen before: a spike is one from the first step on
        self.state.guard.tensors()["losses"].copy_(torch.tensor([1.0, 0.05, 1.1, WARM]))
        self.events = Events(self.run.path, self.setup.config.guard)

    def digest(self) -> str:
        """Give what everything that the next step depends on is known by."""
        files = self.state.pack(ALONE)
        return tensor_digest(
            {f"{file}/{name}": each for file, part in files.items() for name, each in part.items()}
        )

    def take(self, step: int) -> None:
        """Take one step; a bad one changes nothing."""
        config, state = self.setup.config, self.state
        set_lr(state.optimizer, config.train.lr * self.events.lr_scale(step))
        batch = read_batch(self.setup, step)
        loss, _, _ = state.take(self.setup.objective, batch, step, config, ALONE)
        self.losses[step] = loss.item().hex()

    def save(self, done: int) -> None:
        """Write a checkpoint."""
        with Saver(self.run.path, keep=2, keep_best=False) as saver:
            saver.save(done, self.state.pack(ALONE), {})

    def restore(self) -> int:
        """Go back to the newest checkpoint; give the next step."""
        checkpoint, _ = self.run.newest_checkpoint()
        if checkpoint is None:
            return 0
        self.state.unpack(checkpoint.tensors)
        return checkpoint.step

    def newest(self) -> int | None:
        """Give the step of the newest checkpoint."""
        checkpoint, _ = self.run.newest_checkpoint()
        return None if checkpoint is None else checkpoint.step

    def go(self, until: int | None = None, look_every: int = 1) -> Iterator[Event]:
        """Take the steps that are still to be taken; give each event once it is dealt with."""
        step = self.restore()
        last = min(until or self.setup.steps, self.setup.steps)
        while step < last:
            if self.events.skips(step):
                step += 1
                continue
            self.take(step)
            done = step + 1
            save = done % SAVE_EVERY == 0
            trouble = (
                self.state.guard.look() if save or done % look_every == 0 or done == last else None
            )
            if trouble:
                event = handle(
                    self.run,
                    self.setup,
                    ALONE,
                    self.state.scaler,
                    self.events,
                    trouble,
                    read_batch(self.setup, trouble.step),
                    self.newest(),
                )
                step = self.restore() if event.action == "went back" else event.back_to
                assert step == event.back_to
                yield event
                continue
            if save and weights_are_finite(self.setup.model):
                self.save(done)
            step += 1


def begin(path: Path, config: RunConfig) -> Walk:
    """Begin a run, or go on with it."""
    run = Run.open(path) if os.path.exists(path) else Run.create(path)
    run.write_json("config.json", config.to_json())
    return Walk(run, set_up(config, open_training(config, {}), ALONE))
