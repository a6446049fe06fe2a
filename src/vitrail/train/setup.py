"""From settings to everything that the loop needs."""

import math
from dataclasses import dataclass

import torch

from vitrail.data.dataset import Data
from vitrail.data.loader import Images, open_images
from vitrail.data.preprocess import Preprocess
from vitrail.device import pick_device, pick_precision
from vitrail.models import ALIASES, Backbone, build_model
from vitrail.objectives.classify import Classify
from vitrail.train.config import RunConfig, checked


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

    def steps_of(self, epochs: float) -> int:
        """How many steps so many passes take, at least one."""
        samples = epochs * len(self.train_images.split)
        return max(1, math.ceil(samples / self.config.train.batch_size))

    def epoch_of(self, step: int) -> float:
        """How many passes are done after so many steps."""
        return step * self.config.train.batch_size / len(self.train_images.split)


def set_up(config: RunConfig, data: Data) -> Setup:
    """Build the model and open the images.

    Raises:
        ConfigError, ModelError: the settings do not fit each other or this machine.
        DataError: no image can be read.
    """
    device = pick_device(config.device)
    config = checked(
        config,
        device=str(device),
        precision=pick_precision(config.precision, device),
        augment=config.augment.replace(flip=config.augment.flip and data.flips_safe),
    )
    sizes = config.model.resolve(len(data.classes), config.input.channels)
    torch.manual_seed(config.seed)
    model = build_model(sizes)
    model.name = ALIASES.get(config.model.name, config.model.name)
    model.classes = data.classes
    preprocess = config.input.preprocess(model.config.image_size)
    model.preprocess = preprocess
    augmentation = config.augment
    objective = Classify(
        model.to(device),
        preprocess,
        augmentation,
        classes=len(data.classes),
        label_smoothing=config.train.label_smoothing,
        seed=config.seed,
    )
    workers = config.data.workers
    return Setup(
        config=config,
        data=data,
        model=model,
        objective=objective,
        train_images=open_images(data.splits["train"], preprocess, augmentation, workers),
        val_images=open_images(
            data.splits["val"], preprocess, augmentation.replace(crop_area=None), workers
        ),
    )
