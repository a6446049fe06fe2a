"""The one path from an image file to its labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from vitrail.data.preprocess import Preprocess
from vitrail.device import pick_device
from vitrail.errors import ImageError, WeightsError
from vitrail.weights.load import load_model

Pixels = UInt8[Tensor, "c h w"] | Float32[Tensor, "c h w"]  # as `Preprocess.load` gives them
ImageFile = str | Path | bytes  # a path, or the bytes of an image file


class Guess(NamedTuple):
    """One class and how sure the model is of it."""

    label: str
    probability: float  # in [0, 1]


class Predictor:
    """A trained model with its preprocessing and class names, ready for image files."""

    def __init__(self, path: str | Path, *, device: str = "auto") -> None:
        """Load a run directory, or weights of any known format, see `load_model`.

        Raises:
            WeightsError: it is not one, it is damaged, or it is a model without classes or without
                preprocessing.
        """
        self.device = pick_device(device)
        self.model = load_model(path, quiet=True).to(self.device)
        if not self.model.config.classes:
            raise WeightsError(f"{path}: a model without classes; it gives features, not labels")
        if not isinstance(self.model.preprocess, Preprocess):
            raise WeightsError(
                f"{path}: no preprocessing is known for {self.model.config.in_channels} channels"
            )
        self.preprocess = self.model.preprocess
        self.classes = self.model.classes

    def load(self, image: ImageFile, where: str | None = None) -> Pixels:
        """Decode an image file and bring it to the model's size. Raises ImageError."""
        if isinstance(image, bytes):
            return self.preprocess.load(image, where or "image")
        try:
            data = Path(image).read_bytes()
        except OSError as error:
            raise ImageError(f"{image}: {error.strerror or error}") from None
        return self.preprocess.load(data, where or str(image))

    def logits(self, pixels: Sequence[Pixels]) -> Float[Tensor, "b classes"]:
        """Classify what `load` gave."""
        with torch.no_grad():
            return self.model(self.inputs(pixels)).float().cpu()  # type: ignore[no-any-return]

    def inputs(self, pixels: Sequence[Pixels]) -> Float[Tensor, "b c h w"]:
        """Make the model's input of what `load` gave."""
        return self.preprocess.normalise(torch.stack(list(pixels)).to(self.device))

    def predict(self, images: Sequence[ImageFile], top_k: int = 5) -> list[list[Guess]]:
        """Give the `top_k` likeliest classes of each image, likeliest first.

        Args:
            images: paths, or the bytes of image files.
            top_k: at most as many as there are classes.
        Raises:
            ImageError: an image cannot be used.
        """
        if not images:
            return []
        return self.guesses(self.logits([self.load(image) for image in images]), top_k)

    def guesses(self, logits: Float[Tensor, "b classes"], top_k: int = 5) -> list[list[Guess]]:
        """Turn logits into the likeliest classes of each row."""
        scores = logits.sigmoid() if self.model.multi_label else logits.softmax(dim=-1)
        best = scores.topk(min(top_k, len(self.classes)))
        return [
            [Guess(self.classes[i], p) for p, i in zip(row.tolist(), index.tolist(), strict=True)]
            for row, index in zip(best.values, best.indices, strict=True)
        ]
