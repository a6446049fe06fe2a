"""The run directory: everything that a run leaves, written so that a crash never damages it.

RUN/config.json        the whole configuration
    data.json          class names, and which file went to which split where splits were cut
    model.json         architecture, class names, preprocessing
    model.safetensors  the final (averaged) weights
    checkpoints/step-00001200/{model,optimizer,ema}.safetensors, state.json, manifest.json
    metrics.jsonl      one JSON object a line
    environment.json   versions and hardware
    predictions/       saved logits: every metric is computed from these
    reports/           report.html, summary.json
    events.jsonl       what went wrong in a step, and what was done
    replays/           such steps, to be looked into
    .lock              held by the process that trains
"""

import errno
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float, Int64
from torch import Tensor

from vitrail.checkpoints import Checkpoint
from vitrail.checkpoints.folders import clean_up
from vitrail.checkpoints.reading import newest_checkpoint, read_checkpoint
from vitrail.errors import RunError
from vitrail.files import write_json, write_synced, writing
from vitrail.weights.tensors import read_tensors, write_tensors


@dataclass(frozen=True)
class Predictions:
    """What a model said of one split. n images that could be read, in the order of the split."""

    split: str
    keys: tuple[str, ...]
    classes: tuple[str, ...]
    logits: Float[Tensor, "n classes"]  # float32
    labels: Int64[Tensor, " n"]
    preprocess_hash: str
    unreadable: tuple[tuple[str, str], ...] = ()  # (key, reason)


class Run:
    """One run directory."""

    def __init__(self, path: Path) -> None:
        """Use `create` or `open` instead."""
        self.path = path

    @classmethod
    def create(cls, path: str | Path) -> "Run":
        """Make a new run directory.

        Raises:
            RunError: something is there already.
            StorageError: it cannot be made.
        """
        path = Path(os.path.expanduser(path))  # leaves an unknown ~user as it is
        if os.path.exists(path) and (not path.is_dir() or any(map(_counts, path.iterdir()))):
            raise RunError(
                f"{path}: exists and is not an empty folder; choose another --out, "
                f"or go on with it by --resume {path}"
            )
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
        return cls(path)

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """Open a run directory.

        Raises:
            RunError: it is not one.
        """
        path = Path(os.path.expanduser(path))  # leaves an unknown ~user as it is
        if not (path / "config.json").is_file():
            what = "no such folder" if not path.exists() else "not a run directory (no config.json)"
            raise RunError(f"{path}: {what}; `vitrail train` makes one")
        return cls(path)

    def write_json(self, name: str, value: Any) -> None:
        """Write `name` (such as config.json) atomically. Raises StorageError."""
        write_json(self.path / name, value)

    def read_json(self, name: str) -> Any:
        """Read a JSON file of the run. Raises RunError."""
        path = self.path / name
        try:
            return json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise RunError(f"{path}: cannot be read ({error})") from None

    def log(self, step: int, **values: float | int) -> None:
        """Append one line of figures to metrics.jsonl. Raises StorageError."""
        path = self.path / "metrics.jsonl"
        with writing(path), open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}, allow_nan=False) + "\n")

    def history(self) -> list[dict[str, float | int]]:
        """Read metrics.jsonl; a last line that was cut by a crash is left out. Raises RunError."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        try:
            return [json.loads(line) for line in lines[:-1]]
        except ValueError as error:
            raise RunError(f"{path}: damaged ({error}); remove the faulty line") from None

    def forget_after(self, step: int) -> None:
        """Drop the lines of metrics.jsonl beyond `step`, before a resumed run writes them again."""
        kept = [json.dumps(line) + "\n" for line in self.history() if line["step"] <= step]
        with writing(self.path / "metrics.jsonl"):
            scratch = self.path / ".metrics.jsonl.tmp"
            write_synced(scratch, "".join(kept).encode())
            os.replace(scratch, self.path / "metrics.jsonl")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let no other process train this run while the block runs.

        The system lets go of the lock when the process ends, however it ends.

        Raises:
            RunError: another process trains it.
            StorageError: it cannot be written there.
        """
        import fcntl  # not on every system

        path = self.path / ".lock"
        with writing(path):
            file = open(path, "ab")
        with file:
            try:  # flock would be held by forked workers too, which may outlive this process
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    raise RunError(
                        f"{self.path}: is being trained by another process; wait for it or stop it"
                    ) from None
                warnings.warn(
                    f"{path}: this disk has no locks ({error.strerror}); "
                    f"see to it that one process trains this run",
                    stacklevel=3,
                )
            yield

    def clean_up(self) -> None:
        """Remove the scratch files of a process that was killed. Only who has the lock may."""
        for path in self.path.glob(".*.tmp"):
            with suppress(OSError):
                path.unlink()
        with suppress(OSError):
            clean_up(self.path / "checkpoints")
            clean_up(self.path / "replays")

    def newest_checkpoint(self, every: int = 1) -> tuple[Checkpoint | None, list[str]]:
        """Find the newest checkpoint that is whole: each byte of it is looked at.

        Args:
            every: only steps that are a multiple of it.
        Returns:
            the checkpoint, or None; and one line for each damaged one that was passed over.
        """
        return newest_checkpoint(self.path / "checkpoints", every)

    def read_checkpoint(self, step: int) -> Checkpoint:
        """Open the checkpoint of a step that has been verified before; only sizes are looked at.

        Raises:
            RunError, WeightsError: it is not there, or damaged.
        """
        return read_checkpoint(self.path / "checkpoints", step)

    def write_predictions(self, predictions: Predictions) -> None:
        """Save the logits of a split. Raises StorageError."""
        folder = self.path / "predictions"
        about = {
            "split": predictions.split,
            "classes": list(predictions.classes),
            "preprocess": predictions.preprocess_hash,
            "unreadable": [list(pair) for pair in predictions.unreadable],
            "keys": list(predictions.keys),
        }
        tensors = {"logits": predictions.logits, "labels": predictions.labels}
        write_tensors(folder / f"{predictions.split}.safetensors", tensors)
        write_json(folder / f"{predictions.split}.json", about)

    def read_predictions(self, split: str) -> Predictions:
        """Read the saved logits of a split. Raises RunError, WeightsError."""
        name = f"predictions/{split}.json"
        about = self.read_json(name)
        tensors = read_tensors(self.path / "predictions" / f"{split}.safetensors")
        try:
            return Predictions(
                split=split,
                keys=tuple(about["keys"]),
                classes=tuple(about["classes"]),
                logits=tensors["logits"],
                labels=tensors["labels"],
                preprocess_hash=about["preprocess"],
                unreadable=tuple((key, reason) for key, reason in about["unreadable"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"{self.path / name}: damaged ({error!r}); evaluate the run again"
            ) from None


def _counts(path: Path) -> bool:
    """Whether a file makes a folder one that is used: not what a killed process half wrote."""
    return not (path.name.startswith(".") and path.name.endswith(".tmp"))
