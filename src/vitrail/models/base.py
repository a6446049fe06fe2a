"""What every backbone shares: its answer types, and the record of what happened inside."""

from collections.abc import Collection
from typing import Annotated, NamedTuple

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from vitrail.config import Config
from vitrail.errors import ModelError, did_you_mean
from vitrail.models.loaded import LoadReport
from vitrail.models.resample import inflate_channels

# Far above every model there is: a size beyond it is a mistake, and is refused before it is built.
Positive = Annotated[int, Field(ge=1, le=65_536)]
Depth = Annotated[int, Field(ge=1, le=1_000)]
MOST_CLASSES = 10_000_000
Count = Annotated[int, Field(ge=0, le=MOST_CLASSES)]
Rate = Annotated[float, Field(ge=0, lt=1)]


class BackboneConfig(Config):
    """The sizes that every architecture has. Each adds a `kind` and its own."""

    image_size: tuple[Positive, Positive] = (224, 224)
    """Height and width in pixels."""
    in_channels: Positive = 3
    """Channels of an image: 3 for colour, 1 for grey."""
    classes: Count = 1000
    """Number of classes; 0: no head, the model answers with its pooled features."""
    drop_path: Rate = 0.0
    """Chance to leave out a residual branch of the last block; linear from 0 at the first."""

    @property
    def tokens(self) -> int | None:
        """Tokens that attention relates to each other, for an image of this size, or None."""
        return None


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
        multi_label: whether an image may have several classes, or none; each logit is then the
            log-odds of its class (sigmoid), else they are compared with each other (softmax).
        preprocess: how an image file becomes the input, once trained; None before.
        loaded: what happened to each tensor, where the weights came from a file.
        stem_weight: the name of the kernel that reads the channels of the image.
        head_names: the names of the tensors that the classes decide.
    """

    config: BackboneConfig
    name: str = ""
    classes: tuple[str, ...] = ()
    multi_label: bool = False
    preprocess: Config | None = None
    loaded: LoadReport | None = None
    stem_weight: str = "patch_embed.proj.weight"
    head_names: tuple[str, ...] = ("head.weight", "head.bias")

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        """Classify: images, already normalised, to logits."""
        return self.run(images, None)

    def features(self, images: Float[Tensor, "b c h w"]) -> Features:
        """Give what the head would classify, and the token of every patch."""
        raise NotImplementedError

    def classify(self, pooled: Float[Tensor, "b d"]) -> Float[Tensor, "b classes"]:
        """Give the logits of pooled features; the features themselves where there is no head."""
        raise NotImplementedError

    def answer(
        self, pooled: Float[Tensor, "b d"], record: Record | None
    ) -> Float[Tensor, "b classes"]:
        """Classify pooled features, and tell `record` of both: the end of every `run`."""
        logits = self.classify(pooled)
        if record is not None:
            record("pooled", pooled)
            record("logits", logits)
        return logits

    def run(
        self, images: Float[Tensor, "b c h w"], record: Record | None
    ) -> Float[Tensor, "b classes"]:
        """Classify, and tell `record` of every intermediate on the way."""
        raise NotImplementedError

    def fit(self, name: str, tensor: Tensor, source: BackboneConfig) -> Tensor:
        """Bring a tensor of a model of other sizes, `source`, to the shape that it has here.

        Here the stem is brought to another number of channels; architectures add what depends on
        the size of images and patches. What cannot be brought comes back as it was.
        """
        if name == self.stem_weight:
            return inflate_channels(tensor, self.config.in_channels)
        return tensor

    def check_images(self, images: Tensor) -> None:
        """Refuse what is not a batch of images with the model's number of channels.

        Raises:
            ModelError: the images are no batch or have another number of channels.
        """
        if images.ndim != 4:
            raise ModelError(
                f"images have the shape {tuple(images.shape)}; a model takes a batch, "
                "[images, channels, height, width]"
            )
        if images.shape[1] != self.config.in_channels:
            raise ModelError(
                f"images have {images.shape[1]} channels; "
                f"this model takes {self.config.in_channels}"
            )

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
