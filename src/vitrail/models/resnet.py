"""Residual networks.

Source: He et al. 2016, arXiv:1512.03385, in the form that everybody trains ("v1.5"): where a
bottleneck halves the map, its 3x3 convolution has the stride, not its first 1x1 as in the paper's
table 1. Parameters are called as in torchvision and timm.
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from vitrail.errors import ModelError
from vitrail.models.base import BackboneConfig, Depth, Positive
from vitrail.models.convolutional import ConvolutionalBackbone, stage_rates
from vitrail.models.layers import DropPath


class ResNetConfig(BackboneConfig):
    """The sizes of a ResNet. The defaults are ResNet-50's."""

    kind: Literal["resnet"] = "resnet"
    block: Literal["basic", "bottleneck"] = "bottleneck"
    """basic: two 3x3 convolutions; bottleneck: one between two 1x1, four times as wide outside."""
    depths: Annotated[tuple[Depth, ...], Field(min_length=1)] = (3, 4, 6, 3)
    """Blocks of each stage; every stage after the first halves the map."""
    width: Positive = 64
    """Channels inside the blocks of the first stage; each further stage has twice as many."""

    @property
    def stride(self) -> int:
        """Pixels from a place of the last map to its neighbour."""
        return int(2 ** (len(self.depths) + 1))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut. Source: He et al. 2016, figure 5, left."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, drop_path: float) -> None:
        """From `inputs` channels to `width`; `drop_path` is the chance to leave the branch out."""
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = projection(inputs, width, stride)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d rows columns"]:
        """ReLU(shortcut + branch)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(shortcut + self.drop_path(y))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut. Source: He et al. 2016, figure 5, right."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, drop_path: float) -> None:
        """From `inputs` channels to 4 `width`, by way of `width`."""
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = projection(inputs, outputs, stride)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d rows columns"]:
        """ReLU(shortcut + branch)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(shortcut + self.drop_path(y))


BLOCKS: dict[str, type[BasicBlock] | type[Bottleneck]] = {
    "basic": BasicBlock,
    "bottleneck": Bottleneck,
}


def projection(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """Build the shortcut where the map changes its size (option B); None where it does not."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(ConvolutionalBackbone):
    """A 7x7 convolution, max pooling, stages of residual blocks, mean, linear head."""

    stem_weight = "conv1.weight"
    head_names = ("fc.weight", "fc.bias")

    def __init__(self, config: ResNetConfig) -> None:
        """Build and initialise a model of these sizes."""
        super().__init__()
        self.config: ResNetConfig = config
        self.conv1 = nn.Conv2d(config.in_channels, config.width, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(config.width)
        inputs = config.width
        for i, rates in enumerate(stage_rates(config.drop_path, config.depths)):
            width, stride = config.width * 2**i, 1 if i == 0 else 2
            stage = build_stage(BLOCKS[config.block], inputs, width, stride, rates)
            self.add_module(f"layer{i + 1}", stage)
            inputs = width * BLOCKS[config.block].expansion
        self.fc = nn.Linear(inputs, config.classes) if config.classes else nn.Identity()
        self.initialise()

    def stem_map(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d rows columns"]:
        """Convolve and pool, to a quarter of each side.

        Raises:
            ModelError: while training, the batch is too small for the batch norms.
        """
        if self.training:
            self._check_batch(images)
        x = F.relu(self.bn1(self.conv1(images)))
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)

    def named_blocks(self) -> list[tuple[str, nn.Module]]:
        """List the blocks of all stages."""
        stages = [f"layer{i + 1}" for i in range(len(self.config.depths))]
        return [
            (f"{stage}.{name}", block)
            for stage in stages
            for name, block in self.get_submodule(stage).named_children()
        ]

    def classify(self, pooled: Float[Tensor, "b d"]) -> Float[Tensor, "b classes"]:
        """Give the logits of pooled features; the features themselves where there is no head."""
        return self.fc(pooled)  # type: ignore[no-any-return]

    @torch.no_grad()
    def initialise(self) -> None:
        """Draw the convolutions; norms forget what they have seen; the head is zero.

        He-normal by the outputs, as torchvision does and as He et al. 2015, arXiv:1502.01852,
        section 2.2 allow; the last norm of a branch begins with one, torchvision's default.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()  # ones and zeros, the running statistics too
            elif isinstance(module, nn.Linear):
                nn.init.zeros_(module.weight)
                nn.init.zeros_(module.bias)

    def _check_batch(self, images: Tensor) -> None:
        """Refuse a batch that leaves a norm with one value a channel: it has no variance."""
        count, _, height, width = images.shape
        stride = self.config.stride
        if count == 1 and height <= stride and width <= stride:
            raise ModelError(
                f"one image of {height}x{width} pixels is too little to train on: the batch norms "
                f"need several images, or one larger than {stride}x{stride}"
            )


def build_stage(
    block: type[BasicBlock] | type[Bottleneck],
    inputs: int,
    width: int,
    stride: int,
    rates: list[float],
) -> nn.Sequential:
    """Build the blocks of a stage, one a drop rate; the first has the stride."""
    blocks = [block(inputs, width, stride, rates[0])]
    blocks += [block(width * block.expansion, width, 1, rate) for rate in rates[1:]]
    return nn.Sequential(*blocks)


# Source: He et al. 2016, table 1.
RESNETS: dict[str, ResNetConfig] = {
    "resnet18": ResNetConfig(block="basic", depths=(2, 2, 2, 2)),
    "resnet34": ResNetConfig(block="basic", depths=(3, 4, 6, 3)),
    "resnet50": ResNetConfig(depths=(3, 4, 6, 3)),
    "resnet101": ResNetConfig(depths=(3, 4, 23, 3)),
    "resnet152": ResNetConfig(depths=(3, 8, 36, 3)),
}
