"""What test_sharded.py runs on every rank: the same steps with whole and with spread parameters.

Rank 0 writes how far both are apart in the end, by kind and optimiser, to the file that is named.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard

from tests.helpers import images_for, tiny_model
from vitrail.models import Backbone
from vitrail.train.ema import Ema
from vitrail.train.learning import OptimConfig
from vitrail.train.optim import make_optimizer, set_lr
from vitrail.train.parallel import residual_blocks, whole

LABELS = torch.tensor([0, 1])
STEPS, REFUSED = 5, (0, 3)
RATES = {"adamw": 2e-3, "sgd": 2e-2, "lamb": 5e-3, "muon": 2e-3}


def build(kind: str) -> Backbone:
    """Build a tiny model with rows that two ranks cannot cut in halves.

    It has no key biases: their gradient is nothing but rounding, which Adam's step would blow up.
    """
    sizes = {"vit": {"qkv_bias": "no_key"}, "resnet": {"width": 9}}[kind]
    return tiny_model(kind, classes=3, **sizes).eval()  # batch norms as in evaluation


def train(kind: str, name: str, *, spread: bool) -> list[dict[str, Tensor]]:
    """Take some steps, two of them refused; give weights, averages and state, whole."""
    model = build(kind)
    ema = Ema(model, 0.9)
    if spread:
        for each in (model, ema.model):
            for block in residual_blocks(each):
                fully_shard(block)
            fully_shard(each)
        ema.attach(model)
    optimizer = make_optimizer(model, OptimConfig(optimizer=name, layer_decay=0.9))  # type: ignore[arg-type]
    images = images_for(model)
    for step in range(STEPS):
        set_lr(optimizer, RATES[name] / (1 + step))
        nn.functional.cross_entropy(model(images), LABELS).backward()
        refused = torch.tensor(float(step in REFUSED))
        if step in REFUSED:
            poison(model)
        optimizer.found_inf = refused  # type: ignore[attr-defined]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ema.update(step, refused)
    state = {
        f"{parameter}/{key}": whole(value).clone()
        for parameter, each in model.named_parameters()
        for key, value in optimizer.state[each].items()
    }
    weights, averages = (
        {name: whole(each.detach()).clone() for name, each in one.named_parameters()}
        for one in (model, ema.model)
    )
    return [weights, averages, state]


def poison(model: nn.Module) -> None:
    """Make every gradient not a number."""
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.mul_(torch.nan)


def distance(mine: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Give the largest difference of a tensor, as a part of its length."""
    assert mine.keys() == other.keys() and mine
    return max(
        float((mine[name] - other[name]).norm() / other[name].norm().clamp(min=1e-6))
        for name in other
    )


def main(out: str) -> None:
    """Compare all optimisers on two kinds of models."""
    dist.init_process_group("gloo")
    found = {}
    for kind in ("vit", "resnet"):
        for name in RATES:
            spread, alone = train(kind, name, spread=True), train(kind, name, spread=False)
            before = {key: each.detach() for key, each in build(kind).named_parameters()}
            found[f"{kind}/{name}"] = {
                "weights": distance(spread[0], alone[0]),
                "averages": distance(spread[1], alone[1]),
                "state": distance(spread[2], alone[2]),
                "moved": min(float((alone[0][key] - before[key]).norm()) for key in before),
            }
    if dist.get_rank() == 0:
        Path(out).write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
