import math
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.train.faults import Fault, Kind, faulty
from tests.train.guarded import ALONE, guarded_config, read_batch
from vitrail.train.blame import Repeated, repeat, weights_are_finite
from vitrail.train.data import open_training
from vitrail.train.parallel import recompute_blocks
from vitrail.train.scaler import Scaler
from vitrail.train.setup import Setup, set_up
from vitrail.train.step import backward, clip_gradients
from vitrail.train.team import Team

STEP = 5


def ready(photos: Path, **changes: object) -> Setup:
    config = guarded_config(photos, **changes)
    return set_up(config, open_training(config, {}), ALONE)


def again(setup: Setup, team: Team = ALONE) -> Repeated:
    scaler = Scaler(setup.config.precision, team.device)
    batch = read_batch(setup, STEP)
    return repeat(setup.objective, setup.model, batch, STEP, setup.config, team, scaler)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("kind", "module", "first"),
    [
        ("images", "head", "the images"),
        ("module", "blocks.1.mlp.fc1", "blocks.1.mlp.fc1 (forward)"),
        ("module", "head", "head (forward)"),
        ("loss", "head", "the loss itself"),
        ("gradient", "head", "head (backward)"),
    ],
)
def test_the_first_that_is_not_finite_is_named(
    kind: Kind, module: str, first: str, value: float, photos: Path
) -> None:
    with faulty(Fault(kind, (STEP,), value, module=module)) as hit:
        assert again(ready(photos)).seen.first == first
    assert hit == [STEP]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_named(value: float, photos: Path) -> None:
    setup = ready(photos)
    setup.model.get_parameter("blocks.0.attn.qkv.weight").data[3, 4] = value
    assert again(setup).seen.first == "blocks.0.attn.qkv.weight (weights)"


def test_a_gradient_that_goes_wrong_inside_is_named(photos: Path) -> None:
    setup = ready(photos)
    module = setup.model.get_submodule("blocks.0.mlp.fc2")
    module.register_full_backward_hook(lambda _, given, __: (given[0] * math.nan,))
    assert again(setup).seen.first == "blocks.0.mlp.fc1 (backward)"
    other = ready(photos)
    weight = other.model.get_parameter("blocks.0.mlp.fc2.weight")
    weight.register_hook(lambda gradient: gradient * math.inf)
    assert again(other).seen.first == "blocks.0.mlp.fc2.weight (gradient)"


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("accumulate", [1, 4])
def test_what_a_good_step_gives_is_repeated_to_the_bit(
    precision: str, accumulate: int, photos: Path
) -> None:
    setup = ready(photos, precision=precision, train__accumulate=accumulate)
    found = again(setup)
    scaler = Scaler(precision, ALONE.device)
    loss, _ = backward(setup.objective, read_batch(setup, STEP), STEP, setup.config, ALONE, scaler)
    norm = clip_gradients(setup.model, 1.0, scaler)
    assert (found.loss, found.norm) == (loss.item(), norm.item())
    assert found.seen.first == found.seen.shared == ""


def test_layers_are_measured(photos: Path) -> None:
    setup, outputs = ready(photos, train__accumulate=2), []
    found = again(setup)
    modules = [name for name, _ in setup.model.named_modules() if name]
    assert set(found.seen.layers) <= set(modules)
    assert list(found.seen.layers)[-1] == "head"
    block = setup.model.get_submodule("blocks.1")
    block.register_forward_hook(lambda *seen: outputs.append(seen[2]))
    block.register_forward_hook(lambda *seen: seen[2].retain_grad())
    again(setup)
    layer = found.seen.layers["blocks.1"]
    assert layer.largest == max(each.abs().max().item() for each in outputs)
    lengths = [each.grad.norm().item() for each in outputs]
    assert layer.gradient == pytest.approx(math.hypot(*lengths), rel=1e-6)


def test_nothing_is_left_changed(photos: Path) -> None:
    setup = ready(photos)
    model = setup.model
    model.register_buffer("running", torch.zeros(3))

    def count(*_: object) -> None:
        model.running.add_(1)

    model.register_forward_hook(count)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = [each.clone() for each in (*model.parameters(), *model.buffers())]
    grads = [each.grad for each in model.parameters()]
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with faulty(Fault("module", (STEP,))):
        again(setup)
    assert torch.equal(torch.rand(3), expected)
    after = [*model.parameters(), *model.buffers()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(a is each.grad for a, each in zip(grads, model.parameters(), strict=True))
    assert model.training and setup.objective.model is model
    hooks = [len(module._forward_hooks) for module in model.modules()]
    assert sum(hooks) == 1  # the one above


def test_a_failure_leaves_nothing_behind(photos: Path) -> None:
    setup = ready(photos)

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    handle = setup.model.get_submodule("norm").register_forward_hook(fail)
    with pytest.raises(ZeroDivisionError):
        again(setup)
    handle.remove()
    assert not any(module._forward_hooks for module in setup.model.modules())
    assert all(each.grad is None for each in setup.model.parameters())


def test_a_rank_alone_gives_its_own_part(photos: Path) -> None:
    setup = ready(photos)
    batch = read_batch(setup, STEP)
    half = type(batch)(*(part[4:] for part in batch[:4]), ())
    scaler = Scaler("float32", ALONE.device)
    team = Team(ALONE.device, 1, 2)
    found = repeat(setup.objective, setup.model, half, STEP, setup.config, team, scaler)
    # the same four images as a part of a batch of the whole size, by one process
    alone = Team(ALONE.device)
    only = setup.config.replace(train=setup.config.train.replace(batch_size=4))
    one = repeat(setup.objective, setup.model, half, STEP, only, alone, scaler)
    assert found.norm != one.norm  # drop path: the rows of the second half are its own
    plain = ready(photos, model__drop_path=0.0)
    found = repeat(plain.objective, plain.model, half, STEP, plain.config, team, scaler)
    one = repeat(plain.objective, plain.model, half, STEP, only, alone, scaler)
    assert found.loss == one.loss
    assert found.norm == pytest.approx(one.norm, rel=1e-6)


def test_fp16_measures_gradients_without_their_scale(photos: Path) -> None:
    setup = ready(photos, precision="fp16")
    scaled, plain = again(setup), again(ready(photos))
    assert scaled.norm == pytest.approx(plain.norm, rel=0.02)
    for name in ("blocks.0", "head"):
        ours, theirs = scaled.seen.layers[name], plain.seen.layers[name]
        assert ours.gradient == pytest.approx(theirs.gradient, rel=0.05)


def test_blocks_that_are_computed_twice_are_seen(photos: Path) -> None:
    setup, plain = ready(photos), again(ready(photos))
    recompute_blocks(setup.model)
    assert again(setup) == plain
    module = setup.model.get_submodule("blocks.1.mlp.fc1")
    module.register_forward_hook(lambda *seen: seen[2] * math.nan)
    assert again(setup).seen.first == "blocks.1.mlp.fc1 (forward)"


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
def test_of_a_compiled_model_the_modules_are_seen(photos: Path) -> None:
    setup = ready(photos, compile=True)
    setup.model.compile(backend="eager")
    batch, scaler = read_batch(setup, STEP), Scaler("float32", ALONE.device)
    backward(setup.objective, batch, STEP, setup.config, ALONE, scaler)
    with faulty(Fault("module", (STEP,), module="blocks.0")):
        assert again(setup).seen.first == "blocks.0 (forward)"


def test_weights_are_finite() -> None:
    model = nn.BatchNorm1d(3)
    assert weights_are_finite(model)
    assert model.running_mean is not None
    model.running_mean[1] = math.inf
    assert not weights_are_finite(model)
