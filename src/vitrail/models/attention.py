"""Self-attention. b images, m and n tokens, d width, h heads, k = d / h."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

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
        qkv = self.qkv(x)
        if self.q_bias is not None and self.v_bias is not None:
            bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
            qkv = qkv + bias.to(qkv.dtype)
        qkv = qkv.unflatten(-1, (3, self.heads, -1))  # b n 3 h k
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind()
        q, k = self.q_norm(q), self.k_norm(k)
        if turn is not None:
            q, k = rotate(q, turn), rotate(k, turn)
        return q, k, v
