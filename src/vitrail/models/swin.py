"""The Swin Transformer: attention within shifted windows, on maps that shrink from stage to stage.

Source: Liu et al. 2021, arXiv:2103.14030. Parameters are called as in timm, whose names the field's
checkpoints follow; there the patches are merged at the start of a stage, not at the end of the one
before.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.models.base import Backbone, BackboneConfig, Features, Record
from vitrail.models.layers import BLOCK_PARTS, DropPath, Mlp, PatchEmbed
from vitrail.models.resample import Grid, resize_patches
from vitrail.models.swin_config import SwinConfig
from vitrail.models.windows import WindowAttention, resize_bias


class SwinPatchEmbed(PatchEmbed):
    """Cut an image into patches, map each linearly to a token, and normalise."""

    def __init__(self, patch_size: int, in_channels: int, width: int, norm_eps: float) -> None:
        """`patch_size` in pixels."""
        super().__init__(patch_size, in_channels, width)
        self.norm = nn.LayerNorm(width, eps=norm_eps)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """Give one token a patch; zeros fill the image up below and to the right."""
        below, beside = (-side % self.patch_size for side in images.shape[-2:])
        return self.norm(super().forward(F.pad(images, (0, beside, 0, below))))  # type: ignore[no-any-return]


class PatchMerging(nn.Module):
    """Make one token of 2 x 2, with twice the features. Source: Liu et al. 2021, section 3.1."""

    def __init__(self, width: int, norm_eps: float) -> None:
        """`width` features a token before."""
        super().__init__()
        self.norm = nn.LayerNorm(4 * width, eps=norm_eps)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Float[Tensor, "b n d"], grid: Grid) -> Float[Tensor, "b m e"]:
        """Merge the map of `grid` = (rows, columns); zeros fill an odd one up, before the norm."""
        b, _, d = x.shape
        maps = F.pad(x.reshape(b, *grid, d), (0, 0, 0, grid[1] % 2, 0, grid[0] % 2))
        rows, columns = (side // 2 for side in maps.shape[1:3])
        pairs = maps.reshape(b, rows, 2, columns, 2, d)
        # every checkpoint has the four in this order: column by column, not row by row
        merged = pairs.permute(0, 1, 3, 4, 2, 5).flatten(3).flatten(1, 2)  # b m 4d
        return self.reduction(self.norm(merged))  # type: ignore[no-any-return]


class SwinBlock(nn.Module):
    """One pre-norm block with attention within windows. Source: Liu et al. 2021, equation 3."""

    def __init__(
        self, attn: WindowAttention, width: int, hidden: int, *, drop_path: float, norm_eps: float
    ) -> None:
        """`hidden` is the width inside the MLP, `drop_path` the chance to leave a branch out."""
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=norm_eps)
        self.attn = attn
        self.norm2 = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = Mlp(width, hidden)
        self.drop_path = DropPath(drop_path)

    def forward(
        self, x: Float[Tensor, "b n d"], grid: Grid, record: Record | None = None, name: str = ""
    ) -> Float[Tensor, "b n d"]:
        """z' = W-MSA(LN(z)) + z, then MLP(LN(z')) + z'; `record` sees the parts under `name`."""
        attended = self.norm1(x)
        mixed = self.attn(attended, grid)
        x = x + self.drop_path(mixed)
        transformed = self.mlp(self.norm2(x))
        x = x + self.drop_path(transformed)
        if record is not None:
            record(f"{name}.attn.input", attended)
            record(f"{name}.attn.output", mixed)
            record(f"{name}.mlp.output", transformed)
            record(f"{name}.output", x)
        return x


