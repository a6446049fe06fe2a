"""Checkpoints that are written while the training goes on."""

import json
import shutil
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor

from vitrail.checkpoints import parts
from vitrail.checkpoints.folders import clean_up, discard, list_folders, publish, step_folder
from vitrail.checkpoints.reading import MANIFEST, STATE, Manifest, score_of
from vitrail.checkpoints.staging import Files, Staging
from vitrail.errors import StorageError, VitrailError
from vitrail.files import Seal, read_hashed, write_hashed, writing
from vitrail.weights.tensors import tensor_pieces


class Saver:
    """Saves checkpoints of one run; a thread writes while the training goes on.

    With many ranks each has one, and all call `save` for the same steps. Use it as a context: the
    end of the block waits for the last save.
    """

    def __init__(
        self,
        run: Path,
        *,
        keep: int,
        keep_best: bool,
        rank: int = 0,
        ranks: int = 1,
        attempt: str = "",
        timeout: float = 600.0,
    ) -> None:
        """Remove what killed saves left, and be ready. Rank 0 holds the lock of the run.

        Args:
            run: the run folder; checkpoints go to its folder `checkpoints`.
            keep: how many of the newest are kept, >= 1.
            keep_best: keep the one with the largest score too.
            rank, ranks: this process among those that write together.
            attempt: letters and digits, the same on all ranks and another at each start of the
                run: parts that an earlier start left are never mixed in.
            timeout: seconds that a rank waits for the others.
        Raises:
            StorageError: the folder cannot be read.
        """
        assert keep >= 1 and 0 <= rank < ranks and (attempt.isalnum() or ranks == 1)
        self._root = run / "checkpoints"
        self._keep, self._keep_best = keep, keep_best
        self._rank, self._ranks, self._attempt = rank, ranks, attempt
        self._timeout = timeout
        self._staging = Staging()
        self._saves = 0
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[None] | None = None
        if rank == 0:
            with writing(self._root):
                clean_up(self._root, f".{attempt}-" if attempt else "")

    def save(
        self,
        step: int,
        tensors: Files,
        state: Mapping[str, Any],
        score: float | None = None,
    ) -> None:
        """Begin to save; returns once all tensors are copied, and they may change at once.

        The save before is waited for first. Old checkpoints are removed only after the new one is
        on the disk and was read back from there.

        Args:
            tensors: by file and name; of many ranks each gives the whole tensors that it owns, and
                no two the same.
            state: JSON, of which only rank 0's counts.
            score: the larger the better; finite.
        Raises:
            StorageError: the save before failed; this one is not begun.
        """
        self._saves += 1  # also where the next line raises: the ranks must count alike
        self.wait()
        about = json.dumps({**state, "step": step, "score": score}, indent=2, allow_nan=False)
        staged = self._staging.copy(tensors)
        folder = step_folder(self._root, step)
        tag = f".{self._attempt}-{self._saves}" if self._ranks > 1 else ""
        scratch = folder.with_name(f"{folder.name}{tag}.tmp")
        self._pending = self._thread.submit(self._write, folder, scratch, staged, about.encode())

    def wait(self) -> None:
        """Wait until the last save is whole and under its own name on the disk.

        Raises:
            StorageError: it failed; earlier checkpoints are untouched.
        """
        if self._pending is None:
            return
        try:
            self._pending.result()
        finally:
            if self._pending.done():  # not so where Ctrl-C ended the waiting
                self._pending = None

    def close(self) -> None:
        """Wait for the last save and end the thread. Raises StorageError."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()

    def __enter__(self) -> "Saver":
        """Use it as a context."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for the last save. Where the block failed, that error counts, with a note."""
        try:
            self.close()
        except (VitrailError, OSError) as failed:
            if error is None:
                raise
            error.add_note(f"and the last checkpoint was not saved: {failed}")

    def _write(
        self, folder: Path, scratch: Path, staged: dict[str, dict[str, Tensor]], about: bytes
    ) -> None:
        """Write what was copied. Runs in the thread. Raises StorageError."""
        try:
            with writing(folder):
                if self._rank == 0:
                    clean_up(self._root, scratch.name if self._ranks > 1 else "")
                scratch.mkdir(parents=True, exist_ok=True)
                files = self._write_share(scratch, staged)
                if self._rank == 0:
                    self._finish(scratch, folder, files, about)
                else:
                    parts.report(scratch, self._rank, files)
                    parts.await_published(scratch, folder, files, self._timeout)
        except BaseException as error:
            if self._ranks == 1:
                shutil.rmtree(scratch, ignore_errors=True)
            else:
                parts.report_failure(scratch, self._rank, self._ranks, error)
            raise

    def _write_share(self, scratch: Path, staged: dict[str, dict[str, Tensor]]) -> Manifest:
        """Write the tensors of this rank; give what was written."""
        files: Manifest = {}
        for file, tensors in staged.items():
            if self._rank > 0:
                parts.require_leader(scratch)
                if not tensors:
                    continue
            name = f"{file}.safetensors"
            if self._ranks > 1:
                name = parts.part_name(file, self._rank, self._ranks)
            files[name] = _write_checked(scratch / name, tensor_pieces(tensors))
        return files

    def _finish(self, scratch: Path, folder: Path, files: Manifest, about: bytes) -> None:
        """Make the scratch folder a checkpoint, and remove those that are no longer kept."""
        if self._ranks > 1:
            files = files | parts.collect(scratch, self._ranks, self._timeout)
            files = parts.undivide(scratch, files, self._ranks)
        files[STATE] = _write_checked(scratch / STATE, [about])
        manifest = json.dumps({name: seal._asdict() for name, seal in files.items()}, indent=2)
        _write_checked(scratch / MANIFEST, [manifest.encode()])
        publish(scratch, folder)
        discard(outdated(self._root, folder, self._keep, self._keep_best))


def outdated(root: Path, newest: Path, keep: int, keep_best: bool) -> list[Path]:
    """List the checkpoints that go once `newest` is there.

    Those of later steps go too: they are damaged, or of a way that the run went back from.
    """
    folders = list_folders(root)
    place = folders.index(newest)
    earlier = folders[place:]
    kept = earlier[:keep]
    scores = {folder: score for folder in earlier if (score := score_of(folder)) is not None}
    if keep_best and scores:
        kept.append(max(scores, key=scores.__getitem__))  # of equal ones the newest
    return [folder for folder in folders if folder not in kept]


def _write_checked(path: Path, pieces: Iterable[bytes | memoryview]) -> Seal:
    """Write a file and read it back. Raises StorageError if the disk gives back something else."""
    seal = write_hashed(path, pieces)
    if read_hashed(path) != seal:
        raise StorageError(f"{path}: the disk gives back something else than was written; check it")
    return seal
