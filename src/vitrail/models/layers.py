"""The parts of a Transformer encoder. b images, n tokens, d width, h heads, k = d / h."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.models.attention import Attention, attention
from vitrail.models.base import Record
from vitrail.models.draws import draw_rows
from vitrail.models.posembed import Turn


class Mlp(nn.Module):
    """Two linear layers with a GELU between. Source: Dosovitskiy et al. 2021, section 3.1."""

    def __init__(self, width: int, hidden: int) -> None:
        """`hidden` features between the layers, usually 4 x width."""
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """Transform each token by itself."""
        return self.fc2(F.gelu(self.fc1(x)))  # type: ignore[no-any-return]


class SwiGlu(nn.Module):
    """An MLP whose hidden features are gated: SiLU(gate) x value.

    Source: Shazeer 2020, arXiv:2002.05202, equation 6; the layout with both in one matrix, the gate
    first, is DINOv2's.
    """

    def __init__(self, width: int, hidden: int) -> None:
        """`hidden` features after the gate."""
        super().__init__()
        self.fc1 = nn.Linear(width, 2 * hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """Transform each token by itself."""
        gate, value = self.fc1(x).chunk(2, dim=-1)
        return self.fc2(F.silu(gate) * value)  # type: ignore[no-any-return]


MLPS: dict[str, type[Mlp] | type[SwiGlu]] = {"gelu": Mlp, "swiglu": SwiGlu}


class LayerScale(nn.Module):
    """Scale each feature of a residual branch. Source: Touvron et al. 2021, arXiv:2103.17239."""

    def __init__(self, width: int, initial: float) -> None:
        """Every feature begins with the factor `initial`."""
        super().__init__()
        self.initial = initial
        self.gamma = nn.Parameter(torch.empty(width))

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """Scale."""
        return x * self.gamma


class DropPath(nn.Module):
    """Leave out a whole residual branch, for each image by itself, while training.

    Source: Huang et al. 2016, arXiv:1603.09382. The branch is scaled by 1 / (1 - rate) where it
    stays, so that its expectation is unchanged.
    """

    def __init__(self, rate: float) -> None:
        """`rate` is the chance of being left out, in [0, 1)."""
        super().__init__()
        self.rate = rate

    def forward(self, x: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """Zero the branch of some images."""
        if not self.training or self.rate == 0.0:
            return x
        stays = draw_rows(x.shape[0], *[1] * (x.ndim - 1), device=x.device) >= self.rate
        return x * (stays / (1 - self.rate)).to(x.dtype)


class Block(nn.Module):
    """One pre-norm encoder block. Source: Dosovitskiy et al. 2021, equations 2 and 3."""

    def __init__(
        self,
        attn: Attention,
        mlp: nn.Module,
        width: int,
        *,
        drop_path: float,
        norm_eps: float = 1e-6,
        layer_scale: float | None = None,
    ) -> None:
        """`drop_path` is the chance to leave a branch out, `layer_scale` its first factor."""
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=norm_eps)
        self.attn = attn
        self.norm2 = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = mlp
        self.ls1, self.ls2 = (
            nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)
            for _ in range(2)
        )
        self.drop_path = DropPath(drop_path)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        record: Record | None = None,
        name: str = "",
        turn: Turn | None = None,
    ) -> Float[Tensor, "b n d"]:
        """z' = MSA(LN(z)) + z, then MLP(LN(z')) + z'; `record` sees the parts under `name`."""
        attended = self.norm1(x)
        mixed = self.ls1(self.attn(attended, turn))
        x = x + self.drop_path(mixed)
        transformed = self.ls2(self.mlp(self.norm2(x)))
        x = x + self.drop_path(transformed)
        if record is not None:
            record(f"{name}.attn.input", attended)
            record(f"{name}.attn.output", mixed)
            record(f"{name}.mlp.output", transformed)
            record(f"{name}.output", x)
        return x


BLOCK_PARTS = (
    "attn.input",
    "attn.output",
    "mlp.output",
    "output",
)  # what a block records, in order


class PatchEmbed(nn.Module):
    """Cut an image into patches and map each linearly to a token.

    Source: Dosovitskiy et al. 2021, equation 1. The weight has the shape of a convolution's, as in
    every published checkpoint; it is applied as the matrix product that it is, which is faster.
    """

    def __init__(self, patch_size: int, in_channels: int, width: int) -> None:
        """`patch_size` in pixels."""
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_channels, width, kernel_size=patch_size, stride=patch_size)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """Give one token a patch, row by row; n = (h / p) (w / p)."""
        patches = patchify(images, self.patch_size)  # b n (c p p)
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


def patchify(images: Float[Tensor, "b c h w"], patch_size: int) -> Float[Tensor, "b n m"]:
    """Cut images into patches, row by row; the m = c p p values go by channel, row, column."""
    b, c, h, w = images.shape
    p = patch_size
    cut = images.reshape(b, c, h // p, p, w // p, p)  # b c rows p columns p
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


class AttentionPool(nn.Module):
    """Pool tokens by one learned query (MAP head), with an MLP behind.

    Source: Zhai et al. 2022, arXiv:2106.04560, section 3.1; Lee et al. 2019, arXiv:1810.00825.
    """

    def __init__(self, width: int, heads: int, hidden: int, norm_eps: float) -> None:
        """`hidden` is the width inside the MLP."""
        super().__init__()
        self.heads = heads
        self.latent = nn.Parameter(torch.empty(1, 1, width))
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = Mlp(width, hidden)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b d"]:
        """Give one vector an image."""
        q = self.q(self.latent).expand(x.shape[0], -1, -1)
        q = q.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # b h 1 k
        kv = self.kv(x).unflatten(-1, (2, self.heads, -1))  # b n 2 h k
        k, v = kv.permute(2, 0, 3, 1, 4).unbind()
        y = self.proj(attention(q, k, v).transpose(1, 2).flatten(1))
        return y + self.mlp(self.norm(y))  # type: ignore[no-any-return]
