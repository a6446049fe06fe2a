"""Measuring a model on the val split while it trains; the same figures on any number of ranks."""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from torch import nn

from vitrail.data.loader import Batch, ordered_batches, require_each_once
from vitrail.errors import DataError, DivergedError
from vitrail.metrics import mean_average_precision, outcomes, top_k_accuracy
from vitrail.objectives.losses import sigmoid_cross_entropy, smooth_targets, soft_cross_entropy
from vitrail.objectives.outputs import collect_logits
from vitrail.train.setup import Setup
from vitrail.train.team import Team


def validate(
    setup: Setup, model: nn.Module, team: Team, done: int, limit: int | None = None
) -> dict[str, float]:
    """Measure a model after `done` steps on the val split, or on its first batches.

    Each rank measures a part of the images; all get the figures of the whole.
    """
    config, split = setup.config, setup.val_images.split
    batches = ordered_batches(
        setup.val_images,
        batch_size=max(1, 2 * config.train.batch_size // config.train.accumulate // team.ranks),
        workers=config.data.workers,
        rank=team.rank,
        ranks=team.ranks,
    )
    seen = _marking(itertools.islice(batches, limit), team, done)
    outputs = collect_logits(
        model, setup.preprocess, seen, config.precision, may_be_empty=team.ranks > 1
    )
    logits, labels = team.gather_rows(outputs.logits), team.gather_rows(outputs.labels)
    if not len(labels):
        raise DataError(f"no image of the val split can be read; {len(outputs.failures)} here")
    if limit is None and team.ranks > 1:
        samples = [np.array(part, np.int64) for part in team.gather(outputs.samples.tolist())]
        require_each_once(split, samples, team.gather(outputs.failures))
    if setup.data.multi_label:
        loss = sigmoid_cross_entropy(logits, labels.float())
        score = mean_average_precision(logits.numpy(), labels.numpy())
        figures = {} if score is None else {"val_map": score}
    else:
        loss = soft_cross_entropy(logits, smooth_targets(labels, len(setup.data.classes), 0.0))
        figures = {"val_top1": top_k_accuracy(outcomes(logits.numpy(), labels.numpy()), 1)}
    return {
        "val_loss": require_finite(loss.item(), done),
        **figures,
        "val_images": len(labels),
    }


def score_of(figures: Mapping[str, float | int]) -> float | None:
    """Give what says how good a model is, if it was measured."""
    return figures.get("val_top1", figures.get("val_map"))


def progress_line(setup: Setup, done: int, figures: Mapping[str, float]) -> str:
    """Say in one line how good the model is after `done` steps."""
    epoch = f"epoch {setup.epoch_of(done):.1f}"
    name, score = ("mAP" if setup.data.multi_label else "top-1"), score_of(figures)
    text = f"val {name} {score:.1%}, " if score is not None else ""
    return f"{epoch}: {text}val loss {figures['val_loss']:.3f}"


def require_finite(value: float, step: int) -> float:
    """Give the value back.

    Raises:
        DivergedError: it is infinite or not a number.
    """
    if not math.isfinite(value):
        raise DivergedError(
            f"step {step}: loss or gradient is {value}; "
            f"lower train.lr or lengthen train.warmup_epochs"
        )
    return value


def _marking(batches: Iterable[Batch], team: Team, done: int) -> Iterator[Batch]:
    """Let the other ranks see that this one moves."""
    for batch in batches:
        team.pulse.mark(done, "measuring")
        yield batch
