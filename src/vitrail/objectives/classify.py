"""Classification: softmax cross-entropy against soft targets, or sigmoid for several labels."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Integer
from numpy.typing import NDArray
from torch import Tensor, nn

from vitrail.data.augment import AugmentConfig, Draw, augment
from vitrail.data.augmentation.mixing import draw_mixing, mix_images, mix_targets
from vitrail.data.loader import Batch, Failure
from vitrail.data.preprocess import Preprocess
from vitrail.device import autocast
from vitrail.errors import DataError


class Classify(nn.Module):
    """Wraps a model with everything between a batch of images and the loss."""

    def __init__(
        self,
        model: nn.Module,
        preprocess: Preprocess,
        augmentation: AugmentConfig,
        *,
        classes: int,
        label_smoothing: float,
        seed: int,
        multi_label: bool = False,
    ) -> None:
        """`seed` keys the augmentation; `multi_label`: an image may have any number of labels."""
        super().__init__()
        self.model = model
        self.preprocess = preprocess
        self.augmentation = augmentation
        self.classes = classes
        self.label_smoothing = label_smoothing
        self.seed = seed
        self.multi_label = multi_label

    def forward(self, batch: Batch) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Give the mean loss of a batch, and further figures to log (none here)."""
        images, targets = self.prepare(batch)
        cross_entropy = sigmoid_cross_entropy if self.multi_label else soft_cross_entropy
        return cross_entropy(self.model(images), targets), {}

    def prepare(self, batch: Batch) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b classes"]]:
        """Augment, normalise and mix images; smooth and mix targets."""
        device = next(self.model.parameters()).device
        draw = Draw(self.seed, batch.epochs, batch.samples)
        images = augment(batch.images.to(device), draw, self.augmentation)
        images = self.preprocess.normalise(images)
        labels = batch.labels.to(device)
        if self.multi_label:
            targets = smooth_labels(labels, self.label_smoothing)
        else:
            targets = smooth_targets(labels, self.classes, self.label_smoothing)
        mixing = draw_mixing(draw, self.augmentation, (images.shape[2], images.shape[3]))
        if mixing is not None:
            images, targets = mix_images(images, mixing), mix_targets(targets, mixing)
        return images, targets


def smooth_targets(
    labels: Int64[Tensor, " b"], classes: int, smoothing: float
) -> Float[Tensor, "b classes"]:
    """Give each label 1 - smoothing, and spread the rest over all classes evenly.

    Source: Szegedy et al. 2016, arXiv:1512.00567, section 7.
    """
    hot = F.one_hot(labels, classes).float()
    return hot * (1 - smoothing) + smoothing / classes


def smooth_labels(
    labels: Integer[Tensor, "b classes"], smoothing: float
) -> Float[Tensor, "b classes"]:
    """Draw the answers 0 and 1 of each class towards a half: to s / 2 and 1 - s / 2."""
    return labels.float() * (1 - smoothing) + smoothing / 2


def soft_cross_entropy(
    logits: Float[Tensor, "b classes"], targets: Float[Tensor, "b classes"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy against target probabilities, in float32 whatever the logits are."""
    return -(targets * logits.float().log_softmax(dim=-1)).sum(dim=-1).mean()


def sigmoid_cross_entropy(
    logits: Float[Tensor, "b classes"], targets: Float[Tensor, "b classes"]
) -> Float[Tensor, ""]:
    """Mean over images and classes of the cross-entropy of each yes or no, in float32."""
    return F.binary_cross_entropy_with_logits(logits.float(), targets)


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
) -> Outputs:
    """Run a model over batches without augmentation; its training mode is left as it was.

    Args:
        tell: called after each batch with its number of images.
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
            if not len(batch.labels):
                continue
            with autocast(device, precision):
                answer = model(preprocess.normalise(batch.images.to(device)))
            logits.append(answer.float().cpu())
            labels.append(batch.labels)
            samples.append(batch.samples)
    finally:
        model.train(was_training)
    if not logits:
        raise DataError(f"no readable image among {len(failures)}; the first: {failures[0][1]}")
    return Outputs(torch.cat(logits), torch.cat(labels), np.concatenate(samples), tuple(failures))
