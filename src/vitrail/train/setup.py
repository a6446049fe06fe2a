"""From settings to everything that the loop needs."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from vitrail.data.augment import AugmentConfig
from vitrail.data.dataset import Data
from vitrail.data.loader import (
    Batch,
    FileImages,
    Images,
    open_images,
    ordered_batches,
    train_batches,
)
from vitrail.data.loading.order import part_size
from vitrail.data.loading.sampling import find_chances
from vitrail.data.preprocess import Preprocess
from vitrail.data.statistics import channel_statistics
from vitrail.device import pick_precision
from vitrail.models import Backbone
from vitrail.objectives.classify import Classify
from vitrail.train.config import InputConfig, RunConfig, checked
from vitrail.train.losses import make_loss
from vitrail.train.optim import freeze
from vitrail.train.starting import start_model
from vitrail.train.team import Team


@dataclass(frozen=True)
class Setup:
    """A run that is ready to start. `objective` wraps `model`; both are on the device."""

    config: RunConfig  # with device, precision and flips resolved
    data: Data
    model: Backbone
    objective: Classify
    train_images: Images
    val_images: Images

    @property
    def preprocess(self) -> Preprocess:
        """The contract that the model will keep."""
        return self.train_images.preprocess

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.steps_of(self.config.train.epochs)

    @property
    def ramps(self) -> tuple[int, int]:
        """Steps of the warm-up and of the cool-down."""
        train = self.config.train
        warmup, cooldown = (
            self.steps_of(epochs) if epochs else 0
            for epochs in (train.warmup_epochs, train.cooldown_epochs)
        )
        return warmup, cooldown

    @property
    def eval_every(self) -> int:
        """Steps between two measurements on the val split."""
        return self.steps_of(self.config.eval_every_epochs)

    @property
    def save_every(self) -> int:
        """Steps between two checkpoints."""
        return self.steps_of(self.config.save_every_epochs)

    def batches(self, steps: range, team: Team, tell: Callable[[str], None]) -> Iterator[Batch]:
        """Give this rank's part of the batches of these steps."""
        return train_batches(
            self.train_images,
            seed=self.config.seed,
            batch_size=self.config.train.batch_size,
            steps=steps,
            workers=self.config.data.workers,
            sampling=self.config.data.sampling,
            rank=team.rank,
            ranks=team.ranks,
            tell=tell,
        )

    def steps_of(self, epochs: float) -> int:
        """How many steps so many passes take, at least one."""
        samples = epochs * len(self.train_images.split)
        return max(1, math.ceil(samples / self.config.train.batch_size))

    def epoch_of(self, step: int) -> float:
        """How many passes are done after so many steps."""
        return step * self.config.train.batch_size / len(self.train_images.split)


def set_up(config: RunConfig, data: Data, team: Team, begun: Backbone | None = None) -> Setup:
    """Build the model on this rank's device and open the images.

    Raises:
        ConfigError, ModelError: the settings do not fit each other, the data or this machine.
        DataError: no image can be read.
    """
    device = team.device
    config = checked(
        config,
        device=str(device) if team.ranks == 1 else device.type,
        precision=pick_precision(config.precision, device),
        augment=allowed(config.augment, data),
    )
    if config.input.normalise == "data":
        config = checked(config, input=_measured(config, data))
    part_size(
        config.train.batch_size,
        team.ranks,
        repeats=config.data.sampling.repeats,
        pairs=bool(config.augment.mixup or config.augment.cutmix),
    )
    find_chances(data.splits["train"], config.data.sampling)
    model = start_model(config, data) if begun is None else begun
    freeze(model, config.train)
    preprocess = model.preprocess
    assert isinstance(preprocess, Preprocess)
    augmentation = config.augment
    objective = Classify(
        model.to(device),
        preprocess,
        augmentation,
        loss=make_loss(config, data).to(device),
        seed=config.seed,
    )
    train, val = data.splits["train"], data.splits["val"]
    workers, cache = config.data.workers, config.data.cache
    return Setup(
        config=config,
        data=data,
        model=model,
        objective=objective,
        train_images=open_images(train, preprocess, augmentation, workers, cache),
        val_images=open_images(
            val, preprocess, augmentation.replace(crop_area=None), workers, cache
        ),
    )


def allowed(augment: AugmentConfig, data: Data) -> AugmentConfig:
    """Turn mirroring off where it would make another class, as of letters."""
    return augment if data.flips_safe else augment.replace(flip=False, flip_vertical=False)


def _measured(config: RunConfig, data: Data) -> InputConfig:
    """Take mean and standard deviation of the training images, as the model would see them.

    Raises:
        ConfigError: a channel does not vary.
        DataError: no image can be read.
    """
    size = config.model.image_size
    if size is None:
        size = config.model.resolve(len(data.classes), config.input.channels).image_size
    plain = config.input.replace(normalise="given").preprocess(size)
    images = FileImages(data.splits["train"], plain)
    batches = ordered_batches(images, batch_size=64, workers=config.data.workers)
    total = len(images.split)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("measure the training images", total=total)

        def pixels() -> Iterator[Tensor]:
            for batch in batches:
                progress.advance(task, len(batch.labels) + len(batch.failures))
                yield from batch.images

        found = channel_statistics(pixels())
    return config.input.with_statistics(found.mean, found.std)
