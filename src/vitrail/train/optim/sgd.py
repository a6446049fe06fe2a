"""SGD with momentum."""

from typing import Any

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from vitrail.train.optim.tensors import local


class Sgd(torch.optim.Optimizer):
    """torch's fused SGD with two gaps closed (torch 2.13), to the bit the same steps.

    Its kernel does not take parameters that are spread over ranks: here it gets this rank's parts.
    And it begins the momentum with the first step, as memory that nobody has written, which stays
    so if that step is refused: here it begins as zeros.

    Where the attribute `found_inf` is 1.0, a step changes nothing, whatever the gradients are.
    """

    found_inf: Tensor | None = None

    def __init__(self, groups: list[dict[str, Any]], lr: float, momentum: float) -> None:
        """`momentum` in [0, 1); groups have their own "weight_decay", added to the gradient."""
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Change every parameter that has a gradient."""
        for group in self.param_groups:
            learning = [each for each in group["params"] if each.grad is not None]
            buffers: list[Tensor | None] = [None] * len(learning)
            if group["momentum"]:
                for number, parameter in enumerate(learning):
                    state = self.state[parameter]
                    if not state:
                        state["momentum_buffer"] = torch.zeros_like(parameter)
                    buffers[number] = local(state["momentum_buffer"])
            sgd(
                [local(each) for each in learning],
                [local(each.grad) for each in learning],
                buffers,
                fused=True,
                found_inf=self.found_inf,
                weight_decay=group["weight_decay"],
                momentum=group["momentum"],
                lr=group["lr"],
                dampening=0.0,
                nesterov=False,
                maximize=False,
            )
