"""From a run directory to its report: measure, pick examples, look at their attention."""

import shlex
from pathlib import Path

import torch

from vitrail.data.dataset import Data
from vitrail.data.preprocess import Preprocess
from vitrail.evaluate.measure import require_split
from vitrail.evaluate.summary import Sample, Summary
from vitrail.explain import explain, position_similarity
from vitrail.explain.attention import has_readout
from vitrail.explain.heads import attention_panel
from vitrail.explain.panels import panel
from vitrail.explain.render import overlay, to_picture
from vitrail.models import Backbone, count_flops
from vitrail.models.vit import ViT
from vitrail.report.content import Example, Figure, ReportContent
from vitrail.report.html import write_report
from vitrail.runs import Run

WRONG, RIGHT = 12, 8  # examples shown
MOST_POSITIONS = 16  # rows or columns of patches whose position maps still fit on a page


def build_report(
    run: Run, model: Backbone, data: Data, summary: Summary, *, split: str | None = None
) -> Path:
    """Write RUN/reports/report.html, or report-NAME.html for other data than the run's.

    Args:
        split: the split of `data` that was measured; the one that the summary names if None.
    Raises:
        StorageError: it cannot be written.
    """
    part = require_split(data, split or summary.split)
    keys = run.read_predictions(summary.split).keys  # sample.key is a form of it that can be shown
    place = {key: i for i, key in enumerate(part.keys)}
    preprocess = model.preprocess
    assert isinstance(preprocess, Preprocess)  # every loaded model has one

    def pixels(sample: Sample) -> torch.Tensor:
        return preprocess.load(part.read(place[keys[sample.index]]), sample.key)

    chosen = summary.worst[:WRONG] + summary.right[:RIGHT]
    examples = [_example(model, each, pixels(each)) for each in chosen]
    shown = (summary.right or summary.worst)[0]
    finished = run.path / "finished.json"
    other = "" if split in (None, summary.split) else f"-{summary.split}"
    path = run.path / "reports" / f"report{other}.html"
    write_report(
        path,
        ReportContent(
            title=run.path.resolve().name,
            summary=summary,
            history=run.history(),
            config=run.read_json("config.json"),
            environment=run.read_json("environment.json"),
            model_facts=describe_model(model),
            examples=examples,
            figures=[*_heads(model, shown, pixels(shown)), *_positions(model)],
            repeat_commands=repeat_commands(run),
            seconds=run.read_json("finished.json")["seconds"] if finished.exists() else None,
        ),
    )
    return path


def describe_model(model: Backbone) -> dict[str, object]:
    """Give the facts about a model that people ask for first."""
    config = model.config.model_dump()
    height, width = model.config.image_size
    facts: dict[str, object] = {
        "name": model.name,
        "parameters": model.count_parameters(),
        "FLOPs an image": count_flops(model, (height, width), model.config.in_channels),
        "tokens": model.config.tokens,
        "image size": f"{height}×{width}",
    }
    sizes = ("patch_size", "window_size", "width", "depth", "depths", "heads")
    facts |= {name.replace("_", " "): config[name] for name in sizes if name in config}
    return {name: fact for name, fact in facts.items() if fact is not None}


def repeat_commands(run: Run) -> list[str]:
    """Say how to make this run again: its config.json holds every setting."""
    return [
        f"vitrail train --config {shlex.quote(str(run.path / 'config.json'))} --out NEW_RUN",
        "vitrail evaluate NEW_RUN",
    ]


def _example(model: Backbone, sample: Sample, pixels: torch.Tensor) -> Example:
    picture = to_picture(pixels)
    heats = {}
    if has_readout(model):
        heats = {
            "rollout": explain(model, _input(model, pixels), method="rollout"),
            "last layer": explain(model, _input(model, pixels), method="attention"),
        }
    return Example(
        key=sample.key,
        true=model.classes[sample.true],
        predicted=model.classes[sample.predicted],
        probability=sample.probability,
        picture=picture,
        overlays=[(name, overlay(picture, heat[0].cpu().numpy())) for name, heat in heats.items()],
        kind="right" if sample.predicted == sample.true else "wrong",
    )


def _heads(model: Backbone, sample: Sample, pixels: torch.Tensor) -> list[Figure]:
    """Show where the class token looks, for every layer and head, if the model has attention."""
    if not has_readout(model):
        return []
    image = attention_panel(model, _input(model, pixels), to_picture(pixels))
    name = model.classes[sample.true]
    text = (
        f"What the class token takes from each patch of one image ({sample.key}, class {name}): "
        "the brighter, the more; each small picture has its own scale."
    )
    return [Figure(title="Attention, layer by layer and head by head", text=text, image=image)]


def _positions(model: Backbone) -> list[Figure]:
    """Show how alike the position embeddings are (Dosovitskiy et al. 2021, Figure 7, centre)."""
    if not isinstance(model, ViT) or model.pos_embed is None:
        return []
    maps = position_similarity(model).float().cpu().numpy()
    rows, columns = maps.shape[:2]
    if max(rows, columns) > MOST_POSITIONS:
        return []
    image = panel(
        maps, [f"row {i + 1}" for i in range(rows)], [f"column {i + 1}" for i in range(columns)]
    )
    text = (
        "Each small map belongs to the patch at its place: how alike its position embedding is to "
        "that of every patch (cosine; brightest: itself). Bright rows, columns or neighbourhoods "
        "mean that the model has learned where patches lie."
    )
    return [Figure(title="Position embeddings", text=text, image=image)]


def _input(model: Backbone, pixels: torch.Tensor) -> torch.Tensor:
    preprocess = model.preprocess
    assert isinstance(preprocess, Preprocess)
    device = next(model.parameters()).device
    return preprocess.normalise(pixels[None].to(device))
