"""What went wrong in a training and what was done about it: RUN/events.jsonl.

Which steps are left out, and by how much the learning rate is lowered, follows from this record
alone. So a run that is stopped and goes on takes the same steps as one that never was.
"""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from vitrail.errors import DivergedError, RunError, printable
from vitrail.files import sync_folder, writing
from vitrail.train.guard import Kind, Trouble
from vitrail.train.learning import GuardConfig

Action = Literal["left out", "went back", "stopped"]
NAMED = 3  # images that a message names


@dataclass(frozen=True, kw_only=True)
class Event:
    """A step that went wrong. Steps count from 0: step 8 begins where step-00000008 was saved."""

    kind: Kind
    step: int
    epoch: float
    loss: float  # as norm, of all ranks together
    norm: float
    threshold: float | None  # of a spike: what the loss is above
    action: Action
    back_to: int  # the step that is taken next
    skip: tuple[int, int]  # first and last step that are left out; none if first > last
    lr_scale: float  # of every step from `back_to` on
    module: str = ""  # the first that was not finite
    samples: tuple[str, ...] = ()  # keys of the images
    bundles: tuple[str, ...] = ()  # folders, relative to the run
    note: str = ""  # why there is no bundle

    def what(self) -> str:
        """Say what was seen."""
        return Trouble(self.kind, self.step, self.loss, self.norm, self.threshold).what()

    def line(self) -> str:
        """Say in one line what happened and what is done."""
        where = f" ({self.module})" if self.module else ""
        first, last = self.skip
        steps = f"step {first}" if first == last else f"steps {first} to {last}"
        done = f"{steps} left out" if first <= last else "nothing left out"
        if self.action == "went back":
            done = f"back to step {self.back_to}, {done}"
        if self.action == "stopped":
            done = f"stopped; when it goes on: {done}"
        if self.lr_scale != 1:
            done += f", learning rate times {self.lr_scale:g}"
        kept = f"; kept in {', '.join(self.bundles)}" if self.bundles else ""
        note = f"; {self.note}" if self.note else ""
        return f"step {self.step}: {self.what()}{where}: {done}{kept}{note}"

    def to_json(self) -> dict[str, Any]:
        """Give JSON values; numbers that are not finite become texts."""
        values = asdict(self)
        for name in ("loss", "norm"):
            values[name] = json_number(values[name])
        return values

    @classmethod
    def parse(cls, values: dict[str, Any]) -> "Event":
        """Take what `to_json` gave. Raises KeyError, TypeError, ValueError."""
        first, last = values["skip"]
        known = values | {
            "loss": float(values["loss"]),
            "norm": float(values["norm"]),
            "skip": (int(first), int(last)),
            "samples": tuple(values["samples"]),
            "bundles": tuple(values["bundles"]),
        }
        return cls(**known)


def json_number(value: float) -> float | str:
    """Give a number that JSON has, or its name."""
    return value if math.isfinite(value) else str(value)


