from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.helpers import tiny_model
from tests.train.optim.test_make import set_gradients
from vitrail.train.learning import OptimConfig
from vitrail.train.optim import make_optimizer, set_lr
from vitrail.train.optim.lamb import Lamb

SHAPES = ((5, 7), (4, 3, 2, 2), (6,), (1,))
DECAY = 0.2


def groups(parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
    """Let all but the last two decay."""
    return [
        {"params": parameters[:2], "weight_decay": DECAY},
        {"params": parameters[2:], "weight_decay": 0.0},
    ]


def drawn() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def gradient(step: int, number: int) -> Tensor:
    generator = torch.Generator().manual_seed(10 * step + number)
    return torch.randn(SHAPES[number], generator=generator) * 10.0**-number


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.9)])
def test_steps_have_their_closed_form(betas: tuple[float, float]) -> None:
    parameters = drawn()
    optimizer = Lamb(groups(parameters), 0.1, betas)
    expected = [each.detach().double() for each in parameters]
    means = [torch.zeros_like(each) for each in expected]
    squares = [torch.zeros_like(each) for each in expected]
    first, second = betas
    for step in range(30):
        for number, parameter in enumerate(parameters):
            parameter.grad = gradient(step, number)
            slope = parameter.grad.double()
            means[number] = first * means[number] + (1 - first) * slope
            squares[number] = second * squares[number] + (1 - second) * slope**2
            mean = means[number] / (1 - first ** (step + 1))
            deviation = (squares[number] / (1 - second ** (step + 1))).sqrt()
            way, ratio = mean / (deviation + 1e-6), 1.0
            if number < 2:
                way = way + DECAY * expected[number]
                ratio = float(expected[number].norm() / way.norm())
            expected[number] = expected[number] - 0.1 * ratio * way
        optimizer.step()
    for parameter, value in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.double(), value, rtol=2e-5, atol=2e-6)


def test_the_first_step_has_the_length_of_the_matrix() -> None:
    matrix, zeros, bias = (
        nn.Parameter(torch.full(shape, value))
        for shape, value in (((3, 4), 2.0), ((2, 2), 0.0), ((3,), 2.0))
    )
    optimizer = Lamb(groups([matrix, zeros, bias]), 0.1, (0.9, 0.999))
    for parameter in (matrix, zeros, bias):
        parameter.grad = torch.full_like(parameter, 1e-2)
    optimizer.step()
    for parameter, expected in ((matrix, 1.8), (zeros, -0.1), (bias, 1.9)):  # all others as Adam
        wanted = torch.full_like(parameter, expected)
        torch.testing.assert_close(parameter, wanted, rtol=2e-4, atol=0)


def test_a_matrix_that_nothing_pulls_at_stays() -> None:
    zeros = nn.Parameter(torch.zeros(2, 3))
    optimizer = Lamb([{"params": [zeros], "weight_decay": DECAY}], 0.1, (0.9, 0.999))
    zeros.grad = torch.zeros(2, 3)
    optimizer.step()
    assert (zeros == 0).all()


@pytest.mark.peer
@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
def test_equal_to_timms(weight_decay: float) -> None:
    theirs = pytest.importorskip("timm.optim").Lamb
    model, other = tiny_model(), tiny_model()
    config = OptimConfig(optimizer="lamb", lr=1e-2, weight_decay=weight_decay, layer_decay=0.8)
    optimizer = make_optimizer(model, config)
    peer = theirs(
        [
            {key: group[key] for key in ("params", "weight_decay", "lr_scale")}
            for group in make_optimizer(other, config).param_groups
        ],
        betas=(config.beta1, config.beta2),
        max_grad_norm=None,  # the loop clips
    )
    for step in range(12):
        for one, taker in ((model, optimizer), (other, peer)):
            set_gradients(one, step)
            set_lr(taker, 1e-2 / (1 + step))
            taker.step()
    begun = dict(tiny_model().named_parameters())
    for (name, parameter), expected in zip(
        model.named_parameters(), other.parameters(), strict=True
    ):
        assert (parameter - begun[name]).norm() > 1e-3
        torch.testing.assert_close(parameter, expected, rtol=1e-5, atol=1e-6)
