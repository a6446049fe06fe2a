"""The sizes and variants of a ViT."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vitrail.models.attention import Bias
from vitrail.models.base import BackboneConfig, Count, Depth, Positive, Rate
from vitrail.models.resample import Grid, Rule


class ViTConfig(BackboneConfig):
    """The sizes of a ViT. The defaults are the paper's."""

    kind: Literal["vit"] = "vit"
    patch_size: Positive = 16
    """Height and width of a patch in pixels; divides image_size."""
    width: Positive = 768
    """Features per token; a multiple of heads."""
    depth: Depth = 12
    """Number of encoder blocks."""
    heads: Positive = 12
    """Attention heads per block."""
    mlp_ratio: Annotated[float, Field(gt=0)] = 4.0
    """Hidden features of the MLP, as a multiple of width."""
    mlp: Literal["gelu", "swiglu"] = "gelu"
    """gelu: as in the paper; swiglu: with a gate, as DINOv2 giant and larger DINOv3."""
    pool: Literal["token", "mean", "map", "token+mean"] = "token"
    """What is classified: the class token, the mean of the patches, attention pooling, or the first
    two side by side."""
    norm_after_pool: bool = False
    """Whether the last norm comes after pooling rather than before it."""
    class_token: bool = True
    """Whether there is a class token."""
    distilled: bool = False
    """Whether there is a distillation token, with a head of its own (DeiT)."""
    registers: Count = 0
    """Tokens without a place that are neither classified nor shown (Darcet et al. 2024)."""
    positions: Literal["learned", "sincos", "rotary", "none"] = "learned"
    """learned: a table; sincos: fixed sines and cosines (MAE); rotary: queries and keys are turned
    (DINOv3)."""
    prefix_positions: bool = True
    """Whether the tokens before the patches have rows in the table too."""
    position_rule: Rule = "antialias"
    """How the table is brought to another grid: as the makers of the weights do it."""
    rotary_base: Annotated[float, Field(gt=0)] = 100.0
    """Longest period of rotary positions, in units of half the image's side."""
    layer_scale: Annotated[float, Field(gt=0)] | None = None
    """First factor of each residual branch; None: not scaled."""
    qk_norm: bool = False
    """Whether the queries and keys of each head are normalised."""
    qkv_bias: Bias = "full"
    """Which of queries, keys and values have a bias."""
    norm_eps: Annotated[float, Field(gt=0)] = 1e-6
    """Added to the variance in every norm."""
    patch_dropout: Rate = 0.0
    """Part of the patches that each image loses in training."""

    @model_validator(mode="after")
    def _check(self) -> "ViTConfig":
        height, width = self.image_size
        stride = self.stride
        if height % stride or width % stride:
            near = _nearest(height, stride), _nearest(width, stride)
            raise ValueError(
                f"image_size={height}x{width} must be a multiple of "
                f"{self.stride_name}={stride}; the nearest is {near[0]}x{near[1]}"
            )
        if self.width % self.heads:
            raise ValueError(f"width={self.width} must be a multiple of heads={self.heads}")
        self._check_tokens()
        self._check_positions()
        return self

    def _check_tokens(self) -> None:
        if self.pool in ("token", "token+mean") and not self.class_token:
            raise ValueError(f"pool={self.pool} needs class_token=True")
        if self.distilled and (self.pool != "token" or self.norm_after_pool):
            raise ValueError("distilled=True needs pool=token and norm_after_pool=False")
        if self.norm_after_pool and self.pool == "token+mean":
            raise ValueError("norm_after_pool=True needs pool=token, mean or map")

    def _check_positions(self) -> None:
        if self.positions == "sincos" and self.width % 4:
            raise ValueError(f"positions=sincos needs width={self.width} to be a multiple of 4")
        if self.positions == "rotary" and self.width // self.heads % 4:
            raise ValueError(
                f"positions=rotary needs width / heads = {self.width // self.heads} "
                "to be a multiple of 4"
            )

    @property
    def stride(self) -> int:
        """Pixels from a token to its neighbour."""
        return self.patch_size

    @property
    def stride_name(self) -> str:
        """What the stride is called in messages."""
        return "patch_size"

    @property
    def grid(self) -> Grid:
        """Rows and columns of patches."""
        return self.image_size[0] // self.stride, self.image_size[1] // self.stride

    @property
    def hidden(self) -> int:
        """Features inside the MLP."""
        return int(self.width * self.mlp_ratio + 1e-6)  # the ratio may be a rounded quotient

    @property
    def prefix_tokens(self) -> int:
        """How many tokens stand before those of the patches."""
        return int(self.class_token) + int(self.distilled) + self.registers

    @property
    def position_prefix(self) -> int:
        """How many rows of the table belong to tokens without a place."""
        return self.prefix_tokens if self.prefix_positions else 0

    @property
    def position_rows(self) -> int:
        """Rows of the table of learned positions; 0 where there is none."""
        if self.positions != "learned":
            return 0
        return self.position_prefix + self.grid[0] * self.grid[1]

    @property
    def tokens(self) -> int:
        """Patches and the tokens before them."""
        return self.grid[0] * self.grid[1] + self.prefix_tokens


def _nearest(size: int, patch: int) -> int:
    return max(1, round(size / patch)) * patch
