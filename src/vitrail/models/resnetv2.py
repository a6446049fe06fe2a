"""BiT: residual networks with the norms first, group norms and standardised weights.

Source: Kolesnikov et al. 2020 (Big Transfer), arXiv:1912.11370, section 2.1; the order of the
layers is that of He et al. 2016, arXiv:1603.05027. Parameters are called as in timm.
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from vitrail.models.base import BackboneConfig, Depth, Positive, Record
from vitrail.models.convolutional import ConvolutionalBackbone, stage_rates
from vitrail.models.layers import DropPath
from vitrail.models.standardised import StandardisedConv2d

EXPANSION = 4  # a stage is so many times as wide outside its blocks as inside


class BiTConfig(BackboneConfig):
    """The sizes of a BiT. The defaults are R50x1's."""

    kind: Literal["bit"] = "bit"
    depths: Annotated[tuple[Depth, ...], Field(min_length=1)] = (3, 4, 6, 3)
    """Blocks of each stage; every stage after the first halves the map."""
    width: Positive = 64
    """Channels inside the blocks of the first stage, 64 times the paper's factor; each further
    stage has twice as many."""
    groups: Positive = 32
    """Groups of channels that are normalised together; divides width."""

    @model_validator(mode="after")
    def _check(self) -> "BiTConfig":
        if self.width % self.groups:
            raise ValueError(f"width={self.width} must be a multiple of groups={self.groups}")
        return self


class PreActivationBottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, each behind a norm and a ReLU, and a shortcut.

    Source: He et al. 2016, arXiv:1603.05027, figure 1b; the stride is in the 3x3.
    """

    def __init__(
        self, inputs: int, width: int, stride: int, groups: int, *, first: bool, drop_path: float
    ) -> None:
        """From `inputs` channels to 4 `width`; the `first` of a stage projects its shortcut."""
        super().__init__()
        outputs = width * EXPANSION
        self.downsample = None
        if first:
            self.downsample = nn.ModuleDict(
                {"conv": StandardisedConv2d(inputs, outputs, 1, stride)}
            )
        self.norm1 = nn.GroupNorm(groups, inputs)
        self.conv1 = StandardisedConv2d(inputs, width, 1)
        self.norm2 = nn.GroupNorm(groups, width)
        self.conv2 = StandardisedConv2d(width, width, 3, stride)
        self.norm3 = nn.GroupNorm(groups, width)
        self.conv3 = StandardisedConv2d(width, outputs, 1)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d rows columns"]:
        """Shortcut + branch. A projected shortcut starts behind the first norm, as the branch."""
        active = F.relu(self.norm1(x))
        shortcut = x if self.downsample is None else self.downsample["conv"](active)
        y = self.conv1(active)
        y = self.conv2(F.relu(self.norm2(y)))
        y = self.conv3(F.relu(self.norm3(y)))
        return shortcut + self.drop_path(y)  # type: ignore[no-any-return]


class BiT(ConvolutionalBackbone):
    """A 7x7 convolution, max pooling, stages of residual blocks, norm, mean, linear head."""

    stem_weight = "stem.conv.weight"
    head_names = ("head.fc.weight", "head.fc.bias")

    def __init__(self, config: BiTConfig) -> None:
        """Build and initialise a model of these sizes."""
        super().__init__()
        self.config: BiTConfig = config
        stem = StandardisedConv2d(config.in_channels, config.width, 7, 2)
        self.stem = nn.ModuleDict({"conv": stem})
        self.stages = nn.ModuleList()
        inputs = config.width
        for i, rates in enumerate(stage_rates(config.drop_path, config.depths)):
            width, stride = config.width * 2**i, 1 if i == 0 else 2
            stage = build_stage(inputs, width, stride, config.groups, rates)
            self.stages.append(nn.ModuleDict({"blocks": stage}))
            inputs = width * EXPANSION
        self.norm = nn.GroupNorm(config.groups, inputs)
        # published heads have the shape of a 1x1 convolution's
        self.head = nn.ModuleDict()
        if config.classes:
            self.head["fc"] = nn.Conv2d(inputs, config.classes, 1)
        self.initialise()

    def stem_map(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d rows columns"]:
        """Convolve and pool, to a quarter of each side.

        The map has negative values and the pooling sees zeros around it: so it was trained.
        """
        x = F.pad(self.stem["conv"](images), (1, 1, 1, 1))
        return F.max_pool2d(x, kernel_size=3, stride=2)

    def named_blocks(self) -> list[tuple[str, nn.Module]]:
        """List the blocks of all stages."""
        return [
            (f"stages.{i}.blocks.{name}", block)
            for i, stage in enumerate(self.stages)
            for name, block in stage.get_submodule("blocks").named_children()
        ]

    def last_map(
        self, images: Float[Tensor, "b c h w"], record: Record | None
    ) -> Float[Tensor, "b d rows columns"]:
        """Compute the map that is pooled; it has passed the last norm and its ReLU."""
        x = F.relu(self.norm(super().last_map(images, record)))
        if record is not None:
            record("norm", x)
        return x

    def classify(self, pooled: Float[Tensor, "b d"]) -> Float[Tensor, "b classes"]:
        """Give the logits of pooled features; the features themselves where there is no head."""
        if not self.config.classes:
            return pooled
        head = self.get_submodule("head.fc")
        assert isinstance(head, nn.Conv2d)
        return F.linear(pooled, head.weight.flatten(1), head.bias)

    def intermediate_names(self) -> tuple[str, ...]:
        """List the names in the order in which they are computed."""
        *before, pooled, logits = super().intermediate_names()
        return (*before, "norm", pooled, logits)

    def initialise(self) -> None:
        """Draw every parameter, see `initialise_standardised`; the head is zero."""
        initialise_standardised(self)
        for name in self.head_names if self.config.classes else ():
            nn.init.zeros_(self.get_parameter(name))


def build_stage(
    inputs: int, width: int, stride: int, groups: int, rates: list[float]
) -> nn.Sequential:
    """Build the blocks of a stage, one a drop rate; the first has the stride."""
    return nn.Sequential(
        *(
            PreActivationBottleneck(
                width * EXPANSION if i else inputs,
                width,
                1 if i else stride,
                groups,
                first=i == 0,
                drop_path=rate,
            )
            for i, rate in enumerate(rates)
        )
    )


@torch.no_grad()
def initialise_standardised(model: nn.Module) -> None:
    """Draw the standardised convolutions of a model; its group norms become ones and zeros.

    He-normal by the outputs; the scale decides only how fast a kernel turns, for it is divided out.
    """
    for module in model.modules():
        if isinstance(module, StandardisedConv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.GroupNorm):
            module.reset_parameters()


_DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
# (depth, factor of width): image size in pixels, the one that timm's default weights have
_SIZES = {(50, 1): 224, (50, 3): 448, (101, 1): 448, (101, 3): 448, (152, 2): 224, (152, 4): 480}
BITS: dict[str, BiTConfig] = {
    f"resnetv2_{depth}x{factor}_bit": BiTConfig(
        depths=_DEPTHS[depth], width=64 * factor, image_size=(size, size)
    )
    for (depth, factor), size in _SIZES.items()
}
