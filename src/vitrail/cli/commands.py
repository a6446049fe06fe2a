"""One function a command: flags in, work done by the library, answers out."""

import json as json_module
from pathlib import Path
from typing import Annotated

from rich.progress import track
from rich.table import Table
from tyro.conf import Positional

from vitrail.cli.checking import check
from vitrail.cli.consoles import NOTE, OUT
from vitrail.cli.converting import convert
from vitrail.cli.data import data
from vitrail.cli.flags import parse
from vitrail.cli.planning import plan
from vitrail.cli.replaying import replay
from vitrail.cli.training import train
from vitrail.cli.tuning import tune
from vitrail.data.sources import open_to_measure, quarantined
from vitrail.device import pick_device
from vitrail.errors import ImageError, ModelError, RunError, UsageError, printable
from vitrail.evaluate.summary import Summary
from vitrail.files import plain_name

__all__ = [
    "check",
    "convert",
    "data",
    "demo",
    "evaluate",
    "explain",
    "models",
    "plan",
    "predict",
    "replay",
    "train",
    "tune",
]


def evaluate(args: list[str]) -> None:
    """`vitrail evaluate RUN`."""
    parse(_evaluate, args, "evaluate")


def _evaluate(
    run: Positional[Path],
    /,
    *,
    data: str = "",
    split: str = "",
    workers: int = 0,
    device: str = "auto",
    json: bool = False,
) -> None:
    """Measure a trained model on a split, and write RUN/reports/report.html.

    Args:
        run: a run directory.
        data: other images than those of the run, all of them; a folder or a built-in name.
        split: train, val or test; test if there is one, else val; for other data also all.
        workers: processes that decode images beside.
        device: auto, cpu, cuda or cuda:N.
        json: print the whole summary as JSON.
    """
    from vitrail.evaluate.measure import final_split
    from vitrail.evaluate.run import evaluate_run, open_run_data
    from vitrail.report.build import build_report
    from vitrail.runs import Run
    from vitrail.weights.load import load_model

    if workers < 0:
        raise UsageError(f"evaluate: --workers={workers} must be at least 0")
    opened = Run.open(run)
    model = load_model(_finished(opened.path), quiet=True).to(pick_device(device))
    images = open_to_measure(data, quarantined(data)) if data else open_run_data(opened, split)
    for line in images.notes:
        NOTE.print(printable(f"data: {line}"))
    chosen = split or final_split(images)
    prefix = f"{plain_name(images.name)}-" if data else ""
    summary = evaluate_run(opened, model, images, chosen, workers=workers, prefix=prefix)
    report = build_report(opened, model, images, summary, split=chosen)
    for key, reason in summary.unreadable:
        NOTE.print(printable(f"not counted: {reason or key}"))
    if json:
        OUT.print_json(json_module.dumps(summary.to_json()))
    else:
        OUT.print(headline(summary))
    NOTE.print(printable(f"report: {report}"))


def headline(summary: Summary) -> str:
    """Give the figures that people ask for first, with 95 % intervals."""
    figures = [("top-1", summary.top1), ("top-5", summary.top5), ("calibration error", summary.ece)]
    lines = [f"{summary.images} images of {summary.split}, {len(summary.classes)} classes"]
    for name, figure in figures:
        if figure is not None:
            between = f"  ({figure.low:.1%} to {figure.high:.1%})" if figure.low is not None else ""
            lines.append(f"{name:<18}{figure.value:>6.1%}{between}")
    return "\n".join(lines)


def predict(args: list[str]) -> None:
    """`vitrail predict RUN IMAGE...`."""
    parse(_predict, args, "predict")


def _predict(
    run: Positional[Path],
    images: Positional[tuple[Path, ...]],
    /,
    *,
    top_k: int = 5,
    json: bool = False,
) -> None:
    """Print the likeliest classes of image files.

    Args:
        run: a run directory, or any folder of a saved model.
        images: image files, or folders of them.
        top_k: how many classes to give for each image.
        json: one JSON object a line instead of text.
    """
    from vitrail.serve.predictor import Predictor

    if top_k < 1:
        raise UsageError(f"predict: --top-k={top_k} must be at least 1")
    files = _image_files(images)
    predictor = Predictor(_finished(run))
    broken = 0
    for path in files:
        try:
            guesses = predictor.predict([path], top_k)[0]
        except ImageError as error:
            broken += 1
            NOTE.print(printable(f"not readable: {error}"))
            if json:
                OUT.print(json_module.dumps({"image": str(path), "error": str(error)}))
            continue
        if json:
            labels = [{"label": guess.label, "score": guess.probability} for guess in guesses]
            OUT.print(json_module.dumps({"image": str(path), "labels": labels}))
        else:
            text = "  ".join(f"{guess.label} {guess.probability:.1%}" for guess in guesses)
            OUT.print(printable(f"{path}: {text}"))
    _require_all_readable(broken, len(files))


