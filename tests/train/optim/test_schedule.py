"""The learning rate has its closed form, never jumps, and never rises after the warm-up."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitrail.train.learning import OptimConfig
from vitrail.train.optim import lr_at

SCHEDULES = ("cosine", "linear", "rsqrt", "wsd", "constant")
CONFIG = OptimConfig(lr=1e-3, final_lr=0.01)


def curve(schedule: str, steps: int, warmup: int, cooldown: int, **changes: float) -> list[float]:
    """Give the rate of every step, and the one that would come after the last."""
    config = CONFIG.replace(schedule=schedule, **changes)
    return [lr_at(step, steps, warmup, cooldown, config) for step in range(steps + 1)]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 1e-4),  # the first step of ten already moves
        (4, 5e-4),
        (9, 1e-3),
        (10, 1e-3),  # the cosine begins at the top
        (60, (1e-3 + 1e-5) / 2),  # half way down
        (110, 1e-5),
    ],
)
def test_cosine(step: int, expected: float) -> None:
    assert lr_at(step, 110, 10, 0, CONFIG) == pytest.approx(expected, rel=1e-12)


def test_the_cosine_to_the_bit() -> None:
    for step, rate in enumerate(curve("cosine", 97, 7, 0)[7:]):
        cosine = (1 + math.cos(math.pi * (step / 90))) / 2
        assert rate == 1e-3 * (0.01 + (1 - 0.01) * cosine)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(10, 1e-3), (35, 0.7525e-3), (60, 0.505e-3), (110, 1e-5)],
)
def test_linear(step: int, expected: float) -> None:
    assert curve("linear", 110, 10, 0)[step] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (10, 1e-3),
        (40, 1e-3 / 2),  # four times the steps since the beginning, as the warm-up is the timescale
        (90, 1e-3 / 3),
        (125, (1e-3 / 4 + 1e-5) / 2 + 1e-3 * (1 / math.sqrt(10) - 1 / 4) / 2),
        (150, 1e-5),
    ],
)
def test_rsqrt(step: int, expected: float) -> None:
    assert curve("rsqrt", 150, 10, 50)[step] == pytest.approx(expected, rel=1e-12)


def test_rsqrt_without_a_warm_up_has_a_timescale_of_one_step() -> None:
    assert curve("rsqrt", 20, 0, 0)[3] == pytest.approx(1e-3 / 2, rel=1e-12)


def test_rsqrt_does_not_fall_below_the_last_rate() -> None:
    rates = curve("rsqrt", 150, 1, 50, final_lr=0.25)
    assert rates[15] > 2.5e-4 and rates[17:] == pytest.approx([2.5e-4] * 134, rel=1e-12)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(4, 5e-4), (10, 1e-3), (100, 1e-3), (105, 0.505e-3), (110, 1e-5)],
)
def test_warm_up_stable_decay(step: int, expected: float) -> None:
    assert curve("wsd", 110, 10, 10)[step] == pytest.approx(expected, rel=1e-12)


def test_constant() -> None:
    assert curve("constant", 20, 4, 0) == pytest.approx([2.5e-4, 5e-4, 7.5e-4] + [1e-3] * 18)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_run_of_one_step(schedule: str) -> None:
    assert curve(schedule, 1, 0, 0)[0] == 1e-3
    assert curve(schedule, 1, 1, 1)[0] == 1e-3


def test_a_warm_up_longer_than_the_run() -> None:
    for schedule in SCHEDULES:
        assert curve(schedule, 3, 8, 2)[:3] == pytest.approx([1.25e-4, 2.5e-4, 3.75e-4])


@given(
    schedule=st.sampled_from(SCHEDULES),
    steps=st.integers(1, 300),
    warmup=st.integers(0, 300),
    cooldown=st.integers(0, 300),
    final_lr=st.floats(0, 1),
)
def test_it_only_falls_after_the_warm_up_and_stays_between_its_ends(
    schedule: str, steps: int, warmup: int, cooldown: int, final_lr: float
) -> None:
    warmup = min(warmup, steps)
    rates = curve(schedule, steps, warmup, cooldown, final_lr=final_lr)
    before, after = rates[:warmup], rates[warmup:]
    assert before == sorted(before) and after == sorted(after, reverse=True)
    assert all(0 < rate <= 1e-3 for rate in before)
    ends = 1e-3 * final_lr * (1 - 1e-12), 1e-3 * (1 + 1e-12)
    assert all(ends[0] <= rate <= ends[1] for rate in after)
    assert after[0] == pytest.approx(1e-3, rel=1e-12) or steps == warmup or cooldown >= steps
    if schedule in ("cosine", "linear") or (schedule != "constant" and cooldown):
        assert steps == warmup or rates[steps] == pytest.approx(1e-3 * final_lr, abs=1e-15)


@given(
    schedule=st.sampled_from(SCHEDULES),
    warmup=st.integers(0, 50),
    cooldown=st.integers(1, 50),
    factor=st.integers(2, 9),
)
def test_it_never_jumps(schedule: str, warmup: int, cooldown: int, factor: int) -> None:
    """At finer steps the largest change after the warm-up shrinks with them."""
    steps = warmup + cooldown + 20
    coarse = curve(schedule, steps, warmup, cooldown)
    fine = curve(schedule, steps * factor, warmup * factor, cooldown * factor)
    if schedule == "rsqrt" and not warmup:
        return  # its timescale is a step, and does not grow with them
    assert fine[warmup * factor :: factor] == pytest.approx(coarse[warmup:], rel=1e-9)
    steepest = 1e-3 * max(math.pi / 2 / (steps - warmup), 1 / cooldown, 1 / max(1, warmup)) / factor
    falls = [one - two for one, two in zip(fine[warmup * factor :], fine[warmup * factor + 1 :])]  # noqa: B905
    assert max(falls) <= steepest * (1 + 1e-9)


def torchs(scheduler_of: str, steps: int, **options: float) -> list[float]:
    """Give the rates of one of PyTorch's schedules."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    scheduler = getattr(torch.optim.lr_scheduler, scheduler_of)(optimizer, **options)
    rates = []
    for _ in range(steps):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return rates


