"""What the convolutional networks share: a stem, blocks in stages, the mean of the last map."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.models.base import Backbone, Features, Record


class ConvolutionalBackbone(Backbone):
    """Base of the networks that are a stem, blocks and a linear head.

    They take images of any size. Their tokens are the places of the last map.
    """

    def stem_map(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d rows columns"]:
        """Give the map that the first block reads."""
        raise NotImplementedError

    def named_blocks(self) -> list[tuple[str, nn.Module]]:
        """List the blocks in the order in which they are computed; each makes a map of a map."""
        raise NotImplementedError

    def last_map(
        self, images: Float[Tensor, "b c h w"], record: Record | None
    ) -> Float[Tensor, "b d rows columns"]:
        """Compute the map that is pooled.

        Raises:
            ModelError: the images are no batch or have another number of channels.
        """
        self.check_images(images)
        x = self.stem_map(images)
        if record is not None:
            record("stem", x)
        for name, block in self.named_blocks():
            x = block(x)
            if record is not None:
                record(f"{name}.output", x)
        return x

    def features(self, images: Float[Tensor, "b c h w"]) -> Features:
        """Give what the head classifies, and the last map, place by place."""
        x = self.last_map(images, None)
        tokens = x.flatten(2).transpose(1, 2)  # b n d
        return Features(self.pool(x), tokens, (x.shape[2], x.shape[3]))

    def pool(self, x: Float[Tensor, "b d rows columns"]) -> Float[Tensor, "b d"]:
        """Give the mean over all places."""
        return x.mean(dim=(2, 3))

    def run(
        self, images: Float[Tensor, "b c h w"], record: Record | None
    ) -> Float[Tensor, "b classes"]:
        """Classify; `record` sees every intermediate."""
        return self.answer(self.pool(self.last_map(images, record)), record)

    def intermediate_names(self) -> tuple[str, ...]:
        """List the names in the order in which they are computed."""
        blocks = [f"{name}.output" for name, _ in self.named_blocks()]
        return ("stem", *blocks, "pooled", "logits")


def stage_rates(drop_path: float, depths: tuple[int, ...]) -> list[list[float]]:
    """Give every block of every stage its chance to be left out: linear from 0 to `drop_path`."""
    rates = torch.linspace(0, drop_path, sum(depths), device="cpu")
    return [stage.tolist() for stage in torch.split(rates, list(depths))]
