"""The logits that a model gives for a whole split."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor, nn

from vitrail.data.loader import Batch, Failure
from vitrail.data.loading.images import pixel_type
from vitrail.data.preprocess import Preprocess
from vitrail.device import autocast
from vitrail.errors import DataError


class Outputs(NamedTuple):
    """What a model says of a whole split, in its order. n readable images."""

    logits: Float[Tensor, "n classes"]  # float32, on the CPU
    labels: Int64[Tensor, " n"] | Int64[Tensor, "n classes"]  # 0 or 1 where there may be several
    samples: NDArray[np.int64]  # n indexes into the split
    failures: tuple[Failure, ...]


@torch.no_grad()
def collect_logits(
    model: nn.Module,
    preprocess: Preprocess,
    batches: Iterable[Batch],
    precision: str = "float32",
    tell: Callable[[int], None] = lambda images: None,
    *,
    may_be_empty: bool = False,
) -> Outputs:
    """Run a model over batches without augmentation; its training mode is left as it was.

    The model also runs for a batch without images: its ranks may compute it together.

    Args:
        tell: called after each batch with its number of images.
        may_be_empty: other ranks have images too, so that none here is no mistake.
    Raises:
        DataError: not one image can be decoded.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    logits, labels, samples = [], [], []
    failures: list[Failure] = []
    try:
        for batch in batches:
            failures += batch.failures
            tell(len(batch.labels) + len(batch.failures))
            count = len(batch.labels)
            images = batch.images if count else _blank(preprocess)  # other ranks may wait for us
            with autocast(device, precision):
                answer = model(preprocess.normalise(images.to(device)))
            logits.append(answer[:count].float().cpu())
            labels.append(batch.labels)
            samples.append(batch.samples)
    finally:
        model.train(was_training)
    if failures and not may_be_empty and not any(map(len, samples)):
        raise DataError(f"no readable image among {len(failures)}; the first: {failures[0][1]}")
    return Outputs(torch.cat(logits), torch.cat(labels), np.concatenate(samples), tuple(failures))


def _blank(preprocess: Preprocess) -> Tensor:
    """Make an image of zeros, as a decoder would give it."""
    shape = (1, preprocess.channels, *preprocess.size)
    return torch.from_numpy(np.zeros(shape, pixel_type(preprocess)))