def test_equals_pytorchs_schedules() -> None:
    cosine = torchs("CosineAnnealingLR", 51, T_max=50, eta_min=1e-5)
    assert curve("cosine", 50, 0, 0) == pytest.approx(cosine, rel=1e-9)
    line = torchs("LinearLR", 51, start_factor=1.0, end_factor=0.01, total_iters=50)
    assert curve("linear", 50, 0, 0) == pytest.approx(line, rel=1e-9)
    warm = torchs("LinearLR", 20, start_factor=1 / 8, end_factor=1.0, total_iters=7)
    assert curve("constant", 19, 8, 0) == pytest.approx(warm, rel=1e-9)
    cool = torchs("LinearLR", 21, start_factor=1.0, end_factor=0.01, total_iters=20)
    assert curve("wsd", 60, 8, 20)[40:] == pytest.approx(cool, rel=1e-9)


@pytest.mark.peer
def test_equals_timms_cosine() -> None:
    timm = pytest.importorskip("timm.scheduler")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    # timm's warm-up begins at a rate of its own and reaches lr one step later: only what follows
    theirs = timm.CosineLRScheduler(
        optimizer, t_initial=90, lr_min=1e-5, warmup_t=7, warmup_prefix=True
    )
    expected = [theirs._get_lr(step)[0] for step in range(7, 97)]
    assert curve("cosine", 97, 7, 0)[7:-1] == pytest.approx(expected, rel=1e-9)


@pytest.mark.peer
def test_equals_transformers_rsqrt_and_wsd() -> None:
    theirs = pytest.importorskip("transformers.optimization")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    # the warm-ups begin with a rate of 0 there: only what follows
    rsqrt = theirs.get_inverse_sqrt_schedule(optimizer, 9).lr_lambdas[0]
    expected = [1e-3 * rsqrt(step) for step in range(9, 100)]
    assert curve("rsqrt", 99, 9, 0, final_lr=0.0)[9:] == pytest.approx(expected, rel=1e-9)
    wsd = theirs.get_wsd_schedule(
        optimizer, 9, 20, num_training_steps=99, decay_type="linear", min_lr_ratio=0.01
    ).lr_lambdas[0]
    expected = [1e-3 * wsd(step) for step in range(9, 100)]
    assert curve("wsd", 99, 9, 20)[9:] == pytest.approx(expected, rel=1e-9)
