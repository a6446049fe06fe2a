"""Made-up evaluations and reports for the tests."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from vitrail.evaluate.summary import Summary, summarise
from vitrail.report import Example, Figure, ReportContent
from vitrail.runs import Predictions

SVG = '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


def made_summary(classes: Sequence[str], images: int, keys: Sequence[str] = ("a.png",)) -> Summary:
    """Evaluate a model that is right about half of the time; keys are used in turn."""
    random = np.random.default_rng(0)
    labels = np.arange(images) % len(classes)
    logits = random.normal(size=(images, len(classes))).astype(np.float32) * 2
    logits[np.arange(images), labels] += 2
    predictions = Predictions(
        split="test",
        keys=tuple(keys[i % len(keys)] for i in range(images)),
        classes=tuple(classes),
        logits=torch.from_numpy(logits),
        labels=torch.from_numpy(labels),
        preprocess_hash="sha256:0123",
        unreadable=tuple((key, f"broken: {key}") for key in keys),
    )
    return summarise(predictions, bootstrap=20)


def made_history(steps: int = 40) -> list[dict[str, Any]]:
    """Give the lines of metrics.jsonl of a training that works."""
    lines: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        lines.append({"step": step, "epoch": step / 10, "train_loss": 3 / step, "lr": 1e-3 / step})
        if step % 10 == 0:
            lines.append({"step": step, "val_loss": 4 / step, "val_top1": 1 - 1 / step})
    return lines


def picture(height: int = 20, width: int = 32) -> np.ndarray:
    """Give a picture that is not square."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def made_report(
    classes: Sequence[str] = ("cat", "dog"),
    names: Sequence[str] = ("a.png",),
    images: int = 100,
    **changes: Any,
) -> ReportContent:
    """Fill every part of a report; `names` stand wherever a user's text can stand."""
    summary = made_summary(classes, images, names)
    examples = [
        Example(
            key=name,
            true=classes[i % len(classes)],
            predicted=name,
            probability=0.9,
            picture=picture(),
            overlays=[(name, picture(120, 200))],
            kind=kind,
        )
        for i, name in enumerate(names)
        for kind in ("wrong", "right")
    ]
    parts: dict[str, Any] = {
        "title": names[0],
        "summary": summary,
        "history": made_history(),
        "config": {name: {"nested": {name: [1, name, None]}} for name in names},
        "environment": {"python": "3.11", **{name: name for name in names}},
        "model_facts": {
            "parameters": 2_712_346,
            "image": (32, 48),
            **{name: name for name in names},
        },
        "examples": examples,
        "figures": [Figure(title=name, text=name, image=SVG) for name in names]
        + [Figure(title="heads", text="of one image", image=picture(200, 300))],
        "repeat_commands": [f"vitrail train --out {name}" for name in names],
        "seconds": 734.2,
    }
    return ReportContent(**(parts | changes))
