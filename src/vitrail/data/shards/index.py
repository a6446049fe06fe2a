"""Opens the index of shards, and indexes anew what changed since.

It lies beside the shards, or in the user's cache folder where nothing can be written there. A shard
is taken from it if size and version (time of change, or ETag) are the same, or if size and the mark
are: shards written by `vitrail data pack` carry a digest of their content, which a copy to another
place keeps.
"""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.progress import track

from vitrail.data.processes import cores, in_turn, worker_pool
from vitrail.data.remote import find, read_range
from vitrail.data.shards.join import join
from vitrail.data.shards.names import Shards
from vitrail.data.shards.samples import Job, index_shard, opened
from vitrail.data.shards.table import ShardIndex, read_index, write_index
from vitrail.errors import DataError, StorageError
from vitrail.files import cache_folder, write_atomic

INDEX_NAME = "vitrail-index.safetensors"
INDEX_LIMIT = 1 << 30  # bytes of an index that is fetched
PROCESSES_FROM = 64  # local shards that are worth the start of worker processes
THREADS = 16
MARK_WITHIN = 1536  # bytes: a global header, its records, and the next header


def open_index(shards: Shards) -> ShardIndex:
    """Give the samples of shards; those that are not known yet are indexed, and the index stored.

    Raises:
        DataError: a shard cannot be used.
    """
    parts, fresh = _known(shards)
    missing = [k for k, name in enumerate(shards.names) if name not in parts]
    for k, index in zip(missing, _build(shards, missing), strict=True):
        parts[shards.names[k]] = (index, 0)
    chosen = [parts[name] for name in shards.names]
    whole = chosen[0][0]
    in_order = all(index is whole and k == place for place, (index, k) in enumerate(chosen))
    if fresh and in_order and len(chosen) == len(whole.entries) and not missing:
        return whole  # as it lies in the file
    result = join(chosen)
    if missing or not fresh:
        _store(shards, result)
    return result


def _cached(shards: Shards) -> Path:
    name = hashlib.sha256(shards.base.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return cache_folder() / "shards" / f"{name}.safetensors"


def _stored(shards: Shards) -> Iterator[ShardIndex]:
    """Give the indexes that may know these shards, the likeliest first."""
    if not shards.remote and (beside := read_index(Path(shards.path(INDEX_NAME)))):
        yield beside
    if cached := read_index(_cached(shards)):
        yield cached
    if shards.remote and (fetched := _fetch(shards)):
        yield fetched


def _fetch(shards: Shards) -> ShardIndex | None:
    """Fetch the index that lies beside shards behind an address."""
    url = shards.path(INDEX_NAME)
    try:
        found = find(url)
        if found is None or not 0 < found.size <= INDEX_LIMIT:
            return None
        scratch = _cached(shards).with_suffix(".fetched")
        write_atomic(scratch, read_range(url, 0, found.size))
        index = read_index(scratch)
        scratch.unlink(missing_ok=True)  # what is mapped stays
        return index
    except (DataError, StorageError):
        return None


def _known(shards: Shards) -> tuple[dict[str, tuple[ShardIndex, int]], bool]:
    """Find each shard in the stored indexes; and whether the first of them has all as they are."""
    parts: dict[str, tuple[ShardIndex, int]] = {}
    wanted = dict(zip(shards.names, shards.found, strict=True))
    fresh = True
    for index in _stored(shards):
        places = {entry.name: k for k, entry in enumerate(index.entries)}
        marked = []
        for name, found in wanted.items():
            entry = index.entries[places[name]] if name in places else None
            if name in parts or entry is None or entry.size != found.size:
                continue
            if entry.stamp == found.stamp:
                parts[name] = (index, places[name])
            elif entry.mark:
                marked.append((name, entry.mark))
        same = _still_marked(shards, marked)
        if same:
            fresh = False
            entries = list(index.entries)
            for name in same:
                k = places[name]
                entries[k] = entries[k]._replace(stamp=wanted[name].stamp)
            renewed = ShardIndex(tuple(entries), index.table)
            parts |= {name: (renewed, places[name]) for name in same}
        if len(parts) == len(wanted):
            break
    return parts, fresh


def _still_marked(shards: Shards, marked: list[tuple[str, str]]) -> list[str]:
    """Give those shards that still begin with their mark."""
    sizes = {name: found.size for name, found in zip(shards.names, shards.found, strict=True)}

    def check(each: tuple[str, str]) -> bool:
        name, mark = each
        with opened(shards.path(name), min(MARK_WITHIN, sizes[name])) as read:
            return f"comment={mark}\n".encode(errors="backslashreplace") in read(0, MARK_WITHIN)

    with ThreadPoolExecutor(THREADS) as pool:
        return [each[0] for each, same in zip(marked, pool.map(check, marked), strict=True) if same]


def _build(shards: Shards, missing: list[int]) -> Iterator[ShardIndex]:
    """Index shards side by side; shows progress. Raises DataError."""
    jobs = [Job(shards.path(shards.names[k]), shards.names[k], shards.found[k]) for k in missing]
    console = Console(stderr=True)
    quiet = len(jobs) < 2 or not console.is_terminal
    if not jobs:
        return
    with _pool(shards, len(jobs)) as pool:
        done = in_turn(pool, index_shard, jobs)
        yield from track(
            done, "index", total=len(jobs), console=console, transient=True, disable=quiet
        )


def _pool(shards: Shards, jobs: int) -> Executor:
    """Use processes where the cores are what limits, and threads where the network is."""
    if shards.remote or jobs < PROCESSES_FROM or cores() == 1:
        return ThreadPoolExecutor(THREADS)
    return worker_pool(cores())


def _store(shards: Shards, index: ShardIndex) -> None:
    """Store an index beside its shards or in the cache; shards of an earlier one are kept in it."""
    places = [_cached(shards)]
    if not shards.remote:
        places.insert(0, Path(shards.path(INDEX_NAME)))
    for path in places:
        try:
            write_index(path, _with_others(shards, index, path))
        except (StorageError, OSError):
            continue
        return


def _with_others(shards: Shards, index: ShardIndex, path: Path) -> ShardIndex:
    """Add the other shards that a stored index knows, where they are still there."""
    stored = read_index(path)
    if stored is None:
        return index
    own = {entry.name for entry in index.entries}
    others = [
        (stored, k)
        for k, entry in enumerate(stored.entries)
        if entry.name not in own and (shards.remote or os.path.exists(shards.path(entry.name)))
    ]
    return join([*((index, k) for k in range(len(index.entries))), *others]) if others else index
