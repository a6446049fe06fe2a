import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vitrail.train.guard import MOST_OVERFLOWS, WARM, Guard, Trouble
from vitrail.train.learning import GuardConfig

CPU = torch.device("cpu")
NAN, INF = math.nan, math.inf


def guard(spike: float | None = 8.0, *, scaled: bool = False) -> Guard:
    return Guard(GuardConfig(spike=spike), CPU, batch_size=16, scaled=scaled)


def watch(guard: Guard, losses: "list[float] | np.ndarray", norm: float = 1.0) -> list[bool]:
    """Give which of the steps were refused."""
    return [
        bool(guard.watch(step, torch.tensor(float(loss)), torch.tensor(norm)))
        for step, loss in enumerate(losses)
    ]


def state(guard: Guard) -> dict[str, list[float]]:
    return {name: tensor.flatten().tolist() for name, tensor in guard.tensors().items()}


@pytest.mark.parametrize(
    ("loss", "norm", "kind", "what"),
    [
        (NAN, 1.0, "loss", "the loss is nan"),
        (INF, 1.0, "loss", "the loss is inf"),
        (-INF, 1.0, "loss", "the loss is -inf"),
        (1.0, NAN, "gradient", "the length of the gradient is nan"),
        (1.0, INF, "gradient", "the length of the gradient is inf"),
        (INF, NAN, "loss", "the loss is inf"),
        (10.0, 1.0, "spike", "the loss is 10, and a spike above 4"),
    ],
)
def test_a_bad_step_is_refused_and_told(loss: float, norm: float, kind: str, what: str) -> None:
    one = guard()
    assert not any(watch(one, [1.0] * WARM)) and one.look() is None
    before = state(one)
    refused = one.watch(2**24 + 1, torch.tensor(loss), torch.tensor(norm))
    assert refused.dtype == torch.float32 and refused.shape == () and refused == 1
    trouble = one.look()
    assert trouble is not None and trouble.what() == what
    assert (trouble.kind, trouble.step) == (kind, 2**24 + 1)
    assert str((trouble.loss, trouble.norm)) == str((loss, norm))
    assert trouble.threshold == (4.0 if kind == "spike" else None)
    assert state(one) == before  # it has learned nothing
    assert one.look() is None


def test_all_steps_behind_a_bad_one_are_refused_until_the_host_looks() -> None:
    one = guard()
    assert watch(one, [1.0, NAN, 1.0, INF, 1.0]) == [False, True, True, True, True]
    seen = one.look()
    assert seen is not None and (seen.step, str(seen.loss)) == (1, "nan")  # the first
    assert state(one)["losses"][-1] == 1  # good losses
    assert watch(one, [1.0]) == [False]


def test_nothing_is_a_spike_before_there_is_a_mean() -> None:
    assert watch(guard(), [1.0] * (WARM - 1) + [100.0]) == [False] * WARM
    assert watch(guard(), [1.0] * WARM + [100.0])[-1]
    assert not any(watch(guard(None), [1.0] * WARM + [1e30]))
    assert watch(guard(None), [1.0] * WARM + [NAN])[-1]


def falling(steps: int, end: float, noise: float, seed: int) -> np.ndarray:
    """Losses that fall from ln 10 to `end`, log-normal about it."""
    rng = np.random.default_rng(seed)
    mean = end + (math.log(10) - end) * np.exp(-np.arange(steps) / (steps / 8))
    return mean * np.exp(noise * rng.standard_normal(steps) - noise**2 / 2)


def rare_hard_images(steps: int, seed: int) -> np.ndarray:
    """Losses of a set that is nearly learned by heart, in small batches: 40 times the mean."""
    losses = falling(steps, 1e-3, 0.3, seed)
    rng = np.random.default_rng(seed)
    hard = rng.random(steps) < 0.02
    return losses + hard * rng.uniform(0.02, 0.3, steps)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "losses",
    [
        lambda seed: falling(600, 0.6, 0.06, seed),  # large batches, smoothed labels
        lambda seed: falling(600, 1.3, 0.1, seed),  # mixed images
        lambda seed: falling(600, 0.15, 0.6, seed),  # batches of four
        lambda seed: rare_hard_images(600, seed),
        lambda seed: rare_hard_images(800, seed)[400:],  # fine-tuning with the head kept
        lambda seed: np.linspace(2.3, 2.2, 600),  # next to no deviation
        lambda seed: np.concatenate([np.full(40, 2.3), np.full(40, 4.6)]),  # no warm-up
    ],
)
def test_losses_of_good_runs_are_no_spikes(losses: "type[np.ndarray]", seed: int) -> None:
    assert not any(watch(guard(), losses(seed)))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("end", "noise"), [(0.6, 0.06), (1.3, 0.1), (0.3, 0.4)])
def test_ten_times_the_mean_is_a_spike(end: float, noise: float, seed: int) -> None:
    losses, one = falling(300, end, noise, seed), guard()
    for step, loss in enumerate(losses.tolist()):
        if step > WARM:
            mean = state(one)["losses"][0]
            before = state(one)
            assert watch(one, [10 * mean]) == [True]
            assert one.look() is not None and state(one) == before
        assert watch(one, [loss]) == [False]


def test_a_loss_that_rises_for_good_is_learned() -> None:
    one = guard()
    watch(one, [1.0] * 50)
    assert not any(watch(one, [1.0 + 0.05 * step for step in range(100)]))


def test_the_state_goes_on_to_the_bit() -> None:
    losses = falling(90, 0.5, 0.3, 1).tolist()
    whole, first, second = guard(), guard(), guard()
    watch(whole, losses)
    watch(first, losses[:40])
    for name, tensor in second.tensors().items():
        tensor.copy_(first.tensors()[name].clone())
    watch(second, losses[40:])
    assert state(second) == state(whole)
    assert watch(second, [5.0]) == watch(whole, [5.0])


def test_an_overflow_of_a_scaled_gradient_is_no_event() -> None:
    one = guard(scaled=True)
    assert watch(one, [1.0] * 3, INF) == [True] * 3 and one.overflow == 1
    assert one.look() is None
    assert watch(one, [1.0]) == [False] and one.overflow == 0
    assert state(one) == {"losses": [1, 0, 1, 1], "overflows": [0]}
    assert all(watch(one, [1.0] * (MOST_OVERFLOWS - 1), NAN)) and one.look() is None
    assert watch(one, [1.0], NAN) == [True] and one.overflow == 0  # one too many
    trouble = one.look()
    assert trouble is not None and trouble.kind == "gradient"
    assert state(one)["overflows"] == [MOST_OVERFLOWS - 1]  # as if the step had never been


def test_an_overflow_behind_a_bad_step_does_not_count() -> None:
    one = guard(scaled=True)
    assert watch(one, [NAN]) == [True]
    before = state(one)
    assert watch(one, [1.0], INF) == [True] and one.overflow == 0
    assert state(one) == before
    trouble = one.look()
    assert trouble is not None and trouble.kind == "loss"


def test_without_scaling_no_gradient_may_overflow() -> None:
    one = guard()
    assert watch(one, [1.0], INF) == [True]
    assert isinstance(one.look(), Trouble)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_nothing_is_waited_for() -> None:
    cuda = torch.device("cuda")
    one = Guard(GuardConfig(), cuda, batch_size=16, scaled=True)
    loss: Tensor = torch.ones((), device=cuda)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(3):
            one.watch(step, loss, loss)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert one.look() is None