class SwinStage(nn.Module):
    """Blocks on a map of one size, after patch merging in every stage but the first."""

    def __init__(self, config: SwinConfig, stage: int, rates: list[float]) -> None:
        """`rates` are the chances to leave a branch out, one a block."""
        super().__init__()
        width, heads, eps = config.widths[stage], config.heads[stage], config.norm_eps
        self.downsample = PatchMerging(width // 2, eps) if stage else None
        self.blocks = nn.ModuleList(
            SwinBlock(
                WindowAttention(width, heads, config.window_size, shifted=i % 2 == 1),
                width,
                int(width * config.mlp_ratio),
                drop_path=rate,
                norm_eps=eps,
            )
            for i, rate in enumerate(rates)
        )

    def forward(
        self, x: Float[Tensor, "b n d"], grids: tuple[Grid, Grid], record: Record | None, name: str
    ) -> Float[Tensor, "b m e"]:
        """Map tokens of the first of `grids` to tokens of the second."""
        if self.downsample is not None:
            x = self.downsample(x, grids[0])
        for i, block in enumerate(self.blocks):
            x = block(x, grids[1], record, f"{name}.blocks.{i}")
        return x


class Swin(Backbone):
    """Patches, stages of window attention, the mean of the last map, head.

    Takes images of any height and width: zeros fill up, below and to the right, images that the
    patches do not divide (as in transformers; timm refuses them, torchvision cuts them off), odd
    maps before patches are merged (as in all three), and maps that the windows do not divide, see
    `WindowAttention`. A map smaller than the window is filled up to one window, without a shift, so
    that the parameters do not depend on the image size; in torchvision likewise. timm and Liu et
    al. shrink window and table when they build a model for such images, transformers fails.
    """

    head_names = ("head.fc.weight", "head.fc.bias")

    def __init__(self, config: SwinConfig) -> None:
        """Build and initialise a model of these sizes."""
        super().__init__()
        self.config: SwinConfig = config
        self.patch_embed = SwinPatchEmbed(
            config.patch_size, config.in_channels, config.width, config.norm_eps
        )
        rates = iter(torch.linspace(0, config.drop_path, sum(config.depths), device="cpu").tolist())
        self.layers = nn.ModuleList(
            SwinStage(config, stage, [next(rates) for _ in range(depth)])
            for stage, depth in enumerate(config.depths)
        )
        last = config.widths[-1]
        self.norm = nn.LayerNorm(last, eps=config.norm_eps)
        self.head = nn.Sequential()
        if config.classes:
            self.head.add_module("fc", nn.Linear(last, config.classes))
        self.initialise()

    def encode(
        self, images: Float[Tensor, "b c h w"], record: Record | None = None
    ) -> Float[Tensor, "b n d"]:
        """Give the tokens of the last stage, normalised.

        Raises:
            ModelError: the images are no batch or have another number of channels.
        """
        self.check_images(images)
        grids = self.config.grids(*images.shape[-2:])
        x = self.patch_embed(images)
        if record is not None:
            record("embed", x)
        for stage, layer in enumerate(self.layers):
            x = layer(x, (grids[max(stage - 1, 0)], grids[stage]), record, f"layers.{stage}")
        x = self.norm(x)
        if record is not None:
            record("norm", x)
        return x  # type: ignore[no-any-return]

    def features(self, images: Float[Tensor, "b c h w"]) -> Features:
        """Give the mean of the last map, and its tokens; a token covers p 2^(stages - 1) pixels."""
        x = self.encode(images)
        return Features(x.mean(dim=1), x, self.config.grids(*images.shape[-2:])[-1])

    def classify(self, pooled: Float[Tensor, "b d"]) -> Float[Tensor, "b classes"]:
        """Give the logits; a model without classes gives the pooled features back."""
        return self.head(pooled)  # type: ignore[no-any-return]

    def run(
        self, images: Float[Tensor, "b c h w"], record: Record | None
    ) -> Float[Tensor, "b classes"]:
        """Classify; `record` sees every intermediate."""
        return self.answer(self.encode(images, record).mean(dim=1), record)

    def intermediate_names(self) -> tuple[str, ...]:
        """List the names in the order in which they are computed."""
        blocks = [
            f"layers.{stage}.blocks.{i}.{part}"
            for stage, depth in enumerate(self.config.depths)
            for i in range(depth)
            for part in BLOCK_PARTS
        ]
        return ("embed", *blocks, "norm", "pooled", "logits")

    def fit(self, name: str, tensor: Tensor, source: BackboneConfig) -> Tensor:
        """Bring bias tables to these windows, and the patch kernels to this patch size."""
        assert isinstance(source, SwinConfig)
        if name.endswith(".relative_position_bias_table"):
            return resize_bias(tensor, source.window_size, self.config.window_size)
        if name == self.stem_weight:
            size = self.config.patch_size
            tensor = resize_patches(tensor, (size, size))
        return super().fit(name, tensor, source)

    @torch.no_grad()
    def initialise(self) -> None:
        """Draw every parameter as Liu et al.'s code does, but for the head.

        Matrices and bias tables are normal of deviation 0.02, biases zero, and the patch embedding
        is as PyTorch makes a convolution: uniform within 1 / √fan-in, bias too. The head is zero.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, WindowAttention):
                nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)
            elif isinstance(module, nn.LayerNorm | nn.Conv2d):
                module.reset_parameters()
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)
