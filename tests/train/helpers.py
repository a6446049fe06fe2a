"""The smallest training that has every part: coloured pictures, a tiny model, a dozen steps."""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vitrail.data.augment import AugmentConfig
from vitrail.data.preprocess import Preprocess
from vitrail.models import Backbone
from vitrail.runs import Run
from vitrail.train.config import DataConfig, ModelConfig, RunConfig
from vitrail.train.learning import OptimConfig
from vitrail.weights.tensors import read_tensors

COLOURS = {"blue": (30, 60, 200), "green": (40, 180, 60), "red": (210, 50, 40)}
TINY = {"image_size": (16, 24), "patch_size": 8, "width": 32, "depth": 2, "heads": 2}
TIMES = ("images_per_second",)  # what two equal runs may differ in


def png(colour: Sequence[int], seed: int, size: tuple[int, int] = (20, 28)) -> bytes:
    """Paint a noisy picture, (height, width) in pixels."""
    noise = np.random.default_rng(seed).integers(-30, 31, (*size, 3))
    picture = Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def paint(root: Path, each: int = 12, classes: Sequence[str] = tuple(COLOURS)) -> Path:
    """Make a folder of so many pictures for each class."""
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(each):
            (root / name / f"{i}.png").write_bytes(png(COLOURS[name], 100 * number + i))
    return root


def paint_splits(root: Path, each: int = 4, splits: Sequence[str] = ("train", "val")) -> Path:
    """Make a folder with split folders."""
    for split in splits:
        paint(root / split, each)
    return root


def tiny_config(source: Path | str, **changes: Any) -> RunConfig:
    """Give settings with everything random turned on; `train__lr` changes a setting of a group."""
    config = RunConfig(
        data=DataConfig(source=str(source)),
        model=ModelConfig(name="vit_tiny_patch16_224", drop_path=0.3, **TINY),
        augment=AugmentConfig(flip=True, rotate=10, erase=0.5, mixup=0.4),
        train=OptimConfig(epochs=3, batch_size=8, lr=3e-3, warmup_epochs=1, ema=0.9),
        seed=3,
        device="cpu",
        precision="float32",
        log_every=1,
        eval_every_epochs=1.5,
        save_every_epochs=1,
    )
    for name, value in changes.items():
        group, _, field = name.rpartition("__")
        if group:
            name, value = group, getattr(config, group).replace(**{field: value})
        config = config.replace(**{name: value})
    return config


def curve(run: Run) -> list[dict[str, str]]:
    """Give the logged figures to the bit, without those that measure time."""
    return [
        {name: float(value).hex() for name, value in line.items() if name not in TIMES}
        for line in run.history()
    ]


def weights(run: Run) -> dict[str, torch.Tensor]:
    """Read the final weights."""
    return read_tensors(run.path / "model.safetensors")


def assert_same_run(run: Run, other: Run) -> None:
    """Compare two runs bit for bit."""
    assert curve(run) == curve(other)
    mine, theirs = weights(run), weights(other)
    assert mine.keys() == theirs.keys()
    assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []


def named(model: Backbone, classes: Sequence[str]) -> Backbone:
    """Make a model that can be saved."""
    config = model.config.model_dump()
    model.classes = tuple(classes)
    model.preprocess = Preprocess(size=config["image_size"])
    return model


def disk_is_full(*_: object) -> None:
    """Stand in for a call that writes."""
    raise OSError(28, os.strerror(28))
