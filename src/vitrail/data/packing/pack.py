"""Packs any data set into few large files, in parallel, resumable, and proves the copy."""

import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.progress import track

from vitrail.data.dataset import Data, Names
from vitrail.data.packing.plan import (
    Part,
    Plan,
    Sample,
    Survey,
    held,
    make_plan,
    progress,
    reading_pool,
    samples_of,
)
from vitrail.data.packing.proof import Proof, as_data, prove
from vitrail.data.packing.started import PLAN_NAME
from vitrail.data.processes import cores, in_turn
from vitrail.data.remote import shown
from vitrail.data.shards.index import INDEX_NAME, open_index
from vitrail.data.shards.names import find_shards
from vitrail.data.shards.source import CLASSES_NAME
from vitrail.data.shards.table import write_index
from vitrail.data.shards.writer import write_shard
from vitrail.data.sources import list_source, open_data, open_to_measure, quarantined
from vitrail.data.splitting import Fractions
from vitrail.errors import DataError, did_you_mean
from vitrail.files import write_atomic, write_json, writing


class Writer(NamedTuple):
    """One form of a pack."""

    suffix: str
    # path, samples, class names, whether labels are sets, mark; the file appears whole or not
    write: Callable[[Path, Iterable[Sample], tuple[str, ...], bool, str], None]
    finish: Callable[[Path, Data, Plan], None]  # writes what belongs beside the parts


def pack(
    source: str,
    target: Path,
    *,
    format: str = "shards",
    part_bytes: int = 256_000_000,
    workers: int = 0,
    fractions: Fractions | None = None,
    seed: int = 0,
) -> Proof:
    """Copy a data set into `target` as `train-000000.tar` …, and prove that nothing changed.

    The bytes of the images stay as they are; what the quarantine list beside the source names is
    left out. Run again after a crash, it writes only the parts that are missing, and the files are
    the same to the bit.

    Args:
        target: a new folder, or one that an interrupted pack of the same data left.
        format: a key of `WRITERS`.
        part_bytes: size of one file, about.
        workers: processes; 0 for one a core.
        fractions: cut the missing splits as training would; without it the splits stay as they are.
        seed: of the order within a split.
    Raises:
        DataError: the source cannot be used, `target` holds something else, or the proof failed.
        StorageError: `target` cannot be written.
    """
    if format not in WRITERS:
        raise DataError(
            f"format={format}: no such form of a pack{did_you_mean(format, WRITERS)}; "
            f"there is {', '.join(WRITERS)}"
        )
    writer, workers = WRITERS[format], workers or cores()
    _require_place(source, target)
    data = _open(source, fractions)
    _require_names(data)
    with reading_pool(data, workers) as pool:
        plan = make_plan(data, pool, part_bytes=part_bytes, seed=seed)
        _begin(source, target, format, data, plan)
        _write_missing(target, writer, plan, pool)
    writer.finish(target, data, plan)
    packed = list_source(str(target))
    with reading_pool(as_data(packed), workers) as pool:
        return prove(data, plan, packed, pool)._replace(notes=data.notes)


def _open(source: str, fractions: Fractions | None) -> Data:
    """Open the data as it lies there, or with the splits that training would cut."""
    left_out = quarantined(source)
    if fractions is None:
        data = open_to_measure(source, left_out)
    else:
        data = open_data(source, fractions, left_out)
    if not any(len(split) for split in data.splits.values()):
        raise DataError(f"data={source}: no images found; there is nothing to pack")
    return data


def _require_place(source: str, target: Path) -> None:
    """Refuse a folder that is not ours to fill."""
    if "://" in str(target) or ":/" in str(target):
        raise DataError(f"{target}: a pack is written to a local folder; copy it from there")
    root = Path(os.path.expanduser(source))
    if os.path.isdir(root) and target.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{target}: lies inside the source; choose a folder outside of it")
    if os.path.lexists(target) and not target.is_dir():
        raise DataError(f"{target}: is a file; name a new folder")
    there = [each.name for each in target.iterdir()] if target.is_dir() else []
    if PLAN_NAME not in there and any(not name.endswith(".tmp") for name in there):
        raise DataError(f"{target}: is not empty, and no pack; name a new folder")


