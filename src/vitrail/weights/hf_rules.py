"""Which tensors of transformers hold which of ours, in both directions."""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from vitrail.errors import WeightsError
from vitrail.models import BackboneConfig
from vitrail.models.posembed import sincos_positions
from vitrail.models.vit_config import ViTConfig
from vitrail.weights.hf_names import (
    CLASS,
    DINOV2_GATED,
    DINOV2_SPLIT,
    DINOV3_GATED,
    DISTILLATION,
    PREFIXES,
    RENAMED,
    TABLE,
    TABLES,
    TEACHER,
    UNUSED,
    Table,
)
from vitrail.weights.infer import state_names
from vitrail.weights.names import Rule, counter, joined, same, turned

MARKS = (  # one of these is in every family
    r"embeddings\.patch_embeddings\.(projection\.)?weight",
    r"embedder\.embedder\.convolution\.weight",
)
HEADS = ("classifier.", "cls_classifier.", "distillation_classifier.")


def is_named_so(names: Iterable[str]) -> bool:
    """Whether tensors are called as transformers calls them."""
    anywhere = re.compile(rf"(\w+\.)?({'|'.join(MARKS)})")
    return any(anywhere.fullmatch(name) for name in names)


def plain_names(names: Iterable[str], family: str, where: str) -> dict[str, str]:
    """Give each name without prefix and as files have it; and what it is called in this file.

    Raises:
        WeightsError: two names mean the same tensor.
    """
    result: dict[str, str] = {}
    for name in names:
        plain = name.removeprefix(PREFIXES[family])
        for pattern, older in RENAMED.get(family, {}).items():
            plain = re.sub(pattern, older, plain)
        if plain in result:
            raise WeightsError(f"{where}: has both {result[plain]!r} and {name!r}")
        result[plain] = name
    return result


def rules(config: BackboneConfig, family: str, *, split: bool = False) -> list[Rule]:
    """Say which tensor of transformers holds which of ours.

    Args:
        split: whether DINOv2's gate and value are two tensors, as transformers 5 has them inside.
    """
    table = _table(config, family, split)
    result = []
    for name in state_names(config):
        theirs = _theirs(name, table)
        if isinstance(theirs, tuple):
            result.append(joined(name, theirs))
        elif name.endswith("num_batches_tracked"):
            result.append(counter(name, theirs))
        elif name == "head.weight" and (half := _half_read(config, family)):
            result.append(_widened(name, theirs, half))
        else:
            result.append(same(name, theirs))
    return result


def _table(config: BackboneConfig, family: str, split: bool) -> Table:
    if isinstance(config, ViTConfig):
        if config.distilled and config.classes:
            return TEACHER
        if config.mlp == "swiglu" and family == "dinov3_vit":
            return DINOV3_GATED
        if config.mlp == "swiglu":
            return DINOV2_SPLIT if split else DINOV2_GATED
    return TABLES[family]


def _theirs(name: str, table: Table) -> str | tuple[str, ...]:
    """Translate one name: the part that the table has, then what is left."""
    for pattern, theirs in table.items():
        match = re.match(rf"{pattern}(?=\.|$)", name)
        if match is None:
            continue
        rest = name[match.end() :]
        if isinstance(theirs, str):
            return match.expand(theirs) + rest
        return tuple(match.expand(each) + rest for each in theirs)
    raise AssertionError(f"no name for {name}")


def _half_read(config: BackboneConfig, family: str) -> str:
    """Which half of what DINOv2's head sees ours has: class token, mean, or both (`""`)."""
    if not isinstance(config, ViTConfig) or not family.startswith("dinov2"):
        return ""
    return "" if config.pool == "token+mean" else config.pool


def _widened(ours: str, theirs: str, half: str) -> Rule:
    """A head that sees both halves and has zeros for one."""

    def read(weight: Tensor) -> Tensor:
        width = weight.shape[-1] // 2
        return weight[..., :width] if half == "token" else weight[..., width:]

    def write(weight: Tensor) -> Tensor:
        parts = [weight, torch.zeros_like(weight)]
        return torch.cat(parts if half == "token" else parts[::-1], dim=1)

    return turned(ours, theirs, read, write)


def unused(config: BackboneConfig) -> dict[str, str]:
    """Give the patterns of names that such a model does not need, and why."""
    result = dict(UNUSED)
    if isinstance(config, ViTConfig):
        if config.positions == "sincos":
            result[re.escape(TABLE)] = "computed from the sizes"
        if not config.registers:
            result[r"embeddings\.register_tokens"] = "there are no registers"
    return result


def fold_positions(
    tensors: Mapping[str, Tensor], config: BackboneConfig, family: str
) -> dict[str, Tensor]:
    """Add the rows of the prefix tokens to these, where our table has patches only.

    What does not fit comes back as it was: its shape is refused later.
    """
    result = dict(tensors)
    names = _tokens_with_rows(config, family)
    if not names or TABLE not in tensors or tensors[TABLE].ndim != 3:
        return result
    table = tensors[TABLE]
    for i, name in enumerate(names):
        token, row = result.get(name), table[:, i : i + 1]
        if token is None or token.shape != row.shape:
            return dict(tensors)
        result[name] = token + row
    result[TABLE] = table[:, len(names) :]
    return result


def unfold_positions(
    tensors: Mapping[str, Tensor], config: BackboneConfig, family: str
) -> dict[str, Tensor]:
    """Undo `fold_positions`: prefix tokens get rows of zeros. Fixed positions become a table."""
    result = dict(tensors)
    if not isinstance(config, ViTConfig) or config.positions == "rotary":
        return result
    count = len(_tokens_with_rows(config, family))
    if config.positions == "sincos":
        result[TABLE] = sincos_positions(config.grid, config.width).to(result[CLASS])
    if count:
        table = result[TABLE]
        none = table.new_zeros(1, count, config.width)
        result[TABLE] = torch.cat([none, table], dim=1)
    return result


def _tokens_with_rows(config: BackboneConfig, family: str) -> list[str]:
    """List the prefix tokens that have rows in the table there but not here."""
    if not isinstance(config, ViTConfig) or config.positions == "rotary":
        return []
    if config.positions == "learned" and config.prefix_positions:
        return []
    return [CLASS, DISTILLATION] if family == "deit" else [CLASS]


def additions(config: BackboneConfig, family: str) -> dict[str, Tensor]:
    """Give the tensors that transformers expects and our models do not have."""
    if not isinstance(config, ViTConfig) or not family.startswith("dino"):
        return {}
    shape = (1, 1, config.width) if family == "dinov3_vit" else (1, config.width)
    result = {"embeddings.mask_token": torch.zeros(shape)}
    if family == "dinov3_vit" and not config.registers:
        result["embeddings.register_tokens"] = torch.zeros(1, 0, config.width)
    return result


def with_prefix(tensors: Mapping[str, Tensor], family: str) -> dict[str, Tensor]:
    """Name tensors as in a model with a head."""
    prefix = PREFIXES[family]
    return {
        name if name.startswith(HEADS) else prefix + name: tensor
        for name, tensor in tensors.items()
    }
