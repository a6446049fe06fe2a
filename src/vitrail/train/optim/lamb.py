"""LAMB, for large batches."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from vitrail.train.optim.tensors import local, norms, take


class Lamb(torch.optim.Optimizer):
    """Adam whose step has a length in proportion to that of the matrix that it changes.

    With Adam's u = m / (sqrt(v) + eps) + weight_decay * w, both means corrected for their start at
    zero, w changes by -lr * |w| / |u| * u; lengths are of one parameter. What does not decay is not
    scaled either, as in NVIDIA's FusedLAMB, with which DeiT III was trained, and in timm. Unlike
    there, gradients are not clipped here: the loop has done it.

    Where the attribute `found_inf` is 1.0, a step changes nothing, whatever the gradients are.
    Works on parameters that are spread over ranks.

    Source: You et al. 2020, arXiv:1904.00962, algorithm 2.
    """

    found_inf: Tensor | None = None

    def __init__(
        self,
        groups: list[dict[str, Any]],
        lr: float,
        betas: tuple[float, float],
        eps: float = 1e-6,
    ) -> None:
        """`eps` as in the paper's experiments; groups have their own "weight_decay"."""
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Change every parameter that has a gradient."""
        for group in self.param_groups:
            learning = [each for each in group["params"] if each.grad is not None]
            if not learning:
                continue
            weights = [local(each) for each in learning]
            ways = [self._way(each, group) for each in learning]
            rates = torch.full((len(ways),), group["lr"], device=weights[0].device)
            if group["weight_decay"]:
                length, step = norms([*weights, *ways], learning[0]).chunk(2)
                rates = rates * torch.where((length > 0) & (step > 0), length / step, 1.0)
            for weight, way, rate in zip(weights, ways, rates.unbind(), strict=True):
                changed = torch.sub(weight, way.mul_(rate), out=way)
                take(weight, changed, self.found_inf)

    def _way(self, parameter: nn.Parameter, group: dict[str, Any]) -> Tensor:
        """Take the gradient of a parameter into its means; give u, or this rank's part of it."""
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        gradient, refused = local(parameter.grad), self.found_inf
        mean, squares, step = local(state["exp_avg"]), local(state["exp_avg_sq"]), state["step"]
        first, second = group["betas"]
        take(step, step + 1, refused)
        way = mean.lerp(gradient, 1 - first)
        take(mean, way, refused)
        scale = (squares * second).addcmul_(gradient, gradient, value=1 - second)
        take(squares, scale, refused)
        # their memory is used again: on the CPU, new memory costs more than what is computed in it
        known = _known(second, step).sqrt()
        torch.sqrt(squares, out=scale).add_(group["eps"] * known)
        torch.div(mean, scale, out=way).mul_(known / _known(first, step))
        return way.add_(local(parameter), alpha=group["weight_decay"])


def _known(beta: float, step: Tensor) -> Tensor:
    """Give 1 - beta^step: how much of a mean is not the zero that it began with.

    In float32 beta itself would be too coarse: 1 - 0.999 is wrong in its fifth digit.
    """
    return -torch.expm1(step * (math.log(beta) if beta else -math.inf))
