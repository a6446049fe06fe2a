"""The model that a training begins with."""

import torch

from vitrail.data.dataset import Data
from vitrail.models import ALIASES, Backbone, build_model
from vitrail.train.config import RunConfig


def start_model(config: RunConfig, data: Data) -> Backbone:
    """Build the model on the CPU, with random weights that depend on the seed alone.

    Raises:
        ModelError: the settings do not fit each other or the data.
    """
    sizes = config.model.resolve(len(data.classes), config.input.channels)
    torch.manual_seed(config.seed)
    model = build_model(sizes)
    model.name = ALIASES.get(config.model.name, config.model.name)
    model.classes = data.classes
    model.multi_label = data.multi_label
    model.preprocess = config.input.preprocess(model.config.image_size)
    return model
