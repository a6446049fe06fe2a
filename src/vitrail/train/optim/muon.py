"""Muon: hidden matrices change by an orthogonal matrix, all else as by AdamW."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from vitrail.device import DTYPES, pick_precision
from vitrail.models import Backbone
from vitrail.models.layers import SwiGlu
from vitrail.train.optim.groups import decays
from vitrail.train.optim.tensors import cut, gather, local, take

PACKED = {
    "qkv": 3,
    "kv": 2,
}  # layers whose outputs are those of several matrices, one below another
POLYNOMIAL = (3.4445, -4.7750, 2.0315)  # steepest at zero; keeps values in about 0.7 to 1.2
ROUNDS = 5
LIKE_ADAMW = 0.2  # root mean square of a step of AdamW of rate 1, as measured by Liu et al.


class Muon(torch.optim.AdamW):
    """Momentum, orthogonalised, for the groups marked "hidden"; AdamW for the others.

    A hidden matrix w of r rows and c columns changes by -lr * 0.2 * sqrt(max(r, c)) * o, where o is
    nearly the orthogonal matrix next to its Nesterov momentum, found in bf16 where the hardware has
    it; it decays as by AdamW. The factor gives o the mean size of a step of AdamW, so that learning
    rate and weight decay mean the same for all parameters: Liu et al. 2025, arXiv:2502.16982,
    section 2.2. Kernels are matrices of one row an output channel. Queries, keys and values are
    three matrices, even if they lie in one.

    Where the attribute `found_inf` is 1.0, a step changes nothing, whatever the gradients are.
    Matrices that are spread over ranks are gathered, and every rank computes the whole.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/
    """

    found_inf: Tensor | None = None

    def __init__(
        self,
        groups: list[dict[str, Any]],
        lr: float,
        betas: tuple[float, float],
        momentum: float,
    ) -> None:
        """Take groups of `mark_hidden`. `betas` are AdamW's; `momentum` is of the matrices."""
        super().__init__(groups, lr=lr, betas=betas, fused=True)
        self.momentum = momentum
        # elsewhere bf16 would be far slower than float32
        self.dtype = DTYPES[pick_precision("auto", groups[0]["params"][0].device)]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Change every parameter that has a gradient."""
        groups = self.param_groups
        for group in groups:
            if group["hidden"]:
                for parameter, parts in zip(group["params"], group["parts"], strict=True):
                    if parameter.grad is not None:
                        self._change(parameter, parts, group["lr"], group["weight_decay"])
        self.param_groups = [group for group in groups if not group["hidden"]]
        try:
            super().step()
        finally:
            self.param_groups = groups

    def _change(self, parameter: nn.Parameter, parts: int, lr: float, weight_decay: float) -> None:
        """Change a matrix that is `parts` matrices of equally many rows."""
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        gradient, mean = local(parameter.grad), local(state["momentum_buffer"])
        take(mean, mean.lerp(gradient, 1 - self.momentum), self.found_inf)
        wanted = gather(gradient.lerp(mean, self.momentum).to(self.dtype), parameter)
        matrices = wanted.flatten(1).chunk(parts)
        way = torch.cat([orthogonal(matrix) for matrix in matrices]).view_as(wanted)
        length = LIKE_ADAMW * math.sqrt(max(matrices[0].shape))
        weight = local(parameter)
        changed = weight * (1 - lr * weight_decay)
        changed.add_(cut(way, parameter), alpha=-lr * length)
        take(weight, changed, self.found_inf)


def orthogonal(matrix: Tensor) -> Tensor:
    """Give nearly the orthogonal matrix next to `matrix`: its singular values become about 1.

    Five Newton-Schulz rounds of a polynomial of degree five. Zeros stay zeros.
    """
    a, b, c = POLYNOMIAL
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x: Tensor = wide / wide.norm().clamp(min=1e-7)  # then no singular value is above 1
    for _ in range(ROUNDS):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


def mark_hidden(model: nn.Module, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Cut every group in the hidden matrices and the rest.

    Hidden are matrices and kernels but for the one that reads the image and those of the classes.
    Their groups have "parts" too: how many matrices lie in each. So had Jordan et al.: the first
    layer, the last one and all that is no matrix is better left to AdamW.
    """
    ends = {model.stem_weight, *model.head_names} if isinstance(model, Backbone) else set()
    packed = _packed(model)
    marked = []
    for group in groups:
        pairs = list(zip(group["names"], group["params"], strict=True))
        for hidden in (True, False):
            chosen = [
                (name, each)
                for name, each in pairs
                if (decays(name, each) and name not in ends) == hidden
            ]
            if chosen:
                names, parameters = zip(*chosen, strict=True)
                part = {"params": list(parameters), "names": list(names), "hidden": hidden}
                if hidden:
                    part["parts"] = [packed.get(name, 1) for name in names]
                marked.append(group | part)
    return marked


def _packed(model: nn.Module) -> dict[str, int]:
    """Say which matrices, by name, are several, one below another, and how many."""
    found: dict[str, int] = {}
    for name, module in model.named_modules():
        parts = PACKED.get(name.rpartition(".")[2])
        if isinstance(module, SwiGlu):  # gate and value
            name, parts = f"{name}.fc1", 2
        if parts is not None:
            found |= {f"{name}.weight": parts, f"{name}.lora_b": parts}
    return found
