"""The whole way on the built-in letters: data, training, measurement, explanation, report."""

import os
from pathlib import Path

from rich.console import Console

from vitrail.data.sources import open_data
from vitrail.errors import UsageError
from vitrail.evaluate.measure import final_split
from vitrail.evaluate.run import evaluate_run, open_run_data
from vitrail.recipes import find_recipe
from vitrail.report.build import build_report, describe_model
from vitrail.runs import Run
from vitrail.train import loop
from vitrail.weights.native import load_model

CONSOLE = Console(stderr=True, soft_wrap=True, highlight=False)


def run_demo(
    *, data: str = "glyphs", out: Path = Path("runs/demo"), epochs: float | None = None
) -> None:
    """Train a Vision Transformer on built-in images, measure it, and show where it looks.

    A demo that was stopped goes on where it was; one that is done is followed by a new one.

    Args:
        data: glyphs (letters of typefaces) or digits (scanned digits).
        out: the run directory.
        epochs: passes over the training images; the recipe's own number if it is not given.
    """
    if epochs is not None and not epochs > 0:
        raise UsageError(f"demo: --epochs={epochs:g} must be above 0")
    opened = open_data(data)
    sizes = ", ".join(f"{name} {len(split):,}" for name, split in opened.splits.items())
    _head(1, "The images")
    CONSOLE.print(f"{opened.name}: {len(opened.classes)} classes; {sizes} images.")
    if data == "glyphs":
        CONSOLE.print("No typeface family is in two splits: the test asks for designs never seen.")
    _head(2, "The training")
    run = _train(data, out, epochs)
    model = load_model(run.path)
    facts = describe_model(model)
    CONSOLE.print(
        f"A ViT of {facts['depth']} blocks, width {facts['width']}: "
        f"{facts['parameters']:,} parameters, "
        f"{facts['image size']} pixels in patches of {facts['patch size']}."
    )
    _head(3, "The measurement")
    images = open_run_data(run)
    summary = evaluate_run(run, model, images, final_split(images))
    top1 = summary.top1
    CONSOLE.print(
        f"[bold]{top1.value:.1%}[/] of {summary.images:,} {summary.split} images are right "
        f"(95 % interval {top1.low:.1%} to {top1.high:.1%})."
    )
    _head(4, "The explanation")
    CONSOLE.print("Attention of every layer and head, and rollout over the worst mistakes.")
    report = build_report(run, model, images, summary)
    _head(5, "Your turn")
    CONSOLE.print(f"Open the report in a browser:  [bold]{report.resolve()}[/]")
    CONSOLE.print("Then try your own images, in one folder for each class:")
    for line in (
        "vitrail train --data PHOTOS --out runs/mine",
        "vitrail evaluate runs/mine",
        "vitrail predict runs/mine IMAGE.jpg",
    ):
        CONSOLE.print(f"  ./{line}", markup=False)


def _train(data: str, out: Path, epochs: float | None) -> Run:
    """Train, or go on with a demo that was stopped."""
    if (out / "config.json").exists() and not (out / "finished.json").exists():
        CONSOLE.print(f"Going on with {out}.", markup=False)
        return loop.resume(out)
    config = find_recipe(data, data)
    if epochs is not None:
        warmup = min(config.train.warmup_epochs, epochs / 2)
        config = config.replace(train=config.train.replace(epochs=epochs, warmup_epochs=warmup))
    return loop.train(config, _free(out))


def _free(out: Path) -> Path:
    """Give `out`, or the first of out-2, out-3 … that is not there yet."""
    path, number = out, 1
    while os.path.exists(path):
        number += 1
        path = out.with_name(f"{out.name}-{number}")
    return path


def _head(number: int, title: str) -> None:
    CONSOLE.print(f"\n[bold]{number}. {title}[/]")