def explain(args: list[str]) -> None:
    """`vitrail explain RUN IMAGE...`."""
    parse(_explain, args, "explain")


def _explain(
    run: Positional[Path], images: Positional[tuple[Path, ...]], /, *, out: Path = Path("explained")
) -> None:
    """Draw where a model looks: rollout and last layer over each image, and every layer and head.

    Args:
        run: a run directory, or any folder of a saved model.
        images: image files, or folders of them.
        out: the folder for the pictures.
    """
    from vitrail.serve.explaining import explain_image
    from vitrail.serve.predictor import Predictor

    predictor = Predictor(_finished(run))
    files = _image_files(images)
    quiet = not NOTE.is_terminal
    broken = 0
    for path in track(files, "explain", console=NOTE, transient=True, disable=quiet):
        try:
            pictures = explain_image(predictor, path, out)
        except ImageError as error:
            broken += 1
            NOTE.print(printable(f"not readable: {error}"))
            continue
        for written in pictures:
            OUT.print(printable(str(written)))
    _require_all_readable(broken, len(files))


def models(args: list[str]) -> None:
    """`vitrail models`."""
    parse(_models, args, "models")


def _models(
    pattern: Annotated[str, Positional] = "",
    /,
    *,
    image_size: tuple[int, int] | None = None,
    json: bool = False,
) -> None:
    """List the models with their size and cost.

    Args:
        pattern: only names that contain this.
        image_size: height and width in pixels to count for; each model's own if it is not given.
        json: print JSON instead of a table.
    """
    from vitrail.models.catalogue import Entry, describe_model
    from vitrail.models.registry import list_models

    names = [name for name in list_models() if pattern.lower() in name]
    if not names:
        raise ModelError(f"models: no name contains {pattern!r}; `vitrail models` lists all")
    entries: list[Entry] = []
    impossible: list[ModelError] = []
    for name in track(names, "count", console=NOTE, transient=True, disable=not NOTE.is_terminal):
        try:
            entries.append(describe_model(name, image_size))
        except ModelError as error:
            impossible.append(error)
    if not entries:
        raise impossible[0]
    if impossible:
        NOTE.print(f"{len(impossible)} models cannot have this image size and are left out")
    if json:
        OUT.print_json(json_module.dumps([entry._asdict() for entry in entries]))
        return
    table = Table(caption="a multiply-add counts as two operations")
    for field in Entry._fields:
        left = field == "name"
        table.add_column(field.replace("_", " "), justify="left" if left else "right", no_wrap=True)
    for entry in entries:
        height, width = entry.image_size
        table.add_row(
            entry.name,
            f"{height}x{width}",
            f"{entry.parameters / 1e6:.1f} M",
            f"{entry.flops / 1e9:.1f} G",
            "-" if entry.tokens is None else str(entry.tokens),
        )
    OUT.print(table)


def demo(args: list[str]) -> None:
    """`vitrail demo`."""
    from vitrail.cli.demo import run_demo

    parse(run_demo, args, "demo")


def _image_files(paths: tuple[Path, ...]) -> list[Path]:
    """List the files, and the images in the folders, that were named."""
    from vitrail.data.folder import image_files

    files = [file for path in paths for file in image_files(path)]
    if not files:
        raise UsageError("name at least one image file or folder of images after the run")
    return files


def _require_all_readable(broken: int, images: int) -> None:
    """End with an error where some images could not be read; the others are done."""
    if broken:
        raise ImageError(f"{broken} of {images} images cannot be read; they are named above")


def _finished(path: Path) -> Path:
    """Refuse a run that has no final weights yet, with what to do."""
    if (path / "config.json").is_file() and not (path / "model.safetensors").is_file():
        raise RunError(
            f"{path}: its training is not finished; go on with: vitrail train --resume {path}"
        )
    return path