def _require_names(data: Data) -> None:
    for name in data.classes:
        if "\n" in name or name.endswith("\r"):
            raise DataError(f"class {name[:50]!r} has a line break; rename it before packing")


def _begin(source: str, target: Path, format: str, data: Data, plan: Plan) -> None:
    """Write class names and plan, or make sure that the folder holds a pack of the same plan.

    Raises:
        DataError: it is another one.
    """
    path = target / PLAN_NAME
    if path.exists():
        try:
            there = json.loads(path.read_bytes())
            same = (there["digest"], there["format"]) == (plan.digest, format)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise DataError(f"{path}: cannot be read; name a new folder") from None
        if not same:
            raise DataError(
                f"{target}: holds the pack of other data, or with other settings (source "
                f"{there.get('source')!r}, seed {there.get('seed')}); name a new folder"
            )
        for left in target.glob(".*.tmp"):  # of a killed run
            left.unlink(missing_ok=True)
        _write_classes(target, data)
        return
    about = {
        "version": 1,
        "source": shown(source),
        "format": format,
        "seed": plan.seed,
        "digest": plan.digest,
        "parts": len(plan.parts),
        "images": plan.images,
        "bytes": plan.bytes,
    }
    write_json(path, about)
    _write_classes(target, data)


def _write_classes(target: Path, data: Data) -> None:
    names = "".join(f"{name}\n" for name in data.classes)
    write_atomic(target / CLASSES_NAME, names.encode("utf-8", "surrogateescape"))


def _write_missing(target: Path, writer: Writer, plan: Plan, pool: Executor) -> None:
    """Write the parts that are not there yet, side by side; shows progress."""
    jobs = []
    for part in plan.parts:
        path = target / f"{part.name}{writer.suffix}"
        if not path.exists():
            jobs.append((path, writer.write, part, _of_part(plan, part)))
    console, quiet = progress(len(jobs))
    done = in_turn(pool, _write, jobs)
    for _ in track(done, "write", len(jobs), console=console, transient=True, disable=quiet):
        pass


def _of_part(plan: Plan, part: Part) -> Survey:
    """Take what a worker must know of the samples of a part, in their order."""
    survey = plan.surveys[part.split]
    suffixes = tuple(survey.suffixes[i] for i in part.places.tolist())
    return Survey(survey.sizes[part.places], survey.sha256[part.places], suffixes)


def _write(job: tuple[Path, Callable[..., None], Part, Survey]) -> None:
    """Write one part; runs in the workers."""
    path, write, part, survey = job
    data = held()
    with writing(path):
        write(path, samples_of(data, part, survey), data.classes, data.multi_label, part.mark)


def finish_shards(target: Path, data: Data, plan: Plan) -> None:
    """Write the index, with the sha256 and the source's key of every sample."""
    index = open_index(find_shards(str(target)))
    if [entry.samples for entry in index.entries] != [len(part.places) for part in plan.parts]:
        raise DataError(f"{target}: holds other shards than planned; name a new folder")
    hashes = [plan.surveys[part.split].sha256[part.places] for part in plan.parts]
    origins = (data.splits[part.split].keys[i] for part in plan.parts for i in part.places.tolist())
    entries = tuple(entry._replace(hashed=True) for entry in index.entries)
    table = index.table._replace(sha256=np.concatenate(hashes), origins=Names.of(origins))
    write_index(target / INDEX_NAME, index._replace(entries=entries, table=table))


def write_parquet(
    path: Path, samples: Iterable[Sample], classes: tuple[str, ...], several: bool, mark: str
) -> None:
    """Write one part as Hugging Face lays images out. Raises DataError and StorageError."""
    from vitrail.data.arrow.parquet_writer import write_part

    rows = (
        (each.key, each.data, each.labels if several else each.labels[0], each.weight)
        for each in samples
    )
    write_part(path, rows, classes)


def finish_parquet(target: Path, data: Data, plan: Plan) -> None:
    """Do nothing: the parts tell everything."""


# The forms of a pack.
WRITERS: dict[str, Writer] = {
    "shards": Writer(".tar", write_shard, finish_shards),
    "parquet": Writer(".parquet", write_parquet, finish_parquet),
}
