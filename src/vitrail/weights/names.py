"""Translating the names and layouts of tensors, by rules that are read in both directions.

A format says once which of its tensors hold which of ours; reading and writing follow from it, so
that a round trip gives every bit back.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vitrail.errors import WeightsError, did_you_mean

Turn = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Rule:
    """One tensor of ours and the foreign ones that hold its numbers.

    With `absent`, the file may do without: the value is then made.
    """

    ours: str
    theirs: tuple[str, ...]
    read: Callable[[Sequence[Tensor]], Tensor]
    write: Callable[[Tensor], Sequence[Tensor]]
    absent: Callable[[], Tensor] | None = None


def same(ours: str, theirs: str | None = None) -> Rule:
    """The same numbers in the same layout; under the same name, if no other is given."""
    return Rule(ours, (theirs or ours,), lambda parts: parts[0], lambda tensor: [tensor])


def counter(ours: str, theirs: str | None = None) -> Rule:
    """The number of batches that a norm has seen, which older files lack: zero then."""
    rule = same(ours, theirs)
    return Rule(ours, rule.theirs, rule.read, rule.write, lambda: torch.tensor(0))


def turned(ours: str, theirs: str, read: Turn, write: Turn) -> Rule:
    """The same numbers in another layout; `write` undoes `read`."""
    return Rule(ours, (theirs,), lambda parts: read(parts[0]), lambda tensor: [write(tensor)])


def joined(
    ours: str, theirs: Sequence[str], read: Turn | None = None, write: Turn | None = None
) -> Rule:
    """Several foreign tensors, one below the other in ours; each turned by `read` before."""
    forward, back = read or _as_it_is, write or _as_it_is
    return Rule(
        ours,
        tuple(theirs),
        lambda parts: torch.cat([forward(part) for part in parts]),
        lambda tensor: [back(part) for part in tensor.chunk(len(theirs))],
    )


def linear(ours: str, theirs: str, parts: tuple[str, str] = ("weight", "bias")) -> list[Rule]:
    """Weight and bias of one layer, called `theirs.weight` and `theirs.bias` or as `parts` say."""
    return [
        same(f"{ours}.{mine}", f"{theirs}.{their}")
        for mine, their in zip(("weight", "bias"), parts, strict=True)
    ]


def read_by(
    rules: Iterable[Rule], tensors: Mapping[str, Tensor], unused: Mapping[str, str], where: str
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Translate foreign tensors to ours.

    Args:
        unused: patterns of foreign names that a model does not need, each with the reason.
        where: the file, for errors.
    Returns:
        our tensors; and the foreign names that were left out, each with the reason.
    Raises:
        WeightsError: a tensor is missing, or one is neither used nor known to be unused.
    """
    rules = list(rules)
    known = {name for rule in rules for name in rule.theirs}
    needed = {name for rule in rules if rule.absent is None for name in rule.theirs}
    missing = sorted(needed - tensors.keys())
    left = sorted(tensors.keys() - known)
    dropped = {name: why for name in left if (why := _reason(name, unused))}
    unknown = [name for name in left if name not in dropped]
    if missing:
        near = did_you_mean(missing[0], unknown).replace("did you mean", "it has")
        raise WeightsError(f"{where}: lacks {missing[0]!r} ({len(missing)} tensors missing){near}")
    if unknown:
        raise WeightsError(
            f"{where}: has {unknown[0]!r}, which this architecture lacks "
            f"({len(unknown)} unknown tensors)"
        )
    result = {}
    for rule in rules:
        if rule.absent is not None and not all(name in tensors for name in rule.theirs):
            result[rule.ours] = rule.absent()
        else:
            result[rule.ours] = _read(rule, tensors, where)
    return result, dropped


def _read(rule: Rule, tensors: Mapping[str, Tensor], where: str) -> Tensor:
    """Apply a rule; tensors of shapes that it cannot take are the file's fault, not ours."""
    parts = [tensors[name] for name in rule.theirs]
    try:
        return rule.read(parts)
    except (RuntimeError, ValueError, IndexError, TypeError):
        shapes = " and ".join(str(list(part.shape)) for part in parts)
        raise WeightsError(
            f"{where}: {rule.theirs[0]!r} and what belongs to it have impossible shapes: {shapes}"
        ) from None


def write_by(rules: Iterable[Rule], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate our tensors to foreign ones; every one of ours has a rule."""
    rules = list(rules)
    left = tensors.keys() - {rule.ours for rule in rules}
    assert not left, f"no rule for {sorted(left)}"
    return {
        name: part.contiguous()
        for rule in rules
        for name, part in zip(rule.theirs, rule.write(tensors[rule.ours]), strict=True)
    }


def _reason(name: str, unused: Mapping[str, str]) -> str:
    return next((why for pattern, why in unused.items() if re.fullmatch(pattern, name)), "")


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor
