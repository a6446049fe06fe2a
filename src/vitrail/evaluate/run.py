"""Evaluate a run: logits first, then every figure from them."""

from dataclasses import replace

from rich.console import Console
from rich.progress import Progress

from vitrail.data.dataset import Data
from vitrail.data.sources import open_to_measure, restrict
from vitrail.evaluate.measure import predict_split, require_split
from vitrail.evaluate.summary import Summary, summarise
from vitrail.models import Backbone
from vitrail.runs import Run


def open_run_data(run: Run, split: str = "") -> Data:
    """Open the images that a run was made with, split as they were then.

    Args:
        split: only this one is needed; every recorded split if it is not given.
    Raises:
        DataError: images are missing.
    """
    source = run.read_json("config.json")["data"]["source"]
    recorded = run.read_json("data.json")["splits"]
    wanted = {split: recorded[split]} if split in recorded else recorded
    return restrict(open_to_measure(source), wanted)


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
