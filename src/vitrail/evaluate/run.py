"""Evaluate a run: logits first, then every figure from them."""

from rich.console import Console
from rich.progress import Progress

from vitrail.data.dataset import Data
from vitrail.data.sources import open_data, restrict
from vitrail.data.splitting import Fractions
from vitrail.evaluate.measure import predict_split, require_split
from vitrail.evaluate.summary import Summary, summarise
from vitrail.models import Backbone
from vitrail.runs import Run


def open_run_data(run: Run) -> Data:
    """Open the images that a run was made with, split as they were then. Raises DataError."""
    settings = run.read_json("config.json")["data"]
    fractions = Fractions.parse(settings["fractions"], f"{run.path / 'config.json'}: fractions")
    return restrict(open_data(settings["source"], fractions), run.read_json("data.json")["splits"])


def evaluate_run(run: Run, model: Backbone, data: Data, split: str, *, workers: int = 0) -> Summary:
    """Save the logits of a split and the summary of them.

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
    run.write_predictions(predictions)
    summary = summarise(run.read_predictions(split))
    run.write_json(f"reports/summary-{split}.json", summary.to_json())
    return summary
