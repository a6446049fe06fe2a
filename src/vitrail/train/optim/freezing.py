"""Which parameters keep their values."""

from collections.abc import Collection
from fnmatch import fnmatchcase

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.errors import ConfigError, did_you_mean
from vitrail.train.learning import OptimConfig
from vitrail.train.optim.depth import count_depths, find_depths


class FrozenBatchNorm(nn.Module):
    """A batch norm that computes in training what it computes in evaluation, and learns nothing.

    It has the tensors of the norm that it stands for, under their names. It is none itself, so that
    neither `train()` nor a conversion to norms over all ranks sets it going again.
    """

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        """Stand for `norm`, whose parameters and statistics are taken over, not copied."""
        super().__init__()
        self.eps = norm.eps
        self.weight, self.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Normalise by the running statistics."""
        mean, variance = self.get_buffer("running_mean"), self.get_buffer("running_var")
        return F.batch_norm(x, mean, variance, self.weight, self.bias, eps=self.eps)


def freeze(model: nn.Module, config: OptimConfig) -> tuple[str, ...]:
    """Let the parameters that `freeze` and `freeze_depth` name keep their values.

    What is frozen already stays so. A batch norm of which no parameter is left to learn keeps its
    running statistics too, and uses them: it becomes a `FrozenBatchNorm`. To be called before the
    parameters go to an optimiser or are spread over ranks.

    Returns:
        names of the parameters that could learn before, in the order of the model.
    Raises:
        ConfigError: a pattern meets no parameter, there are fewer blocks, or none would be left to
            learn. The model is then as it was.
    """
    chosen = _by_name(model, config.freeze) | _by_depth(model, config.freeze_depth)
    learning = [name for name, each in model.named_parameters() if each.requires_grad]
    frozen = tuple(name for name in learning if name in chosen)
    if len(frozen) == len(learning):
        raise ConfigError(
            f"train.freeze={','.join(config.freeze)}, train.freeze_depth={config.freeze_depth}: "
            f"none of the {len(learning)} parameters is left to learn; freeze fewer"
        )
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    for name, module in list(model.named_modules()):
        learns = [parameter.requires_grad for parameter in module.parameters()]
        if isinstance(module, nn.BatchNorm2d) and learns and not any(learns):
            model.set_submodule(name, FrozenBatchNorm(module), strict=True)
    return frozen


def _by_name(model: nn.Module, patterns: Collection[str]) -> set[str]:
    """Find the parameters that a pattern names, or that lie below a module that it names.

    Raises:
        ConfigError: a pattern names none.
    """
    names = [name for name, _ in model.named_parameters()]
    found: set[str] = set()
    for pattern in patterns:
        met = {
            name
            for name in names
            if fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")
        }
        if not met:
            modules = [name for name, module in model.named_modules() if name]
            near = did_you_mean(pattern, [*modules, *names])
            raise ConfigError(
                f"train.freeze={pattern!r}: no parameter or module is called so"
                f"{near or f'; they begin with {_beginnings(names)}'}"
            )
        found |= met
    return found


def _by_depth(model: nn.Module, depth: int) -> set[str]:
    """Find the parameters of the first `depth` blocks and of all that comes before them.

    Raises:
        ConfigError: there are fewer blocks.
    """
    blocks = count_depths(model) - 1
    if depth > blocks:
        raise ConfigError(
            f"train.freeze_depth={depth} must be at most {blocks}, the blocks of this model"
        )
    return {name for name, each in find_depths(model).items() if depth and each <= depth}


def _beginnings(names: Collection[str]) -> str:
    return ", ".join(dict.fromkeys(name.split(".")[0] for name in names))
