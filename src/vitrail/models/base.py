"""What every backbone shares: its answer types, and the record of what happened inside."""

from collections.abc import Collection
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.config import Config
from vitrail.errors import ModelError, did_you_mean


class Features(NamedTuple):
    """What a backbone sees before the head. b images, n patches, d width."""

    pooled: Float[Tensor, "b d"]  # what the head classifies
    tokens: Float[Tensor, "b n d"]  # one for each patch, row by row
    grid: tuple[int, int]  # (rows, columns) of patches; rows * columns = n


class Record(dict[str, Tensor]):
    """Keeps intermediate tensors by name while a model computes.

    A model passes its record down and its parts call it with what they have. Only the wanted names
    are kept, so that looking at one layer does not hold the memory of all.
    """

    def __init__(self, wanted: Collection[str] | None = None) -> None:
        """Keep the `wanted` names, or all."""
        super().__init__()
        self.wanted = None if wanted is None else frozenset(wanted)

    def __call__(self, name: str, tensor: Tensor) -> None:
        """Take note of `tensor` if it is wanted."""
        if self.wanted is None or name in self.wanted:
            self[name] = tensor


class Backbone(nn.Module):
    """Base of every model: images in, logits out, and a look at everything between.

    Attributes:
        config: the sizes that rebuild this model.
        name: the name it was created by, such as `vit_base_patch16_224`.
        classes: class names in the order of the logits; empty where nobody has named them.
        preprocess: how an image file becomes the input, once trained; None before.
    """

    config: Config
    name: str = ""
    classes: tuple[str, ...] = ()
    preprocess: Config | None = None

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        """Classify: images, already normalised, to logits."""
        return self.run(images, None)

    def features(self, images: Float[Tensor, "b c h w"]) -> Features:
        """Give what the head would classify, and the token of every patch."""
        raise NotImplementedError

    def run(
        self, images: Float[Tensor, "b c h w"], record: Record | None
    ) -> Float[Tensor, "b classes"]:
        """Classify, and tell `record` of every intermediate on the way."""
        raise NotImplementedError

    def intermediate_names(self) -> tuple[str, ...]:
        """List every name that `intermediates` knows."""
        raise NotImplementedError

    def initialise(self) -> None:
        """Draw every parameter anew from the global generator."""
        raise NotImplementedError

    def intermediates(
        self, images: Float[Tensor, "b c h w"], names: Collection[str] | None = None
    ) -> dict[str, Tensor]:
        """Run the model as it always runs and give the intermediates called `names`, or all.

        No hooks: the parts of the model hand out what they have. The logits are the same to the
        bit.

        Raises:
            ModelError: a name is unknown.
        """
        known = self.intermediate_names()
        for name in names or ():
            if name not in known:
                raise ModelError(
                    f"intermediates: {name!r} is not one of the {len(known)} names of this model"
                    f"{did_you_mean(name, known)}"
                )
        record = Record(names)
        self.run(images, record)
        return dict(record)

    def count_parameters(self) -> int:
        """Count the numbers that training changes."""
        return sum(parameter.numel() for parameter in self.parameters())


def count_flops(model: Backbone, image_size: tuple[int, int], in_channels: int) -> int:
    """Count the floating point operations of one image's forward pass; a multiply-add is two.

    Counts matrix products and convolutions, as the papers do (they count a multiply-add as one).
    Nothing is computed: the count is taken on the `meta` device, where PyTorch's counter sees every
    product; on the CPU it overlooks fused attention (torch 2.13).
    """
    from torch.utils.flop_counter import FlopCounterMode

    tensors = [*model.named_parameters(), *model.named_buffers()]
    shapes = {name: tensor.to("meta") for name, tensor in tensors}
    dtype = next(model.parameters()).dtype
    images = torch.empty(1, in_channels, *image_size, device="meta", dtype=dtype)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        torch.func.functional_call(model, shapes, images)
    return int(counter.get_total_flops())
