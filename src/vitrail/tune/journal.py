"""What is known of every trial: study.jsonl, which only grows, one JSON object a line."""

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from vitrail.errors import RunError
from vitrail.files import write_atomic, writing
from vitrail.tune.space import Settings

End = Literal["finished", "stopped early", "diverged"]


@dataclass(frozen=True)
class Trial:
    """One training of a search, as far as it is known."""

    number: int
    settings: Settings
    scores: dict[int, float] = field(default_factory=dict)  # by steps; not of one that diverged
    end: End | None = None  # None: it is under way
    seconds: float = 0.0

    @property
    def score(self) -> float | None:
        """The last measurement."""
        return self.scores[max(self.scores)] if self.scores else None


class Journal:
    """study.jsonl of a search, and the trials that it tells of, by number."""

    def __init__(self, path: Path) -> None:
        """Read what is there; a last line that was cut by a crash is removed.

        Raises:
            RunError: another line is damaged.
            StorageError: it cannot be written.
        """
        self._path = path
        self.trials: dict[int, Trial] = {}
        data = path.read_bytes() if path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:
            write_atomic(path, whole)
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise RunError(
                    f"{path}, line {number}: damaged ({error!r}); begin a new search"
                ) from None

    def begin(self, number: int, settings: Settings) -> Trial:
        """Record that a trial begins."""
        return self._add({"trial": number, "settings": settings})

    def measured(self, number: int, step: int, score: float, seconds: float) -> Trial:
        """Record a measurement, and the seconds since the last record of the trial."""
        return self._add({"trial": number, "step": step, "score": score, "seconds": seconds})

    def end(self, number: int, how: End, seconds: float = 0.0) -> Trial:
        """Record how a trial ended, and the seconds since its last record."""
        return self._add({"trial": number, "end": how, "seconds": seconds})

    def ended(self) -> list[Trial]:
        """List the trials that are done."""
        return [trial for trial in self.trials.values() if trial.end]

    def _add(self, line: dict[str, Any]) -> Trial:
        """Write one line and wait until the disk has it. Raises StorageError."""
        with writing(self._path), open(self._path, "ab") as file:
            file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return self._take(line)

    def _take(self, line: dict[str, Any]) -> Trial:
        """Take over what a line says."""
        number = line["trial"]
        trial = self.trials.get(number) or Trial(number, line["settings"])
        scores = trial.scores
        if "score" in line:
            scores = scores | {line["step"]: line["score"]}
        end = line.get("end", trial.end)
        self.trials[number] = replace(
            trial,
            scores={} if end == "diverged" else scores,
            end=end,
            seconds=trial.seconds + line.get("seconds", 0.0),
        )
        return self.trials[number]
