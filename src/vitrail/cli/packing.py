"""`vitrail data pack`: any data set as a few large files, proved equal."""

from pathlib import Path

from tyro.conf import Positional

from vitrail.cli.consoles import NOTE, OUT
from vitrail.cli.flags import parse
from vitrail.errors import UsageError, printable


def pack(args: list[str]) -> None:
    """`vitrail data pack SRC DST`."""
    parse(_pack, args, "data pack")


def _pack(
    source: Positional[str],
    target: Positional[Path],
    /,
    *,
    format: str = "shards",
    shard_mb: int = 256,
    workers: int = 0,
    split_fractions: tuple[float, float] | None = None,
    seed: int = 0,
) -> None:
    """Copy a data set into few large files, and prove that every image and label is the same.

    The bytes of the images stay as they are. Interrupted, the same command writes what is missing.

    Args:
        source: any data set that --data can name.
        target: a new folder.
        format: shards (tar, WebDataset's layout) or parquet.
        shard_mb: size of one file in megabytes, about.
        workers: processes; 0 for one a core.
        split_fractions: cut val and test of these sizes, where they are missing; else the splits
            stay as they are.
        seed: of the order of the images, and of the cut.
    """
    from vitrail.data.packing.pack import pack as copy
    from vitrail.data.splitting import Fractions

    if shard_mb < 1:
        raise UsageError(f"data pack: --shard-mb={shard_mb} must be at least 1")
    if workers < 0:
        raise UsageError(f"data pack: --workers={workers} must be at least 0")
    fractions = None
    if split_fractions is not None:
        val, test = split_fractions
        fractions = Fractions.parse({"val": val, "test": test, "seed": seed}, "--split-fractions")
    proof = copy(
        source,
        target,
        format=format,
        part_bytes=shard_mb * 1_000_000,
        workers=workers,
        fractions=fractions,
        seed=seed,
    )
    for note in proof.notes:
        NOTE.print(printable(f"note: {note}"))
    OUT.print(f"proved: {proof.images} images, {proof.bytes} bytes equal")
    NOTE.print(printable(f"use it with: --data {target}"))
