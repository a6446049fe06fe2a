"""How deep in the model a parameter lies."""

from torch import nn

from vitrail.train.parallel import residual_blocks


def count_depths(model: nn.Module) -> int:
    """Give the depth of what comes after the blocks: one more than there are blocks."""
    return len(residual_blocks(model)) + 1


def find_depths(model: nn.Module) -> dict[str, int]:
    """Give the depth of every parameter, by name, in the order of the model.

    0 is what comes before the blocks: patch embedding or stem, tokens, positions. A hybrid's
    residual stem is a part of its patch embedding. Then come the blocks, 1 to n, counted over all
    stages; what lies between two of them, as Swin's patch merging, goes with the one behind it.
    n + 1 is what comes after them: the last norm, attention pooling, heads.

    Relied on: a backbone defines its parts in the order in which it computes them.
    """
    numbers = {id(block): number for number, block in enumerate(residual_blocks(model), start=1)}
    inside = {
        f"{prefix}.{name}": numbers[id(module)]
        for prefix, module in model.named_modules()
        if id(module) in numbers
        for name, _ in module.named_parameters()
    }
    depths: dict[str, int] = {}
    reached = 0
    for name, _ in model.named_parameters():
        reached = inside.get(name, reached)
        beside = reached + 1 if reached else 0
        depths[name] = inside.get(name, beside)
    return depths
