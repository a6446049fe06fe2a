"""A few steps of one batch size, as the training takes them."""

import multiprocessing
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from vitrail.data.loader import Batch
from vitrail.plan.measured import Round
from vitrail.plan.peaks import peak, private_bytes, reset_peak
from vitrail.train.config import RunConfig
from vitrail.train.optim import set_lr
from vitrail.train.setup import Setup
from vitrail.train.state import State
from vitrail.train.team import Team
from vitrail.train.validate import validate

PATIENCE = 30.0  # seconds for the steps of a round; the chunk that has begun is finished
WARM = 2  # steps that do not count

Step = tuple[float, float]  # seconds of waiting for images, of all the rest


def _silent(line: str) -> None:
    """Tell nobody that a worker was replaced."""


@dataclass
class Rehearsal:
    """A training that is ready for its first step, and what was seen beside its rounds."""

    setup: Setup
    state: State
    team: Team
    busy: float = 1.0  # threads that compute
    workers_bytes: int = 0
    step: int = 0  # steps that were taken

    def round(self, batch: int, parts: int, workers: int) -> Round:
        """Validate on a batch and take steps of this size; give what they took."""
        setup = self.sized(batch, parts, workers)
        reset_peak(self.team.device)
        validate(setup, self.state.ema.model, self.team, 0, limit=1)
        chunk = max(1, workers)
        chunks = 5 if workers <= 1 else 3 if workers <= 4 else 2
        batches = self._batches(setup, WARM + chunk * chunks)
        steps = list(self._steps(batches, setup.config))
        wait, compute = summarise(steps, chunk)
        return Round(batch, parts, peak(self.team.device), wait, compute)

    def go_on(self, batch: int, parts: int) -> None:
        """Take two more steps of this size."""
        setup = self.sized(batch, parts, 0)
        for each in self._batches(setup, WARM):
            self._take(each, setup.config)

    def sized(self, batch: int, parts: int, workers: int) -> Setup:
        """Give the training another batch."""
        config = self.setup.config
        train = config.train.replace(batch_size=batch, accumulate=parts)
        data = config.data.replace(workers=workers)
        return replace(self.setup, config=config.replace(train=train, data=data))

    def _batches(self, setup: Setup, count: int) -> Iterator[Batch]:
        """Read so many batches as the training does."""
        return setup.batches(range(self.step, self.step + count), self.team, _silent)

    def _steps(self, batches: Iterator[Batch], config: RunConfig) -> Iterator[Step]:
        """Take steps until there are no more batches, or for so long; give those that count."""
        started = time.monotonic()
        for number in range(WARM):
            self._take(next(batches), config)
            if number == 0 and time.monotonic() - started > PATIENCE / 2:
                break  # a second one would not change much
        for taken in self._timed(batches, config):
            yield from taken
            workers = [child.pid for child in multiprocessing.active_children() if child.pid]
            self.workers_bytes = max(self.workers_bytes, private_bytes(workers))
            if time.monotonic() - started > PATIENCE:
                break

    def _timed(self, batches: Iterator[Batch], config: RunConfig) -> Iterator[list[Step]]:
        """Take steps, a chunk at a time."""
        chunk = max(1, config.data.workers)
        while True:
            taken = []
            for _ in range(chunk):
                begun = time.monotonic()
                batch = next(batches, None)
                if batch is None:
                    return
                got, used = time.monotonic(), time.process_time()
                self._take(batch, config)
                ended = time.monotonic()
                self.busy = (time.process_time() - used) / max(1e-9, ended - got)
                taken.append((got - begun, ended - got))
            yield taken

    def _take(self, batch: Batch, config: RunConfig) -> None:
        """Take one step, and wait for the device."""
        state, setup = self.state, self.setup
        set_lr(state.optimizer, 0.0)  # the weights do not matter, but must stay finite
        loss, _, _ = state.take(setup.objective, batch, self.step, config, self.team)
        loss.item()
        if self.team.device.type == "cuda":
            torch.cuda.synchronize(self.team.device)
        self.step += 1


def summarise(steps: Sequence[Step], chunk: int) -> Step:
    """Give the median over chunks of their mean steps.

    Workers give their batches in bursts, one of each worker; so many steps make a whole burst.
    """
    chunks = [steps[k : k + chunk] for k in range(0, len(steps), chunk)]
    waits = [statistics.fmean(wait for wait, _ in each) for each in chunks]
    rest = [statistics.fmean(compute for _, compute in each) for each in chunks]
    return statistics.median(waits), statistics.median(rest)
