"""Evaluate a run: logits first, then every figure from them."""

from dataclasses import replace

from rich.console import Console
from rich.progress import Progress

from vitrail.data.dataset import Data, digest
from vitrail.data.sources import open_to_measure, quarantined, restrict
from vitrail.errors import RunError
from vitrail.evaluate.measure import predict_split, require_split
from vitrail.evaluate.summary import Summary, summarise
from vitrail.models import Backbone
from vitrail.runs import Run


def open_run_data(run: Run, split: str = "") -> Data:
    """Open the images that a run was made with, split as they were then.

    Images that the quarantine list names by now are left out, and `notes` say so.

    Args:
        split: only this one is needed; every recorded split if it is not given.
    Raises:
        DataError: images are missing.
        RunError: their labels have changed.
    """
    settings, recorded = run.read_json("config.json")["data"], run.read_json("data.json")
    source, splits = settings["source"], recorded["splits"]
    wanted = {split: splits[split]} if split in splits else splits
    data = replace(restrict(open_to_measure(source), wanted), notes=())
    digests = recorded.get("labels", {})
    changed = [name for name in wanted if digest(data.splits[name].labels) != digests.get(name, "")]
    if digests and (changed or data.classes != tuple(recorded["classes"])):
        raise RunError(
            f"{run.path}: classes or labels of the images have changed since the training; "
            "restore them, or measure them as other images with --data"
        )
    out = quarantined(source, settings.get("quarantine", "auto"))
    kept = {name: [key for key in keys if key not in out] for name, keys in wanted.items()}
    count = sum(map(len, wanted.values())) - sum(map(len, kept.values()))
    if not count:
        return data
    note = f"{count} images are left out by the quarantine list"
    return replace(restrict(data, kept), notes=(note,))


def evaluate_run(
    run: Run, model: Backbone, data: Data, split: str, *, workers: int = 0, prefix: str = ""
) -> Summary:
    """Save the logits of a split and the summary of them.

    Args:
        workers: processes that decode images beside.
        prefix: stands before the split's name in what is saved, for other data than the run's own.

    Raises:
        DataError: no such split, or its images do not fit the model.
        StorageError: the run directory cannot be written.
    """
    total = len(require_split(data, split))
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"evaluate on {split}", total=total)
        predictions = predict_split(
            model, data, split, workers=workers, tell=lambda images: progress.advance(task, images)
        )
    name = prefix + split
    run.write_predictions(replace(predictions, split=name))
    summary = summarise(run.read_predictions(name))
    run.write_json(f"reports/summary-{name}.json", summary.to_json())
    return summary
