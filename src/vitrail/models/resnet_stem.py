"""The residual network before a hybrid ViT: group norms behind standardised convolutions.

Source: Dosovitskiy et al. 2021, arXiv:2010.11929, section 4.1 ("ResNet (BiT)"), as Google's code
has it: unlike in BiT itself, the norms come after the convolutions, and all padding is
TensorFlow's. Parameters are called as in timm.
"""

import torch.nn.functional as F
from jaxtyping import Float
from pydantic import model_validator
from torch import Tensor, nn

from vitrail.config import Config
from vitrail.models.base import Depth, Positive
from vitrail.models.standardised import StandardisedConv2d, pad_same

EXPANSION = 4  # a stage is so many times as wide outside its blocks as inside


class StemConfig(Config):
    """The sizes of a residual stem. The defaults are those of R50+B/16."""

    depths: tuple[Depth, ...] = (3, 4, 9)
    """Blocks of each stage; every stage after the first halves the map. Empty: the root alone."""
    width: Positive = 64
    """Channels of the root and inside the blocks of the first stage; each further stage has twice
    as many."""
    groups: Positive = 32
    """Groups of channels that are normalised together; divides width."""

    @model_validator(mode="after")
    def _check(self) -> "StemConfig":
        if self.width % self.groups:
            raise ValueError(f"width={self.width} must be a multiple of groups={self.groups}")
        return self

    @property
    def stride(self) -> int:
        """Pixels from a place of the map to its neighbour."""
        return 4 * int(2 ** max(0, len(self.depths) - 1))

    @property
    def channels(self) -> int:
        """Channels of the map."""
        if not self.depths:
            return self.width
        return self.width * EXPANSION * int(2 ** (len(self.depths) - 1))


class StemRoot(nn.Module):
    """A 7x7 convolution, norm, ReLU and max pooling, to a quarter of each side."""

    def __init__(self, in_channels: int, width: int, groups: int) -> None:
        """From the channels of the images to `width`."""
        super().__init__()
        self.conv = StandardisedConv2d(in_channels, width, 7, 2, same=True)
        self.norm = nn.GroupNorm(groups, width)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d rows columns"]:
        """Give the map that the first block reads."""
        x = F.relu(self.norm(self.conv(images)))
        # no number is less than 0 here, so the zeros around never win
        return F.max_pool2d(pad_same(x, 3, 2), kernel_size=3, stride=2)


class StemBottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, each with a norm behind it, and a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int, groups: int, *, first: bool) -> None:
        """From `inputs` channels to 4 `width`; the `first` of a stage projects its shortcut."""
        super().__init__()
        outputs = width * EXPANSION
        self.downsample = StemProjection(inputs, outputs, stride, groups) if first else None
        self.conv1 = StandardisedConv2d(inputs, width, 1)
        self.norm1 = nn.GroupNorm(groups, width)
        self.conv2 = StandardisedConv2d(width, width, 3, stride, same=True)
        self.norm2 = nn.GroupNorm(groups, width)
        self.conv3 = StandardisedConv2d(width, outputs, 1)
        self.norm3 = nn.GroupNorm(groups, outputs)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d rows columns"]:
        """ReLU(shortcut + branch)."""
        y = F.relu(self.norm1(self.conv1(x)))
        y = F.relu(self.norm2(self.conv2(y)))
        y = self.norm3(self.conv3(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(shortcut + y)


class StemProjection(nn.Module):
    """The shortcut where the map changes its size."""

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int) -> None:
        """From `inputs` channels to `outputs`."""
        super().__init__()
        self.conv = StandardisedConv2d(inputs, outputs, 1, stride)
        self.norm = nn.GroupNorm(groups, outputs)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d rows columns"]:
        """Project."""
        return self.norm(self.conv(x))  # type: ignore[no-any-return]


class ResNetStem(nn.Module):
    """The root and stages of residual blocks: images in, a map out. Takes images of any size."""

    def __init__(self, config: StemConfig, in_channels: int) -> None:
        """Build a stem of these sizes; its parameters are not drawn yet."""
        super().__init__()
        self.stem = StemRoot(in_channels, config.width, config.groups)
        self.stages = nn.Sequential()
        inputs = config.width
        for i, depth in enumerate(config.depths):
            width, stride = config.width * 2**i, 1 if i == 0 else 2
            blocks = nn.Sequential(StemBottleneck(inputs, width, stride, config.groups, first=True))
            inputs = width * EXPANSION
            for _ in range(depth - 1):
                blocks.append(StemBottleneck(inputs, width, 1, config.groups, first=False))
            self.stages.append(nn.ModuleDict({"blocks": blocks}))

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d rows columns"]:
        """Give a map of 4 width, 8 width, … channels, one place every `stride` pixels."""
        x = self.stem(images)
        for stage in self.stages:
            x = stage.get_submodule("blocks")(x)
        return x  # type: ignore[no-any-return]


def build_stem(config: StemConfig, in_channels: int) -> ResNetStem | StemRoot:
    """Build the stem; without stages it is the root itself, as its published weights are called."""
    if config.depths:
        return ResNetStem(config, in_channels)
    return StemRoot(in_channels, config.width, config.groups)
