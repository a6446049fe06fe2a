"""The Vision Transformer as in the paper.

Source: Dosovitskiy et al. 2021, arXiv:2010.11929, section 3.1. Parameters are called as in timm,
whose names the field's checkpoints follow, so that they need no translation.
"""

import math
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from vitrail.config import Config
from vitrail.errors import ModelError
from vitrail.models.base import Backbone, Features, Record
from vitrail.models.layers import BLOCK_PARTS, Attention, Block, Mlp, PatchEmbed
from vitrail.models.posembed import resample_positions

Positive = Annotated[int, Field(ge=1)]


class ViTConfig(Config):
    """The sizes of a ViT."""

    kind: Literal["vit"] = "vit"
    image_size: tuple[Positive, Positive] = (224, 224)
    """Height and width in pixels; multiples of patch_size."""
    patch_size: Positive = 16
    """Height and width of a patch in pixels."""
    in_channels: Positive = 3
    """Channels of an image: 3 for colour, 1 for grey."""
    classes: Positive = 1000
    """Number of classes."""
    width: Positive = 768
    """Features per token; a multiple of heads."""
    depth: Positive = 12
    """Number of encoder blocks."""
    heads: Positive = 12
    """Attention heads per block."""
    mlp_ratio: Annotated[float, Field(gt=0)] = 4.0
    """Hidden features of the MLP, as a multiple of width."""
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Chance to leave out a residual branch of the last block; linear from 0 at the first."""

    @model_validator(mode="after")
    def _check(self) -> "ViTConfig":
        height, width = self.image_size
        if height % self.patch_size or width % self.patch_size:
            near = _nearest(height, self.patch_size), _nearest(width, self.patch_size)
            raise ValueError(
                f"image_size={height}x{width} must be a multiple of patch_size={self.patch_size}; "
                f"the nearest is {near[0]}x{near[1]}"
            )
        if self.width % self.heads:
            raise ValueError(f"width={self.width} must be a multiple of heads={self.heads}")
        return self

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.image_size[0] // self.patch_size, self.image_size[1] // self.patch_size

    @property
    def tokens(self) -> int:
        """Patches and the class token."""
        return self.grid[0] * self.grid[1] + 1


def _nearest(size: int, patch: int) -> int:
    return max(1, round(size / patch)) * patch


class ViT(Backbone):
    """Patches, class token, positions, encoder, head.

    Takes images of any size that its patches divide. At another size than the one it was made for,
    the position embeddings are resampled on the way.
    """

    prefix_tokens = 1  # the class token stands before the patches

    def __init__(self, config: ViTConfig) -> None:
        """Build and initialise a model of these sizes."""
        super().__init__()
        self.config: ViTConfig = config
        width, hidden = config.width, int(config.width * config.mlp_ratio)
        rates = torch.linspace(0, config.drop_path, config.depth, device="cpu").tolist()
        self.patch_embed = PatchEmbed(config.patch_size, config.in_channels, width)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, config.tokens, width))
        self.blocks = nn.ModuleList(Block(width, config.heads, hidden, rate) for rate in rates)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, config.classes)
        self.initialise()

    def embed(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """Give the tokens of the patches with their positions, without the class token.

        Raises:
            ModelError: the images are no batch, have another number of channels, or a size that the
                patches do not divide.
        """
        grid = self._check_images(images)
        return self.patch_embed(images) + self._positions(grid)[:, 1:]  # type: ignore[no-any-return]

    def encode(
        self, tokens: Float[Tensor, "b n d"], record: Record | None = None
    ) -> Float[Tensor, "b m d"]:
        """Put the class token before the tokens and relate all of them; m = n + 1."""
        first = self.cls_token + self.pos_embed[:, :1]
        # shape[0], not len(): an exported model keeps its number of images open
        x = torch.cat([first.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        if record is not None:
            record("embed", x)
        for i, block in enumerate(self.blocks):
            x = block(x, record, f"blocks.{i}")
        x = self.norm(x)
        if record is not None:
            record("norm", x)
        return x  # type: ignore[no-any-return]

    def features(self, images: Float[Tensor, "b c h w"]) -> Features:
        """Give the class token's and the patches' final states."""
        x = self.encode(self.embed(images))
        return Features(x[:, 0], x[:, 1:], self.grid_of(*images.shape[-2:]))

    def run(
        self, images: Float[Tensor, "b c h w"], record: Record | None
    ) -> Float[Tensor, "b classes"]:
        """Classify the class token; `record` sees every intermediate."""
        pooled = self.encode(self.embed(images), record)[:, 0]
        logits = self.head(pooled)
        if record is not None:
            record("pooled", pooled)
            record("logits", logits)
        return logits  # type: ignore[no-any-return]

    def intermediate_names(self) -> tuple[str, ...]:
        """List the names in the order in which they are computed."""
        blocks = [f"blocks.{i}.{part}" for i in range(len(self.blocks)) for part in BLOCK_PARTS]
        return ("embed", *blocks, "norm", "pooled", "logits")

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches of an image of this size in pixels."""
        return height // self.config.patch_size, width // self.config.patch_size

    @torch.no_grad()
    def initialise(self) -> None:
        """Draw every parameter as the paper's authors do.

        Xavier-uniform matrices (each of q, k, v as a square of its own), MLP biases of deviation
        1e-6, positions of deviation 0.02, LeCun-normal patches; biases, class token and head are
        zero.
        """
        fan_in = self.patch_embed.proj.weight[0].numel()
        nn.init.normal_(self.patch_embed.proj.weight, std=math.sqrt(1 / fan_in))
        nn.init.zeros_(self.patch_embed.proj.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.cls_token)
        nn.init.normal_(self.pos_embed, std=0.02)
        for module in self.modules():
            _initialise_part(module)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        return resample_positions(self.pos_embed, self.config.grid, grid, self.prefix_tokens)

    def _check_images(self, images: Tensor) -> tuple[int, int]:
        if images.ndim != 4:
            raise ModelError(
                f"images have the shape {tuple(images.shape)}; a model takes a batch, "
                "[images, channels, height, width]"
            )
        channels, height, width = images.shape[1:]
        if channels != self.config.in_channels:
            raise ModelError(
                f"images have {channels} channels; this model takes {self.config.in_channels}"
            )
        if height % self.config.patch_size or width % self.config.patch_size:
            raise ModelError(
                f"images of {height}x{width} pixels must be a multiple of "
                f"patch_size={self.config.patch_size}"
            )
        return self.grid_of(height, width)


def _initialise_part(module: nn.Module) -> None:
    """Draw the parameters of one norm, attention or MLP."""
    if isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, Attention):
        for part in module.qkv.weight.chunk(3):
            nn.init.xavier_uniform_(part)
        nn.init.xavier_uniform_(module.proj.weight)
        nn.init.zeros_(module.qkv.bias)
        nn.init.zeros_(module.proj.bias)
    elif isinstance(module, Mlp):
        for linear in (module.fc1, module.fc2):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.normal_(linear.bias, std=1e-6)
