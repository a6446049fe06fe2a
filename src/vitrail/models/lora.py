"""Low-rank matrices beside frozen linear layers. Source: Hu et al. 2022, arXiv:2106.09685."""

import copy
import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.errors import ConfigError, did_you_mean
from vitrail.models.base import Backbone

ADDED = ("lora_a", "lora_b")  # the parameters of a layer that are added to it


class LoraLinear(nn.Linear):
    """A linear layer with a product of two thin matrices: W x + b + (alpha / rank) B A x.

    W and b are those of the layer that it stands for, under their names. i inputs, o outputs, r
    rank: `lora_a` is A, r x i, and `lora_b` is B, o x r. The paper draws A from a Gaussian; here it
    is Kaiming-uniform with a = √5, that is uniform within 1 / √i, as in the authors' code. B is
    zero, so that the layer begins as it was.
    """

    def __init__(
        self, layer: nn.Linear, rank: int, alpha: float, generator: torch.Generator
    ) -> None:
        """Stand for `layer`, whose parameters are taken over, not copied."""
        inputs, outputs = layer.in_features, layer.out_features
        super().__init__(inputs, outputs, bias=layer.bias is not None, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.rank, self.alpha = rank, float(alpha)
        bound = float(inputs**-0.5)
        drawn = torch.empty(rank, inputs).uniform_(-bound, bound, generator=generator)
        self.lora_a = nn.Parameter(drawn.to(layer.weight))
        self.lora_b = nn.Parameter(layer.weight.new_zeros(outputs, rank))
        self.train(layer.training)

    @property
    def scale(self) -> float:
        """Factor of the product."""
        return self.alpha / self.rank

    def forward(self, input: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        """Apply both; the product of the matrices is never formed."""
        beside = F.linear(F.linear(input, self.lora_a), self.lora_b)
        return super().forward(input) + self.scale * beside

    def merged(self) -> nn.Linear:
        """Give the plain layer that computes the same: W + (alpha / rank) B A, added in float64."""
        product = self.lora_b.detach().double() @ self.lora_a.detach().double()
        weight = (self.weight.detach().double() + self.scale * product).to(self.weight.dtype)
        has_bias = self.bias is not None
        plain = nn.Linear(self.in_features, self.out_features, bias=has_bias, device="meta")
        plain.weight = nn.Parameter(weight)
        if has_bias:
            plain.bias = nn.Parameter(self.bias.detach().clone())
        return plain.train(self.training)


def add_lora(
    model: Backbone, rank: int, alpha: float, targets: Sequence[str], *, seed: int = 0
) -> tuple[str, ...]:
    """Freeze a model but for its class head, and add trainable matrices beside chosen layers.

    The model computes what it did, but for rounding, until it is trained. Tensors keep their names;
    `<layer>.lora_a` and `<layer>.lora_b` come beside them. The last norm is frozen with the rest:
    what it could learn, the linear head behind it can.

    Args:
        rank: at least 1 and at most the smaller side of each matrix.
        alpha: the product of the matrices is scaled by alpha / rank.
        targets: names of linear layers or their endings, such as attn.qkv; each must find one.
        seed: decides `lora_a`; the order of the layers in the model, nothing else of the process.
    Returns:
        the names of the layers.
    Raises:
        ConfigError: a target is no linear layer, the rank does not fit, or there are such matrices.
    """
    if lora_layers(model):
        raise ConfigError("lora: the model has such matrices already; merge them first")
    if rank < 1 or not 0 < alpha < math.inf:
        raise ConfigError(f"lora.rank={rank} must be at least 1, lora.alpha={alpha:g} above 0")
    chosen = _find_layers(model, targets)
    for name, layer in chosen.items():
        if rank > min(layer.weight.shape):
            raise ConfigError(
                f"lora.rank={rank} must be at most {min(layer.weight.shape)}, the smaller side of "
                f"{name} ({layer.out_features}x{layer.in_features})"
            )
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    for name, layer in chosen.items():
        model.set_submodule(name, LoraLinear(layer, rank, alpha, generator), strict=True)
    parameters = dict(model.named_parameters())
    for name in model.head_names:
        if name in parameters:  # a model without classes has none
            parameters[name].requires_grad_(True)
    return tuple(chosen)


def add_same_lora(model: Backbone, other: Backbone) -> Backbone:
    """Give a plain model matrices beside the same layers as `other` has them, if it has any."""
    layers = lora_layers(other)
    if layers:
        first = next(iter(layers.values()))
        add_lora(model, first.rank, first.alpha, tuple(layers))
    return model


def merge_lora(model: Backbone) -> Backbone:
    """Give a plain model that computes the same; without such matrices the model itself.

    The given model is left as it was.
    """
    return merge_in_place(copy.deepcopy(model)) if lora_layers(model) else model


def merge_in_place(model: Backbone) -> Backbone:
    """Replace each layer that has matrices beside it by a plain one that computes the same."""
    for name, layer in lora_layers(model).items():
        model.set_submodule(name, layer.merged(), strict=True)
    return model.requires_grad_(True)


def lora_layers(model: nn.Module) -> dict[str, LoraLinear]:
    """Find the layers that have matrices beside them, by name."""
    return {name: each for name, each in model.named_modules() if isinstance(each, LoraLinear)}


def adapter_names(model: Backbone) -> list[str]:
    """List the tensors that LoRA trains: its matrices and the head."""
    own = model.state_dict()
    added = [f"{name}.{part}" for name in lora_layers(model) for part in ADDED]
    return added + [name for name in model.head_names if name in own]


def _find_layers(model: Backbone, targets: Sequence[str]) -> dict[str, nn.Linear]:
    """Find the linear layers that the targets name, in the order of the model.

    Raises:
        ConfigError: a target names none.
    """
    heads = {name.rpartition(".")[0] for name in model.head_names}  # are trained themselves
    layers = {
        name: each
        for name, each in model.named_modules()
        if isinstance(each, nn.Linear) and name not in heads
    }
    if not layers or not targets:
        raise ConfigError(
            "lora.targets: name at least one layer"
            if layers
            else f"lora: {model.name or 'this model'} has no linear layer beside its head"
        )
    for target in targets:
        if not any(_is_named(name, target) for name in layers):
            known = _endings(layers)
            near = did_you_mean(target, known)
            raise ConfigError(
                f"lora.targets={target!r}: no linear layer is called so{near}; "
                f"there is {', '.join(known)}"
            )
    return {
        name: layer
        for name, layer in layers.items()
        if any(_is_named(name, target) for target in targets)
    }


def _is_named(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def _endings(names: Iterable[str]) -> list[str]:
    """Give the different last two parts of the names, as targets are usually given."""
    return list(dict.fromkeys(".".join(name.split(".")[-2:]) for name in names))
