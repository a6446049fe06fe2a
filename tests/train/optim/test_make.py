"""Every optimiser: what it moves, that it can be refused a step, and that it goes on to the bit."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.helpers import TINY, images_for, tiny_model
from vitrail.models import Backbone
from vitrail.models.lora import add_lora
from vitrail.train.learning import OptimConfig
from vitrail.train.optim import freeze, make_optimizer, set_lr

OPTIMIZERS = ["adamw", "sgd", "lamb", "muon"]
KINDS = ["vit", "swin", "resnet", "bit", "hybrid"]
KEYS = {  # of the state of a matrix
    "adamw": {"step", "exp_avg", "exp_avg_sq"},
    "sgd": {"momentum_buffer"},
    "lamb": {"step", "exp_avg", "exp_avg_sq"},
    "muon": {"momentum_buffer"},
}


def settings(name: str, **changes: Any) -> OptimConfig:
    return OptimConfig(optimizer=name, lr=1e-2, **changes)  # type: ignore[arg-type]


def set_gradients(model: nn.Module, step: int, scale: float = 1.0) -> None:
    """Draw the gradients of a step; some are far smaller than others."""
    generator = torch.Generator().manual_seed(step)
    for number, parameter in enumerate(model.parameters()):
        if parameter.requires_grad:
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.grad = drawn * scale * 10.0 ** -(number % 5)


def take(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: int,
    refused: float | None = None,
    scale: float = 1.0,
) -> None:
    """Take one step, by the rate of its number."""
    set_gradients(model, step, scale)
    set_lr(optimizer, 1e-2 / (1 + step))
    flag = None if refused is None else torch.tensor(refused)
    optimizer.found_inf = flag  # type: ignore[attr-defined]
    optimizer.step()


def everything(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Copy weights and state, by name."""
    found = {name: each.detach().clone() for name, each in model.named_parameters()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            assert isinstance(value, Tensor)
            found[f"{name}/{key}"] = value.clone()
    return found


def assert_same_bits(mine: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert mine.keys() == other.keys()
    for name, tensor in mine.items():
        assert torch.equal(tensor.view(torch.int32), other[name].view(torch.int32)), name


def small() -> Backbone:
    """Give a model that has a negative zero, which an addition of nothing would change."""
    model = tiny_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.view(-1)[0] = -0.0
    return model


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_learns(kind: str, name: str) -> None:
    model = tiny_model(kind)
    optimizer = make_optimizer(model, settings(name, layer_decay=0.9))
    images, labels = images_for(model), torch.tensor([1, 2])
    before = {key: each.detach().clone() for key, each in model.named_parameters()}
    losses = []
    for _ in range(4):
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.97 * losses[0]
    still = [key for key, each in model.named_parameters() if torch.equal(each, before[key])]
    assert still == []


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("kind", TINY)
def test_every_parameter_is_in_one_group(kind: str, name: str) -> None:
    model = tiny_model(kind)
    optimizer = make_optimizer(model, settings(name, layer_decay=0.5, weight_decay=0.3))
    grouped = [id(each) for group in optimizer.param_groups for each in group["params"]]
    assert sorted(grouped) == sorted(id(each) for each in model.parameters())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_group_gets_its_part_of_the_rate(name: str) -> None:
    optimizer = make_optimizer(tiny_model(), settings(name, layer_decay=0.5))
    scales = [group["lr_scale"] for group in optimizer.param_groups]
    assert set(scales) == {0.125, 0.25, 0.5, 1.0}
    assert [group["lr"] for group in optimizer.param_groups] == [1e-2 * each for each in scales]
    set_lr(optimizer, 0.3)
    assert [group["lr"] for group in optimizer.param_groups] == [0.3 * each for each in scales]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_smaller_rate_means_a_shorter_step(name: str) -> None:
    slow, fast = small(), small()
    for model, layer_decay in ((slow, 0.5), (fast, 1.0)):
        optimizer = make_optimizer(model, settings(name, layer_decay=layer_decay))
        take(model, optimizer, 0)
    begun, slowly, quickly = (dict(each.named_parameters()) for each in (small(), slow, fast))
    for key, scale in (("pos_embed", 1 / 8), ("blocks.1.mlp.fc1.weight", 1 / 2), ("head.bias", 1)):
        way, whole = (each[key] - begun[key] for each in (slowly, quickly))
        torch.testing.assert_close(way, whole * scale, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, 1.0])
@pytest.mark.parametrize("first", [True, False])
def test_a_refused_step_changes_no_bit(name: str, bad: float, first: bool) -> None:
    model, other = small(), small()
    optimizer, unaware = (make_optimizer(each, settings(name)) for each in (model, other))
    if not first:
        for one, taker in ((model, optimizer), (other, unaware)):
            take(one, taker, 0)
        before = everything(model, optimizer)
    take(model, optimizer, 1, 1.0, bad)
    if first:
        weights = {key: each.detach() for key, each in model.named_parameters()}
        begun = {key: each.detach() for key, each in small().named_parameters()}
        assert_same_bits(weights, begun)
        states = [each for state in optimizer.state.values() for each in state.values()]
        assert all((each == 0).all() for each in states)
    else:
        assert_same_bits(everything(model, optimizer), before)
    for step in (2, 3):  # goes on as if it had never been; 0.0 lets a step pass like no flag
        take(model, optimizer, step, 0.0)
        take(other, unaware, step)
    assert_same_bits(everything(model, optimizer), everything(other, unaware))


class Asynchronous(TorchDispatchMode):
    """Raises where the host would wait for a number of the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket is not torch.ops.aten._local_scalar_dense
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_nothing_is_waited_for(name: str) -> None:
    model = tiny_model()
    optimizer = make_optimizer(model, settings(name))
    with Asynchronous():
        for step in range(2):
            take(model, optimizer, step, 1.0 - step)
    with Asynchronous(), pytest.raises(AssertionError):
        torch.ones(()).item()


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("done", [0, 1, 3])
def test_state_put_back_goes_on_to_the_bit(name: str, done: int) -> None:
    model = small()
    optimizer = make_optimizer(model, settings(name, layer_decay=0.7))
    for step in range(done):
        take(model, optimizer, step)
    saved = everything(model, optimizer)
    later = small()
    with torch.no_grad():
        for key, parameter in later.named_parameters():
            parameter.copy_(saved[key])
    resumed = make_optimizer(later, settings(name, layer_decay=0.7))
    resumed.state.clear()
    own = dict(later.named_parameters())
    for full, value in saved.items():
        key, _, what = full.partition("/")
        if what:
            resumed.state[own[key]][what] = value.clone()
    for step in range(done, done + 3):
        take(model, optimizer, step, 0.0)
        take(later, resumed, step, 0.0)
    assert_same_bits(everything(model, optimizer), everything(later, resumed))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_of_a_matrix(name: str) -> None:
    model = tiny_model()
    optimizer = make_optimizer(model, settings(name))
    take(model, optimizer, 0)
    state = optimizer.state[model.get_parameter("blocks.0.mlp.fc1.weight")]
    assert set(state) == KEYS[name]
    assert all(each.dtype == torch.float32 for each in state.values())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_has_no_gradient_stays(name: str) -> None:
    model = tiny_model()
    optimizer = make_optimizer(model, settings(name))
    before = everything(model, optimizer)
    optimizer.step()
    assert_same_bits(everything(model, optimizer), before)
    set_gradients(model, 0)
    model.get_parameter("head.weight").grad = None
    optimizer.step()
    after = everything(model, optimizer)
    assert torch.equal(after["head.weight"], before["head.weight"])
    assert not torch.equal(after["head.bias"], before["head.bias"])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_frozen_parameters_are_left_out(name: str) -> None:
    model, config = tiny_model(), settings(name, freeze=("blocks.0", "pos_embed"))
    frozen = freeze(model, config)
    optimizer = make_optimizer(model, config)
    before = everything(model, optimizer)
    own = {id(each) for group in optimizer.param_groups for each in group["params"]}
    learning = {id(each) for each in model.parameters() if each.requires_grad}
    assert own == learning and len(frozen) == 13
    take(model, optimizer, 0)
    after = everything(model, optimizer)
    assert {key for key in before if torch.equal(after[key], before[key])} == set(frozen)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_lora_learns(name: str) -> None:
    model = tiny_model()
    add_lora(model, 2, 4.0, ("attn.qkv", "mlp.fc2"))
    optimizer = make_optimizer(model, settings(name))
    before = everything(model, optimizer)
    for step in range(2):
        take(model, optimizer, step)
    after = everything(model, optimizer)
    moved = {key for key in before if not torch.equal(after[key], before[key])}
    assert moved == {key for key, each in model.named_parameters() if each.requires_grad}


def formerly(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """Build AdamW in the simplest way: matrices decay."""
    tables = ("token", "pos_embed")
    decayed = [
        each
        for name, each in model.named_parameters()
        if each.dim() > 1 and not name.endswith(tables)
    ]
    kept = [each for each in model.parameters() if not any(each is other for other in decayed)]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay, "lr_scale": 1.0},
        {"params": kept, "weight_decay": 0.0, "lr_scale": 1.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, config.beta2), fused=True)


def torch_sgd(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """Build torch's own SGD for the same groups."""
    groups = make_optimizer(model, config).param_groups
    return torch.optim.SGD(
        [{key: group[key] for key in ("params", "weight_decay", "lr_scale")} for group in groups],
        lr=config.lr,
        momentum=config.beta1,
        fused=True,
    )


@pytest.mark.parametrize(
    ("config", "plain"),
    [
        (OptimConfig(weight_decay=0.3, beta2=0.95), formerly),
        (OptimConfig(optimizer="sgd", weight_decay=0.01), torch_sgd),
        (OptimConfig(optimizer="sgd", beta1=0.0, layer_decay=0.8), torch_sgd),
    ],
)
def test_equal_to_torchs_to_the_bit(
    config: OptimConfig, plain: Callable[[nn.Module, OptimConfig], torch.optim.Optimizer]
) -> None:
    model, other = tiny_model(), tiny_model()
    for one, optimizer in (
        (model, make_optimizer(model, config)),
        (other, plain(other, config)),
    ):
        for step in range(4):
            take(one, optimizer, step)
    assert_same_bits(dict(model.state_dict()), dict(other.state_dict()))
