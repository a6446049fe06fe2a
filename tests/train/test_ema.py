import copy

import pytest
import torch
from torch import Tensor, nn

from vitrail.train.ema import Ema, approach


def model_with_statistics() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def move(model: nn.Module, step: int) -> None:
    """Change everything that a step changes."""
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn(parameter.shape, generator=generator)
    model(torch.randn(2, 3, 5, 7, generator=generator))


def bits(model: nn.Module) -> dict[str, bytes]:
    return {name: each.numpy().tobytes() for name, each in model.state_dict().items()}


def test_the_average_has_its_closed_form() -> None:
    model = nn.Linear(3, 2)
    ema = Ema(model, 0.8)
    average = model.weight.detach().double().clone()
    for step in range(60):
        with torch.no_grad():
            model.weight += torch.randn(2, 3, generator=torch.Generator().manual_seed(step))
        ema.update(step)
        decay = min(0.8, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * model.weight.detach().double()
    torch.testing.assert_close(ema.model.weight.double(), average, rtol=1e-5, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in ema.model.parameters())
    assert not ema.model.training and model.training


def test_the_average_has_the_running_statistics_of_the_model() -> None:
    model = model_with_statistics()
    ema = Ema(model, 0.9)
    for step in range(3):
        move(model, step)
        ema.update(step)
    norm = model[1]
    assert norm.num_batches_tracked == 3 and (norm.running_mean != 0).all()
    kept = dict(ema.model.named_buffers())
    assert all(torch.equal(kept[name], buffer) for name, buffer in model.named_buffers())
    assert all(kept[name] is not buffer for name, buffer in model.named_buffers())
    before = kept["1.running_mean"].clone()
    model(torch.randn(2, 3, 5, 7))
    assert torch.equal(kept["1.running_mean"], before)  # only an update copies


def test_without_decay_the_average_is_the_model() -> None:
    model = nn.Linear(3, 2)
    ema = Ema(model, 0.0)
    ema.update(0)
    ema.update(1, torch.tensor(1.0))
    assert ema.model is model and model.weight.requires_grad


def test_a_refused_step_changes_no_bit() -> None:
    model, other = model_with_statistics(), model_with_statistics()
    ema, unaware = Ema(model, 0.9), Ema(other, 0.9)
    for step in range(4):
        move(model, step)
        refused = float(step in (0, 2))
        before = bits(ema.model)
        ema.update(step, torch.tensor(refused))
        assert (bits(ema.model) == before) == bool(refused)
        move(other, step)
        if not refused:
            unaware.update(step)
    assert bits(ema.model) == bits(unaware.model)


@pytest.mark.parametrize("weight", [0.9, 0.5, 1 - 0.999])
def test_the_flag_on_the_device_gives_the_same_bits(weight: float) -> None:
    """What other devices than the CPU do, on the CPU."""

    def drawn(seed: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return [torch.randn(shape, generator=generator) for shape in ((301, 7), (5,), ())]

    sources, plain, flagged, kept = drawn(0), drawn(1), drawn(1), drawn(1)
    kept[1][0] = -0.0  # an addition of nothing would change it
    before = copy.deepcopy(kept)
    approach(plain, sources, weight, None)
    approach(flagged, sources, weight, torch.tensor(0.0))
    approach(kept, [each * torch.nan for each in sources], weight, torch.tensor(1.0))
    for mine, expected in ((flagged, plain), (kept, before)):
        assert [each.numpy().tobytes() for each in mine] == [
            each.numpy().tobytes() for each in expected
        ]
    assert not torch.equal(plain[0], before[0])


def test_it_follows_new_tensors_once_attached() -> None:
    model = nn.Linear(3, 2)
    ema = Ema(model, 0.5)
    model.weight = nn.Parameter(torch.full((2, 3), 8.0))
    ema.model.weight = nn.Parameter(torch.zeros(2, 3), requires_grad=False)
    ema.attach(model)
    ema.update(99)
    assert (ema.model.weight == 4.0).all()
