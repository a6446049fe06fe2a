"""The parts of a Transformer encoder. b images, n tokens, d width, h heads, k = d / h."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.models.base import Record
from vitrail.models.posembed import Turn, rotate

Bias = Literal["full", "no_key", "none"]  # of the queries, keys and values

# Below this many tokens PyTorch's fused bf16 attention on the CPU trains slower than the three
# plain operations: 5 times with 17 or 65 tokens, twice with 197, as fast from 400 to 640 (torch
# 2.13, one AMX core; benchmarks/attention.py). Above it is faster, and keeps no n x n matrix.
EXPLICIT_BELOW = 448


def attention(
    q: Float[Tensor, "b h m k"], k: Float[Tensor, "b h n k"], v: Float[Tensor, "b h n k"]
) -> Float[Tensor, "b h m k"]:
    """Scaled dot-product attention, by the kernel that is fastest for these tensors.

    Source: Vaswani et al. 2017, arXiv:1706.03762, equation 1.
    """
    trains_bf16_on_cpu = q.requires_grad and q.dtype == torch.bfloat16 and q.device.type == "cpu"
    if trains_bf16_on_cpu and k.shape[2] < EXPLICIT_BELOW:
        return attention_weights(q, k) @ v
    return F.scaled_dot_product_attention(q, k, v)


def attention_weights(
    q: Float[Tensor, "b h m k"], k: Float[Tensor, "b h n k"]
) -> Float[Tensor, "b h m n"]:
    """How much each token (row) takes from each token (column): softmax(q kᵀ / √k)."""
    scale = float(q.shape[-1] ** -0.5)
    return ((q * scale) @ k.transpose(-2, -1)).softmax(dim=-1)


class Attention(nn.Module):
    """Multi-head self-attention (MSA). Source: Dosovitskiy et al. 2021, appendix A."""

    def __init__(
        self, width: int, heads: int, *, bias: Bias = "full", norm_eps: float | None = None
    ) -> None:
        """`width` features a token, shared out over `heads`.

        With `norm_eps`, the queries and keys of each head are normalised (QK norm; Dehghani et al.
        2023, arXiv:2302.05442, section 2).
        """
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=bias == "full")
        self.q_bias, self.v_bias = (
            nn.Parameter(torch.empty(width)) if bias == "no_key" else None for _ in range(2)
        )
        self.q_norm, self.k_norm = (
            nn.Identity() if norm_eps is None else nn.LayerNorm(width // heads, eps=norm_eps)
            for _ in range(2)
        )
        self.proj = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "b n d"], turn: Turn | None = None
    ) -> Float[Tensor, "b n d"]:
        """Let every token look at all; `turn` tells the places, see `posembed.rotate`."""
        q, k, v = self._split(x, turn)
        y = attention(q, k, v)  # b h n k
        return self.proj(y.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def weights(
        self, x: Float[Tensor, "b n d"], turn: Turn | None = None
    ) -> Float[Tensor, "b h n n"]:
        """Compute the attention that `forward` applies to the same input; each row sums to one.

        The fused kernel of `forward` never forms this matrix; it is made here only when asked for.
        """
        q, k, _ = self._split(x, turn)
        return attention_weights(q, k)

    def _split(self, x: Tensor, turn: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Project to queries, keys and values, each b h n k."""
        bias: Tensor | None = self.qkv.bias
        if self.q_bias is not None and self.v_bias is not None:
            bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = F.linear(x, self.qkv.weight, bias).unflatten(-1, (3, self.heads, -1))  # type: ignore[no-untyped-call]  # b n 3 h k
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind()
        q, k = self.q_norm(q), self.k_norm(k)
        if turn is not None:
            q, k = rotate(q, turn), rotate(k, turn)
        return q, k, v


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
        stays = torch.rand(x.shape[0], *[1] * (x.ndim - 1), device=x.device) >= self.rate
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
