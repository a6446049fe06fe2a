"""From a few measured steps to any batch: memory and time are lines over the number of images."""

import math
import statistics
from dataclasses import dataclass
from typing import Literal

from vitrail.plan.measured import Measured, Round
from vitrail.train.config import RunConfig

RESERVE = 0.9  # part of the free memory that a plan fills
AGAIN = 4 / 3  # a step with recompute: its forward pass is about a third of it

Kind = Literal["plain", "recompute", "bf16"]


@dataclass(frozen=True)
class Forecast:
    """Memory in bytes and time in seconds of a training and of its variants."""

    measured: Measured
    config: RunConfig

    @property
    def kind(self) -> Kind:
        """Which of the counted activations are those of the settings."""
        return "recompute" if self.config.recompute else "plain"

    @property
    def own(self) -> Round | None:
        """The round of the training's own batch, if it was tried."""
        train = self.config.train
        same = (train.batch_size, train.accumulate)
        return next((each for each in self.measured.rounds if each[:2] == same), None)

    @property
    def reference(self) -> Round:
        """The round from which all others are reckoned."""
        return self.own or self.measured.rounds[-1]

    @property
    def _pair(self) -> tuple[Round, Round] | None:
        """The two rounds of one part that lie furthest apart."""
        rounds = [each for each in self.measured.rounds if each.parts == 1]
        return (rounds[0], rounds[-1]) if len(rounds) > 1 else None

    @property
    def activations(self) -> float:
        """Bytes that an image of a part takes: as measured, at least what is saved for it."""
        least = float(self.measured.each[self.kind].each)
        if self._pair is None:
            return least
        first, last = self._pair
        slope = (last.peak - first.peak) / (last.batch - first.batch)
        return max(least, slope - self.measured.image_bytes)

    def peak(self, batch: int, parts: int, kind: Kind | None = None) -> int:
        """Most bytes of the training process, or of the GPU."""
        measured, at = self.measured, self.reference
        own, other = measured.each[self.kind], measured.each[kind or self.kind]
        one = max(other.each, self.activations - own.each + other.each)
        size: float = at.peak + other.fixed - own.fixed
        size += one * batch / parts - self.activations * at.batch / at.parts
        size += measured.image_bytes * (batch - at.batch)
        size = max(size, measured.start_peak)
        if measured.device == "cpu":
            size += measured.cache.inside - measured.cache.seen
            size += measured.copy_kept if measured.checkpoints > 2 else measured.copy_once
        return math.ceil(size)

    def needed(self, batch: int, parts: int, kind: Kind | None = None) -> int:
        """Bytes that must be free for all processes; files that are only mapped need not be."""
        measured, size = self.measured, self.peak(batch, parts, kind)
        if measured.device != "cpu":
            return size
        return size - measured.cache.inside + measured.cache.kept + measured.workers_bytes

    @property
    def room(self) -> float:
        """Bytes that a plan fills; without end where the system does not say."""
        free = self.measured.free
        return math.inf if free is None else RESERVE * free

    def largest_batch(self, parts: int) -> int | None:
        """The largest batch in so many parts that fits; 0 if none does, None if unknown.

        More than all images is no use.
        """
        if math.isinf(self.room):
            return None
        unit = math.lcm(parts, self.config.data.sampling.repeats)
        at, each = self.reference.batch, self.activations / parts + self.measured.image_bytes
        largest = at + (self.room - self.needed(at, parts)) / each
        largest = min(largest, max(self.measured.train_images, self.config.train.batch_size))
        return max(0, int(largest) // unit * unit)

    @property
    def start(self) -> float:
        """Seconds before the first step: imports, data, cache, statistics of the images."""
        measured = self.measured
        passes = measured.cache.decoding if self.config.input.normalise == "data" else 0.0
        return measured.start_seconds + measured.cache.filling + passes

    @property
    def decode(self) -> float:
        """Seconds in which one process reads an image."""
        alone = [
            each.wait / each.batch
            for each in self.measured.rounds
            if each is not self.own or not self.config.data.workers
        ]
        return statistics.median(alone) if alone else self.measured.decode_seconds

    @property
    def overhead(self) -> float:
        """Seconds of a step that do not depend on its images, such as the optimiser's."""
        if self._pair is None:
            return 0.0
        first, last = self._pair
        slope = (last.compute - first.compute) / (last.batch - first.batch)
        return min(max(0.0, first.compute - slope * first.batch), self.reference.compute)

    def compute(self, batch: int, kind: Kind | None = None) -> float:
        """Seconds of a step without waiting for images."""
        each = (self.reference.compute - self.overhead) / self.reference.batch
        if self.kind == "plain" and kind == "recompute":
            each *= AGAIN
        elif self.kind == "recompute" and kind == "plain":
            each /= AGAIN
        return self.overhead + each * batch

    def step(self, batch: int, workers: int) -> float:
        """Seconds of a whole step. Workers read while the step before is computed.

        Neither can be faster than it is alone, nor both than the cores can do their work.
        """
        own = self.own
        if own is not None and (own.batch, self.config.data.workers) == (batch, workers):
            return own.wait + own.compute
        compute, read = self.compute(batch), batch * self.decode
        if not workers:
            return compute + read
        work = compute * self.measured.busy + read
        return max(compute, read / workers, work / self.measured.cores)

    def wait(self) -> float:
        """Seconds of a step in which the training waits for images."""
        if self.own is not None:
            return self.own.wait
        batch = self.config.train.batch_size
        return max(0.0, self.step(batch, self.config.data.workers) - self.compute(batch))

    def best_workers(self, batch: int) -> int:
        """How many workers make a step fastest; the fewest of equally many."""
        counts = range(self.measured.cores + 1)
        fastest = min(self.step(batch, count) for count in counts)
        return next(count for count in counts if self.step(batch, count) <= 1.03 * fastest)
