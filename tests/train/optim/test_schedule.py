import math
import warnings
from itertools import pairwise

import pytest
import torch

from vitrail.train.learning import OptimConfig
from vitrail.train.optim import lr_at

CONFIG = OptimConfig(lr=1e-3, final_lr=0.01)
SCHEDULES = ["cosine", "linear", "rsqrt", "wsd", "constant"]


def settings(schedule: str, final_lr: float = 0.01) -> OptimConfig:
    return CONFIG.replace(schedule=schedule, final_lr=final_lr)


def rates(
    schedule: str, steps: int, warmup: int, cooldown: int, final_lr: float = 0.01
) -> list[float]:
    """Give the rates of all steps, and of the one that would come next."""
    config = settings(schedule, final_lr)
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


def test_the_cosine_is_to_the_bit_what_it_was() -> None:
    for step in range(110):
        left = (1 + math.cos(math.pi * ((step - 10) / 100))) / 2
        curve = 1e-3 * (0.01 + (1 - 0.01) * left)
        assert lr_at(step, 110, 10, 0, CONFIG) == (1e-3 * (step + 1) / 10 if step < 10 else curve)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        # after 10, 35, 60, 85, 110 steps of 110, 10 of which are warm-up and 50 cool-down
        ("linear", (1, 1 - 0.99 / 4, 1 - 0.99 / 2, 1 - 0.99 * 3 / 4, 0.01)),
        ("rsqrt", (1, 3.5**-0.5, 6**-0.5, (6**-0.5 + 0.01) / 2, 0.01)),
        ("wsd", (1, 1, 1, (1 + 0.01) / 2, 0.01)),
        ("constant", (1, 1, 1, 1, 1)),
    ],
)
def test_closed_forms(schedule: str, expected: tuple[float, ...]) -> None:
    found = rates(schedule, 110, 10, 50)
    assert found[:10] == pytest.approx([1e-4 * step for step in range(1, 11)])
    assert [found[step] for step in (10, 35, 60, 85, 110)] == pytest.approx(
        [1e-3 * each for each in expected]
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("final_lr", [0.0, 0.01, 0.5, 1.0])
@pytest.mark.parametrize(
    ("steps", "warmup", "cooldown"),
    [(400, 40, 100), (400, 0, 0), (400, 40, 0), (400, 100, 300), (400, 390, 10), (400, 300, 400)],
)
def test_the_rate_rises_then_falls_and_never_jumps(
    schedule: str, final_lr: float, steps: int, warmup: int, cooldown: int
) -> None:
    found = rates(schedule, steps, warmup, cooldown, final_lr)
    before, after = found[:warmup], found[warmup:]
    assert before == sorted(before) and after == sorted(after, reverse=True)
    assert max(found) == pytest.approx(1e-3) and min(found[:-1]) > 0
    steepest = max(1 / max(warmup, 1), math.pi / 2 / (steps - warmup), 1 / max(cooldown, 10))
    if schedule == "rsqrt" and not warmup:
        steepest = 0.3  # falls by the number of the step, with a timescale of one
    ends = after[-1] if schedule not in ("rsqrt", "wsd") or cooldown else found[-2]
    jumps = [abs(now - then) for then, now in pairwise([*found[:-1], ends])]
    assert max(jumps) <= 1e-3 * steepest * 1.001
    if schedule in ("cosine", "linear") or (schedule != "constant" and cooldown):
        assert found[-1] == pytest.approx(1e-3 * final_lr, abs=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_short_runs(schedule: str) -> None:
    assert rates(schedule, 1, 0, 0)[0] == 1e-3  # a run of one step
    assert rates(schedule, 1, 1, 1)[0] == 1e-3
    assert all(math.isfinite(each) and each > 0 for each in rates(schedule, 2, 1, 5))
    assert rates(schedule, 3, 8, 2)[:3] == pytest.approx([1.25e-4, 2.5e-4, 3.75e-4])


def test_rsqrt_never_falls_below_the_end() -> None:
    found = rates("rsqrt", 500, 2, 100, final_lr=0.2)
    assert min(found) == pytest.approx(2e-4)
    assert found[60:] == pytest.approx([2e-4] * 441)


def run_of(scheduler: torch.optim.lr_scheduler.LRScheduler, steps: int) -> list[float]:
    """Give what torch's scheduler sets at each step."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the optimiser never steps; a sum of schedulers warns
        for _ in range(steps):
            found.append(scheduler.get_last_lr()[0])
            scheduler.step()
    return found


def test_equal_to_torchs() -> None:
    from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR

    def optimizer() -> torch.optim.SGD:
        return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)

    cosine = run_of(CosineAnnealingLR(optimizer(), 60, eta_min=1e-5), 61)
    assert rates("cosine", 60, 0, 0) == pytest.approx(cosine, rel=1e-9)
    linear = run_of(LinearLR(optimizer(), 1.0, 0.01, 60), 61)
    assert rates("linear", 60, 0, 0) == pytest.approx(linear, rel=1e-9)
    warmup = run_of(LinearLR(optimizer(), 1 / 8, 1.0, 7), 8)
    assert rates("wsd", 60, 8, 20)[:8] == pytest.approx(warmup, rel=1e-9)
    cooldown = run_of(LinearLR(optimizer(), 1.0, 0.01, 20), 21)
    assert rates("wsd", 60, 8, 20)[40:] == pytest.approx(cooldown, rel=1e-9)


@pytest.mark.peer
def test_equal_to_timms() -> None:
    schedulers = pytest.importorskip("timm.scheduler.cosine_lr")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    scheduler = schedulers.CosineLRScheduler(
        optimizer,
        t_initial=100,
        lr_min=1e-5,
        warmup_t=10,
        warmup_lr_init=1e-4,  # timm's warm-up begins here, and its top is the first step after it
        warmup_prefix=True,
    )
    theirs = [scheduler._get_lr(step)[0] for step in range(110)]
    mine = rates("cosine", 110, 10, 0)
    assert mine[10:110] == pytest.approx(theirs[10:], rel=1e-9)
    assert mine[0] == theirs[0] and mine[5] == pytest.approx(theirs[5], rel=0.1)
