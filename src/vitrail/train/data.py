"""Which images a run learns from, and how they are known again when it goes on."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rich.console import Console

from vitrail.data.check.quick import quick_check
from vitrail.data.dataset import Data, digest
from vitrail.data.sources import open_data, quarantined
from vitrail.data.subset import take_subset
from vitrail.errors import RunError, printable
from vitrail.runs import Run
from vitrail.train.config import RunConfig
from vitrail.train.setup import Setup


def open_training(config: RunConfig, left_out: Mapping[str, str]) -> Data:
    """Open the images of a run, without those that are left out or beyond the part asked for.

    Raises:
        DataError: they cannot be trained on.
    """
    data = open_data(config.data.source, config.data.fractions, left_out)
    settings = config.data
    if settings.fraction == 1 and settings.per_class is None:
        return data
    whole = data.splits["train"]
    train = take_subset(
        whole,
        data.classes,
        fraction=settings.fraction if settings.per_class is None else None,
        per_class=settings.per_class,
        seed=config.seed,
    )
    note = f"{len(train)} of {len(whole)} training images are used"
    return replace(data, splits={**data.splits, "train": train}, notes=(*data.notes, note))


def reopen_training(run: Run, config: RunConfig) -> Data:
    """Open the images that a run began with.

    Raises:
        RunError: a class, an image or a label has changed since.
    """
    recorded = (run.path / "data.json").exists()  # else the run was killed before it wrote it
    if recorded:
        left_out = run.read_json("data.json").get("left_out", {})
    else:
        left_out = quarantined(config.data.source, config.data.quarantine)
    data = open_training(config, left_out)
    if recorded:
        require_same_data(run, data)
    else:
        run.write_json("data.json", describe_data(data, left_out))
    return data


def look_at(data: Data, setup: Setup) -> None:
    """Say what was decided about the data, and what a quick look finds wrong with them."""
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
    for line in data.notes:
        console.print(printable(f"data: {line}"))
    if setup.config.data.check:
        for finding in quick_check(data, setup.preprocess):
            console.print(printable(f"{finding.severity}: {finding.summary}; {finding.advice}"))


def describe_data(data: Data, left_out: Mapping[str, str]) -> dict[str, Any]:
    """Record what a data set is: its classes, which image is in which split, and which in none."""
    return {
        "name": data.name,
        "classes": list(data.classes),
        "notes": list(data.notes),
        "splits": {name: list(split.keys) for name, split in data.splits.items()},
        "labels": {name: digest(split.labels) for name, split in data.splits.items()},
        "weights": {
            name: digest(split.weights)
            for name, split in data.splits.items()
            if split.weights is not None
        },
        "left_out": dict(left_out),
    }


def require_same_data(run: Run, data: Data) -> None:
    """Refuse to go on with other images than the run began with.

    Raises:
        RunError: a class, a split or a label differs.
    """
    recorded, current = run.read_json("data.json"), describe_data(data, {})
    if recorded["classes"] != current["classes"]:
        raise RunError(f"{run.path}: the classes of the data have changed since the run began")
    for name, keys in current["splits"].items():
        before = recorded["splits"].get(name, [])
        if before != keys:
            changed = sorted(set(before) ^ set(keys))
            example = f", such as {changed[0]!r}" if changed else ""
            raise RunError(
                f"{run.path}: the {name} images have changed since the run began "
                f"({len(before)} then, {len(keys)} now{example}); "
                f"restore them or train anew"
            )
    for kind in ("labels", "weights"):
        if recorded.get(kind, current[kind]) != current[kind]:
            raise RunError(
                f"{run.path}: {kind} of the images have changed since the run began; "
                f"restore them or train anew"
            )
