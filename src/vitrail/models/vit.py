"""The Vision Transformer as in the paper, and what has been added to it since.

Source: Dosovitskiy et al. 2021, arXiv:2010.11929, section 3.1. Parameters are called as in timm,
whose names the field's checkpoints follow, so that they need no translation.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.errors import ModelError
from vitrail.models.attention import Attention
from vitrail.models.base import Backbone, BackboneConfig, Features, Record
from vitrail.models.initial import initialise_vit
from vitrail.models.layers import BLOCK_PARTS, MLPS, AttentionPool, Block, PatchEmbed
from vitrail.models.patch_dropout import drop_patches
from vitrail.models.posembed import Turn, rotary_positions, sincos_positions
from vitrail.models.resample import Grid, resample_positions, resize_patches
from vitrail.models.vit_config import ViTConfig


class ViT(Backbone):
    """Patches, prefix tokens, positions, encoder, head.

    Takes images of any size that its patches divide. At another size than the one it was made for,
    the position embeddings are resampled on the way.

    Prefix tokens have no place in the image. They stand before the patches: the class token, the
    distillation token, the registers, as far as there are any.
    """

    def __init__(self, config: ViTConfig) -> None:
        """Build and initialise a model of these sizes."""
        super().__init__()
        self.config: ViTConfig = config
        width = config.width

        def parameter(rows: int) -> nn.Parameter | None:
            return nn.Parameter(torch.empty(1, rows, width)) if rows else None

        self.cls_token = parameter(int(config.class_token))
        self.dist_token = parameter(int(config.distilled))
        self.reg_token = parameter(config.registers)
        self.pos_embed = parameter(config.position_rows)
        self.patch_embed = self.build_patch_embed(config)
        rates = torch.linspace(0, config.drop_path, config.depth, device="cpu").tolist()
        self.blocks = nn.ModuleList(build_block(config, rate) for rate in rates)
        norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.norm = nn.Identity() if config.norm_after_pool else norm
        self.attn_pool = None
        if config.pool == "map":
            self.attn_pool = AttentionPool(width, config.heads, config.hidden, config.norm_eps)
        self.fc_norm = norm if config.norm_after_pool else nn.Identity()
        pooled = width * (2 if config.pool == "token+mean" else 1)
        self.head = nn.Linear(pooled, config.classes) if config.classes else nn.Identity()
        self.head_dist = None
        if config.distilled:
            self.head_dist = nn.Linear(width, config.classes) if config.classes else nn.Identity()
            self.head_names = (*self.head_names, "head_dist.weight", "head_dist.bias")
        self.initialise()

    def build_patch_embed(self, config: ViTConfig) -> PatchEmbed:
        """Build what turns images b c h w into tokens b n d, row by row."""
        return PatchEmbed(config.patch_size, config.in_channels, config.width)

    @property
    def prefix_tokens(self) -> int:
        """How many tokens stand before those of the patches."""
        return self.config.prefix_tokens

    def embed(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """Give the tokens of the patches with their positions, without the prefix tokens.

        Rotary positions are no part of the tokens: see `turn`.

        Raises:
            ModelError: the images are no batch, have another number of channels, or a size that the
                patches do not divide.
        """
        grid = self._check_size(images)
        tokens = self.patch_embed(images)
        if self.config.positions == "sincos":
            return tokens + sincos_positions(grid, self.config.width, images.device).to(tokens)  # type: ignore[no-any-return]
        if self.pos_embed is None:
            return tokens  # type: ignore[no-any-return]
        prefix, rule = self.config.position_prefix, self.config.position_rule
        table = resample_positions(self.pos_embed, self.config.grid, grid, prefix, rule)
        return tokens + table[:, prefix:]  # type: ignore[no-any-return]

    def turn(self, grid: Grid) -> Turn | None:
        """Give the rotation of queries and keys for a grid of patches, or None without rotary."""
        config = self.config
        if config.positions != "rotary":
            return None
        device = self.patch_embed.proj.weight.device
        return rotary_positions(grid, config.width // config.heads, config.rotary_base, device)

    def encode(
        self,
        tokens: Float[Tensor, "b n d"],
        turn: Turn | None = None,
        record: Record | None = None,
    ) -> Float[Tensor, "b m d"]:
        """Put the prefix tokens before the tokens and relate all; m = n + `prefix_tokens`.

        Where positions are rotary, `turn` holds those of the tokens; see `turn`.
        """
        x = torch.cat([*self._prefix(tokens.shape[0]), tokens], dim=1)
        if record is not None:
            record("embed", x)
        for i, block in enumerate(self.blocks):
            x = block(x, record, f"blocks.{i}", turn)
        x = self.norm(x)
        if record is not None:
            record("norm", x)
        return x  # type: ignore[no-any-return]

    def features(self, images: Float[Tensor, "b c h w"]) -> Features:
        """Give what the head classifies, and the final states of all patches: none is dropped."""
        grid = self.grid_of(*images.shape[-2:])
        x = self.encode(self.embed(images), self.turn(grid))
        return Features(self.pool(x), x[:, self.prefix_tokens :], grid)

    def pool(self, x: Float[Tensor, "b m d"]) -> Float[Tensor, "b e"]:
        """Make one vector of all final states.

        The class token, the mean of the patches, both side by side, or attention pooling; of a
        distilled model the class and the distillation token side by side. e = d or 2 d.
        """
        patches = x[:, self.prefix_tokens :]
        if self.attn_pool is not None:
            return self.fc_norm(self.attn_pool(patches))  # type: ignore[no-any-return]
        if self.config.distilled:
            return x[:, :2].flatten(1)
        if self.config.pool == "token+mean":
            return torch.cat([x[:, 0], patches.mean(dim=1)], dim=-1)
        pooled = x[:, 0] if self.config.pool == "token" else patches.mean(dim=1)
        return self.fc_norm(pooled)  # type: ignore[no-any-return]

    def classify(self, pooled: Float[Tensor, "b e"]) -> Float[Tensor, "b classes"]:
        """Give the logits; of a distilled model the mean of both heads' (Touvron et al. 2021, 5).

        A model without classes gives the pooled features back.
        """
        if self.head_dist is None:
            return self.head(pooled)  # type: ignore[no-any-return]
        if not self.config.classes:
            return pooled
        one, two = self.classify_both(pooled)
        return (one + two) / 2

    def classify_both(
        self, pooled: Float[Tensor, "b e"]
    ) -> tuple[Float[Tensor, "b classes"], Float[Tensor, "b classes"]]:
        """Give the logits of the class token's and of the distillation token's head.

        Raises:
            ModelError: the model has no distillation token.
        """
        if self.head_dist is None:
            raise ModelError(f"{self.name or 'this model'} has no distillation token")
        one, two = pooled.chunk(2, dim=-1)
        return self.head(one), self.head_dist(two)

    def run(
        self, images: Float[Tensor, "b c h w"], record: Record | None
    ) -> Float[Tensor, "b classes"]:
        """Classify; `record` sees every intermediate."""
        tokens = self.embed(images)
        turn = self.turn(self.grid_of(*images.shape[-2:]))
        if self.training and self.config.patch_dropout:
            tokens, turn = drop_patches(tokens, turn, self.config.patch_dropout)
        return self.answer(self.pool(self.encode(tokens, turn, record)), record)

    def intermediate_names(self) -> tuple[str, ...]:
        """List the names in the order in which they are computed."""
        blocks = [f"blocks.{i}.{part}" for i in range(len(self.blocks)) for part in BLOCK_PARTS]
        return ("embed", *blocks, "norm", "pooled", "logits")

    def grid_of(self, height: int, width: int) -> Grid:
        """Rows and columns of patches of an image of this size in pixels."""
        return height // self.config.stride, width // self.config.stride

    def initialise(self) -> None:
        """Draw every parameter, see `initialise_vit`."""
        initialise_vit(self, self.patch_embed.proj)

    def fit(self, name: str, tensor: Tensor, source: BackboneConfig) -> Tensor:
        """Resample the positions to this grid, and the patch kernels to this patch size."""
        assert isinstance(source, ViTConfig)
        if name == "pos_embed":
            rule = self.config.position_rule
            prefix = source.position_prefix
            return resample_positions(tensor, source.grid, self.config.grid, prefix, rule)
        if name == "patch_embed.proj.weight":
            size = self.config.patch_size
            tensor = resize_patches(tensor, (size, size))
        return super().fit(name, tensor, source)

    def _prefix(self, count: int) -> list[Tensor]:
        """Give the prefix tokens for so many images, with their positions where they have any."""
        given = (self.cls_token, self.dist_token, self.reg_token)
        tokens: list[Tensor] = [token for token in given if token is not None]
        if not tokens:
            return []
        prefix = tokens[0] if len(tokens) == 1 else torch.cat(tokens, dim=1)
        if self.pos_embed is not None and self.config.position_prefix:
            prefix = prefix + self.pos_embed[:, : self.config.position_prefix]
        # an exported model keeps its number of images open: no len()
        return [prefix.expand(count, -1, -1)]

    def _check_size(self, images: Tensor) -> Grid:
        self.check_images(images)
        height, width = images.shape[2:]
        stride = self.config.stride
        if height % stride or width % stride:
            raise ModelError(
                f"images of {height}x{width} pixels must be a multiple of "
                f"{self.config.stride_name}={stride}"
            )
        return self.grid_of(height, width)


def build_block(config: ViTConfig, drop_path: float) -> Block:
    """Build one encoder block."""
    norm_eps = config.norm_eps if config.qk_norm else None
    attn = Attention(config.width, config.heads, bias=config.qkv_bias, norm_eps=norm_eps)
    return Block(
        attn,
        MLPS[config.mlp](config.width, config.hidden),
        config.width,
        drop_path=drop_path,
        norm_eps=config.norm_eps,
        layer_scale=config.layer_scale,
    )
