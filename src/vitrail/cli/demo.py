"""The whole way on the built-in letters: data, training, measurement, explanation, report."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from vitrail.cli.consoles import NOTE
from vitrail.data.sources import BUILTIN, open_data
from vitrail.device import pick_device
from vitrail.errors import UsageError, printable
from vitrail.evaluate.measure import final_split
from vitrail.evaluate.run import evaluate_run, open_run_data
from vitrail.recipes import find_recipe
from vitrail.report.build import build_report, describe_model
from vitrail.runs import Run
from vitrail.train import loop
from vitrail.train.config import RunConfig
from vitrail.weights.load import load_model


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
    if data not in BUILTIN:
        raise UsageError(
            f"demo: --data={data} is not one of {', '.join(BUILTIN)}; for your own images: "
            f"vitrail train --data {data} --out runs/mine"
        )
    opened = open_data(data)
    sizes = ", ".join(f"{name} {len(split):,}" for name, split in opened.splits.items())
    _head(1, "The images")
    NOTE.print(f"{opened.name}: {len(opened.classes)} classes; {sizes} images.")
    if data == "glyphs":
        NOTE.print("No typeface family is in two splits: the test asks for designs never seen.")
    _head(2, "The training")
    run = _train(data, out, epochs)
    model = load_model(run.path, quiet=True).to(pick_device("auto"))
    facts = describe_model(model)
    NOTE.print(
        f"A ViT of {facts['depth']} blocks, width {facts['width']}: "
        f"{facts['parameters']:,} parameters, "
        f"{facts['image size']} pixels in patches of {facts['patch size']}."
    )
    _head(3, "The measurement")
    images = open_run_data(run)
    summary = evaluate_run(run, model, images, final_split(images))
    top1 = summary.top1
    NOTE.print(
        f"{top1.value:.1%} of {summary.images:,} {summary.split} images are right "
        f"(95 % interval {top1.low:.1%} to {top1.high:.1%})."
    )
    _head(4, "The explanation")
    NOTE.print("Attention of every layer and head, and rollout over the worst mistakes.")
    report = build_report(run, model, images, summary)
    _head(5, "Your turn")
    NOTE.print(f"Open the report in a browser:  {report.resolve()}")
    NOTE.print("Then try your own images, in one folder for each class:")
    for line in (
        "vitrail train --data PHOTOS --out runs/mine",
        "vitrail evaluate runs/mine",
        "vitrail predict runs/mine IMAGE.jpg",
    ):
        NOTE.print(f"  ./{line}")


def _train(data: str, out: Path, epochs: float | None) -> Run:
    """Train, or go on with a demo that was stopped."""
    config = find_recipe(data, data)
    if epochs is not None:
        config = config.replace(train=config.train.lasting(epochs))
    for path in _taken(out):
        if _is_stopped(path, config):
            NOTE.print(printable(f"Going on with {path}."))
            return loop.resume(path)
    return loop.train(config, _free(out))


def _names(out: Path) -> Iterator[Path]:
    """Give `out`, then out-2, out-3 …"""
    yield out
    yield from (out.with_name(f"{out.name}-{number}") for number in itertools.count(2))


def _taken(out: Path) -> list[Path]:
    return list(itertools.takewhile(os.path.exists, _names(out)))


def _free(out: Path) -> Path:
    return next(itertools.dropwhile(os.path.exists, _names(out)))


def _is_stopped(path: Path, config: RunConfig) -> bool:
    """Whether an earlier demo of the same data and length waits here to go on."""
    if not (path / "config.json").exists() or (path / "finished.json").exists():
        return False
    recorded = RunConfig.parse(Run.open(path).read_json("config.json"), str(path / "config.json"))
    return (recorded.data, recorded.train) == (config.data, config.train)


def _head(number: int, title: str) -> None:
    NOTE.print(f"\n{number}. {title}")
