"""The state of a training as named tensors, and back."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vitrail.errors import RunError
from vitrail.train.ema import Ema
from vitrail.weights.tensors import fill


def pack(
    model: nn.Module, optimizer: torch.optim.Optimizer, ema: Ema
) -> dict[str, dict[str, Tensor]]:
    """Give every tensor that the next step depends on, by file and name."""
    tensors = {"model": dict(model.state_dict())}
    if ema.decay:
        tensors["ema"] = dict(ema.model.state_dict())
    tensors["optimizer"] = {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state[parameter].items()
    }
    return tensors


def unpack(
    tensors: Mapping[str, Mapping[str, Tensor]],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    ema: Ema,
) -> None:
    """Put the tensors of `pack` back where they came from.

    Raises:
        RunError, WeightsError: they are of another model.
    """
    fill(model, tensors["model"], "checkpoint model")
    if ema.decay:
        fill(ema.model, tensors["ema"], "checkpoint ema")
    parameters = dict(model.named_parameters())
    for full_name, value in tensors["optimizer"].items():
        name, _, key = full_name.rpartition("/")
        if name not in parameters:
            raise RunError(f"checkpoint optimizer: {name!r} is not a parameter of this model")
        parameter = parameters[name]
        # AdamW's step counter lives where the fused kernel wants it: beside the parameter
        optimizer.state[parameter][key] = value.to(parameter.device)