class Events:
    """The events of one run, and what follows from them. Every rank has one; rank 0 writes."""

    def __init__(self, run: Path, config: GuardConfig, *, leads: bool = True) -> None:
        """Read what there is; a last line that was cut by a crash does not count.

        Raises:
            RunError: the record is damaged.
        """
        self._path = run / "events.jsonl"
        self._run = run
        self._config = config
        self._leads = leads
        self.all = read_events(self._path)

    def skips(self, step: int) -> bool:
        """Whether a step is left out."""
        return any(first <= step <= last for first, last in (event.skip for event in self.all))

    def lr_scale(self, step: int) -> float:
        """Give the factor of a step's learning rate."""
        scales = (event.lr_scale for event in self.all if event.back_to <= step)
        return math.prod(scales, start=1.0)

    def in_a_row(self, step: int) -> int:
        """Count the newest events of which each came soon after the one before, up to `step`.

        Steps that are taken again do not count as good ones between two events.
        """
        count = 0
        for event in reversed(self.all):
            if step - event.step > self._config.forgive:
                break
            count, step = count + 1, event.step
        return count

    def decide(
        self, trouble: Trouble, epoch: float, newest: int | None, *, broken: bool = False
    ) -> Event:
        """Decide what is done about a step, the same on every rank.

        What is not finite is left out, and the training goes on behind it. From a spike, whose
        causes lie before it, the training goes back to the newest checkpoint, if there is one.

        Args:
            epoch: passes that were done before the step.
            newest: step of the newest whole checkpoint.
            broken: the weights themselves are not finite, so that only going back helps.
        """
        number, step = self.in_a_row(trouble.step) + 1, trouble.step
        back_to, skip = step + 1, (step, step)
        action: Action = "left out"
        if newest is not None and (broken or trouble.kind == "spike"):
            back_to, action = newest, "went back"
            skip = (max(newest, step - self._config.skip), step)
            if broken:
                skip = (step, step - 1)  # none: the batch is not to blame
        if number >= self._config.limit or (broken and newest is None):
            action = "stopped"
        return Event(
            kind=trouble.kind,
            step=step,
            epoch=round(epoch, 4),
            loss=trouble.loss,
            norm=trouble.norm,
            threshold=trouble.threshold,
            action=action,
            back_to=back_to,
            skip=skip,
            lr_scale=self._config.slow_down if number > 1 else 1.0,
        )

    def bundle_names(self, event: Event, ranks: Sequence[int], of: int) -> dict[int, str]:
        """Name the folders that keep an event for these ranks; none where enough are kept."""
        if sum(bool(each.bundles) for each in self.all) >= self._config.limit:
            return {}
        again = sum(each.step == event.step for each in self.all)
        suffix = f"-{again + 1}" if again else ""
        return {
            rank: f"replays/step-{event.step:08d}{f'-rank-{rank}' if of > 1 else ''}{suffix}"
            for rank in ranks
        }

    def record(self, event: Event, checkpoint: Path | None) -> None:
        """Write an event down, before anything is done about it.

        Args:
            checkpoint: the newest whole one.
        Raises:
            DivergedError: it is the last that is borne.
            StorageError: it cannot be written.
        """
        if self._leads:
            with writing(self._path):
                _append(self._path, json.dumps(event.to_json(), allow_nan=False))
        self.all.append(event)
        if event.action == "stopped":
            raise DivergedError(self._farewell(event, checkpoint))

    def _farewell(self, event: Event, checkpoint: Path | None) -> str:
        """Say in one line what was seen, where, what is left, and what to do."""
        number = self.in_a_row(event.step)
        before = ", ".join(str(each.step) for each in self.all[-number:-1])
        after = f", after step {before}" if before else ""
        where = f" ({event.module})" if event.module else ""
        images = ""
        if event.samples:
            more = len(event.samples) - NAMED
            names = printable(", ".join(event.samples[:NAMED]))
            images = f" with the images {names}" + (f" and {more} more" if more > 0 else "")
        saved = (
            f"the last good checkpoint is {checkpoint}" if checkpoint else "there is no checkpoint"
        )
        look = "; ".join(f"vitrail replay {self._run / name}" for name in event.bundles)
        return (
            f"step {event.step}: {event.what()}{where}{images}; event {number} in a row{after}; "
            f"{saved}; {f'look into it by {look}; ' if look else ''}"
            f"lower train.lr{', mend or leave out those images' if images else ''} or lengthen "
            f"train.warmup_epochs and train anew, or go on past it by vitrail train --resume "
            f"{self._run}"
        )


def read_events(path: Path) -> list[Event]:
    """Read the events of a run; a last line that was cut is left out. Raises RunError."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        return [Event.parse(json.loads(line)) for line in lines]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path}: damaged ({error!r}); remove the faulty line") from None


def _append(path: Path, line: str) -> None:
    """Add a line, in place of one that was cut, and wait until the disk has it."""
    with open(path, "ab+") as file:
        file.seek(0)
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)
