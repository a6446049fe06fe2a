"""From settings and the classes of the training images to the loss."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrail.data.dataset import Data, LabelSets, Split
from vitrail.data.loading.sampling import SamplingConfig, find_chances
from vitrail.errors import ConfigError
from vitrail.objectives.losses import Kind, Loss
from vitrail.train.config import RunConfig
from vitrail.train.learning import LossConfig

BETA = 0.9999  # of Cui et al.: classes beyond some ten thousand images count about alike
Values = NDArray[np.float64]  # one for each class


def make_loss(config: RunConfig, data: Data) -> Loss:
    """Build the loss on the CPU.

    Class weights and logit adjustment follow from how often each class is drawn in an epoch: the
    images of the train split that have it, unless `data.sampling` draws some more often. A class
    that is never drawn is taken to be as frequent as the rarest of the others, so that nothing
    becomes infinite.

    Raises:
        ConfigError: the settings do not fit each other or the data.
    """
    kind = loss_kind(config.loss, data)
    loss, classes = config.loss, len(data.classes)
    smoothing, focal = config.train.label_smoothing, loss.focal
    if loss.class_weights == "none" and loss.logit_adjustment == 0:
        return Loss(classes, kind=kind, smoothing=smoothing, focal=focal)
    split = data.splits["train"]
    draws = class_draws(split, classes, config.data.sampling)
    if not draws.any():
        raise ConfigError(
            f"data={data.name}: no training image has a class, so loss.class_weights and "
            "loss.logit_adjustment have nothing to go by; leave them off"
        )
    if loss.logit_adjustment:
        shift = loss.logit_adjustment * log_prior(draws, len(split), kind)
        return Loss(classes, kind=kind, smoothing=smoothing, focal=focal, shift=_tensor(shift))
    weights = class_weights(draws, loss.class_weights)
    against = opposite_weights(weights, draws, len(split))
    return Loss(
        classes,
        kind=kind,
        smoothing=smoothing,
        focal=focal,
        weights=_tensor(weights),
        against=_tensor(against) if kind == "sigmoid" else None,
    )


def loss_kind(settings: LossConfig, data: Data) -> Kind:
    """Choose softmax or sigmoid. Raises ConfigError where the settings contradict each other."""
    if settings.class_weights != "none" and settings.logit_adjustment:
        raise ConfigError(
            f"loss.class_weights={settings.class_weights} and "
            f"loss.logit_adjustment={settings.logit_adjustment:g} each make up for uneven classes, "
            "together too much; leave one off"
        )
    if settings.kind == "softmax" and data.multi_label:
        raise ConfigError(
            f"loss.kind=softmax: the images of data={data.name} have any number of classes, and "
            "softmax allows one; use loss.kind=sigmoid or auto"
        )
    if settings.kind == "auto":
        return "sigmoid" if data.multi_label else "softmax"
    return settings.kind


def class_draws(split: Split, classes: int, sampling: SamplingConfig) -> Values:
    """Give how often each class is expected to be drawn in an epoch.

    An epoch has as many draws as the split has images; an image of several classes counts in each.
    """
    chances = find_chances(split, sampling)
    if chances is None:
        return split.counts(classes).astype(np.float64)
    each = chances.weights * (len(split) / chances.weights.sum())
    if not isinstance(split.labels, LabelSets):
        return np.bincount(split.labels, each, minlength=classes).astype(np.float64)
    owners = np.repeat(np.arange(len(split)), np.diff(split.labels.ends, prepend=0))
    return np.bincount(split.labels.values, each[owners], minlength=classes).astype(np.float64)


def class_weights(draws: Values, scheme: str) -> Values:
    """Weigh each class so that rare ones count more; the mean over all labels drawn is 1.

    Args:
        draws: how often each class is drawn; one of them at least.
        scheme: balanced: by the inverse of the draws; effective: of their effective number.
    Source: Cui et al. 2019, arXiv:1901.05555, section 3, with beta = 0.9999.
    """
    numbers = _like_the_rarest(draws)
    if scheme == "effective":
        numbers = -np.expm1(numbers * np.log(BETA)) / (1 - BETA)
    weights = 1 / numbers
    scaled: Values = weights * (draws.sum() / (draws * weights).sum())
    return scaled


def opposite_weights(weights: Values, draws: Values, images: int) -> Values:
    """Weigh not being of a class so that the mean over all images is 1 for each class.

    The yes and no of a class then count as they would if it were drawn `weights * draws` times
    among so many images. That is never more than there are: weighed or not, the commonest class has
    most draws, and its weight is 1 at most. A class that every image has keeps 1.
    """
    others = images - draws
    return np.divide(images - weights * draws, others, out=np.ones_like(draws), where=others >= 0.5)


def log_prior(draws: Values, images: int, kind: Kind) -> Values:
    """Give what the frequency of each class adds to its logit.

    For softmax the logarithm of its part of all draws; for sigmoid the logarithm of its odds, where
    a class that every image has counts as if half an image lacked it.
    """
    numbers = _like_the_rarest(draws)
    if kind == "softmax":
        prior: Values = np.log(numbers / numbers.sum())
        return prior
    numbers = np.minimum(numbers, images - 0.5)
    odds: Values = np.log(numbers / (images - numbers))
    return odds


def _like_the_rarest(draws: Values) -> Values:
    """Let a class that is never drawn count like the rarest that is."""
    return np.where(draws > 0, draws, draws[draws > 0].min())


def _tensor(values: Values) -> Tensor:
    """Make float32 of them."""
    return torch.from_numpy(values).float()
