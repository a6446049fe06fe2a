"""The smallest classifier, and batches that follow from indexes."""

import numpy as np
import torch
from torch import Tensor, nn

from vitrail.data.loader import Batch
from vitrail.data.preprocess import Preprocess

CLASSES = 5
PREPROCESS = Preprocess(size=(6, 10))


class Linear(nn.Module):
    """The smallest classifier; notes the mode and the images of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 6 * 10, CLASSES)
        with torch.no_grad():
            generator = torch.Generator().manual_seed(0)
            self.head.weight.copy_(torch.randn(self.head.weight.shape, generator=generator) / 10)
        self.modes: list[bool] = []

    def forward(self, images: Tensor) -> Tensor:
        self.modes.append(self.training)
        return self.head(images.flatten(1))


def batch(*samples: int, failures: tuple[tuple[str, str], ...] = (), epoch: int = 0) -> Batch:
    """Images, labels and places that follow from the indexes."""
    shape = (3, 6, 10)
    images = [
        torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(i), dtype=torch.uint8)
        for i in samples
    ]
    return Batch(
        torch.stack(images) if images else torch.empty(0, *shape, dtype=torch.uint8),
        torch.tensor([i % CLASSES for i in samples], dtype=torch.int64),
        np.array(samples, dtype=np.int64),
        np.full(len(samples), epoch, dtype=np.int64),
        failures,
    )
