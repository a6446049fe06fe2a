"""Losses against torch, timm, the papers' formulas and finite differences."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.objectives.helpers import CLASSES
from vitrail.objectives.losses import (
    Loss,
    sigmoid_cross_entropy,
    smooth_labels,
    smooth_targets,
    soft_cross_entropy,
)

WEIGHTS = torch.tensor([0.2, 3.0, 1.0, 0.7, 1.4])
AGAINST = torch.tensor([1.3, 0.9, 1.0, 1.1, 0.5])
SHIFT = torch.tensor([-0.1, -3.0, -1.0, -2.0, 0.4])
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "focal": {"focal": 2.0},
    "low focal": {"focal": 0.5},
    "weights": {"weights": WEIGHTS},
    "against": {"against": AGAINST},
    "both weights": {"weights": WEIGHTS, "against": AGAINST},
    "shift": {"shift": SHIFT},
    "all": {"focal": 1.3, "weights": WEIGHTS, "against": AGAINST, "shift": SHIFT},
}
EVERY = list(itertools.product(["softmax", "sigmoid"], SETTINGS))
every = pytest.mark.parametrize(("kind", "name"), EVERY)


def sample(n: int, seed: int = 0, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    """Draw logits and labels."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(n, CLASSES, generator=generator)
    return logits, torch.randint(0, CLASSES, (n,), generator=generator)


def soft(n: int, seed: int = 0) -> Tensor:
    """Draw target probabilities."""
    targets = torch.rand(n, CLASSES, generator=torch.Generator().manual_seed(seed))
    return targets / targets.sum(1, keepdim=True)


# --- targets and plain losses ---


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_loss_is_that_of_torch(smoothing: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (4 * torch.randn(9, CLASSES, generator=generator)).requires_grad_()
    labels = torch.randint(0, CLASSES, (9,), generator=generator)
    ours = soft_cross_entropy(logits, smooth_targets(labels, CLASSES, smoothing))
    theirs = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
    (mine,) = torch.autograd.grad(ours, logits)
    (other,) = torch.autograd.grad(theirs, logits)
    torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-6)


def test_loss_of_soft_targets_is_that_of_torch() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(7, CLASSES, generator=generator)
    targets = torch.rand(7, CLASSES, generator=generator)
    targets = targets / targets.sum(1, keepdim=True)
    ours = soft_cross_entropy(logits, targets)
    torch.testing.assert_close(ours, F.cross_entropy(logits, targets), atol=1e-6, rtol=1e-6)


def test_loss_is_float32_and_finite_for_large_bf16_logits() -> None:
    logits = torch.tensor([[3e4, -3e4, 0.0], [0.0, 0.0, 0.0]], dtype=torch.bfloat16)
    loss = soft_cross_entropy(logits, torch.eye(3)[:2])
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(np.log(3) / 2, abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_smooth_targets(smoothing: float) -> None:
    labels = torch.tensor([0, 4, 2])
    targets = smooth_targets(labels, CLASSES, smoothing)
    torch.testing.assert_close(targets.sum(1), torch.ones(3))
    own = targets[torch.arange(3), labels]
    torch.testing.assert_close(own, torch.full((3,), 1 - smoothing + smoothing / CLASSES))
    others = targets[F.one_hot(labels, CLASSES) == 0]
    torch.testing.assert_close(others, torch.full((12,), smoothing / CLASSES))


def test_sigmoid_loss_is_the_mean_over_images_and_classes() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = 3 * torch.randn(6, CLASSES, generator=generator)
    targets = torch.rand(6, CLASSES, generator=generator)
    p = logits.double().sigmoid()
    each = -(targets * p.log() + (1 - targets) * (1 - p).log())
    ours = sigmoid_cross_entropy(logits, targets)
    assert ours.item() == pytest.approx(each.mean().item(), abs=1e-6)
    half = sigmoid_cross_entropy(logits.bfloat16(), targets)
    assert half.dtype == torch.float32
    far = torch.tensor([[3e4, -3e4]], dtype=torch.bfloat16)
    assert sigmoid_cross_entropy(far, torch.tensor([[1.0, 0.0]])) == 0


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_smooth_labels(dtype: torch.dtype) -> None:
    labels = torch.tensor([[1, 0, 1], [0, 0, 0]], dtype=dtype)
    assert torch.equal(smooth_labels(labels, 0.0), labels.float())
    expected = torch.tensor([[0.9, 0.1, 0.9], [0.1, 0.1, 0.1]])
    torch.testing.assert_close(smooth_labels(labels, 0.2), expected)


# --- the loss of a training ---


@every
def test_it_is_the_formula(kind: str, name: str) -> None:
    """Term by term, in float64."""
    settings = SETTINGS[name]
    weights, against = (settings.get(key, torch.ones(CLASSES)) for key in ("weights", "against"))
    gamma, shift = settings.get("focal", 0.0), settings.get("shift", torch.zeros(CLASSES))
    logits, targets = sample(7)[0], soft(7)
    total = 0.0
    for row, target in zip((logits + shift).double(), targets.double(), strict=True):
        p = row.softmax(0) if kind == "softmax" else row.sigmoid()
        for c in range(CLASSES):
            t, q = target[c].item(), p[c].item()
            total -= weights[c].item() * t * (1 - q) ** gamma * math.log(q)
            if kind == "sigmoid":
                total -= against[c].item() * (1 - t) * q**gamma * math.log(1 - q)
    expected = total / 7 / (CLASSES if kind == "sigmoid" else 1)
    loss = Loss(CLASSES, kind=kind, **settings)(logits, targets)
    assert loss.item() == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_softmax_is_that_of_torch(smoothing: float, weights: Tensor | None) -> None:
    logits, labels = sample(9)
    loss = Loss(CLASSES, smoothing=smoothing, weights=weights)
    expected = F.cross_entropy(
        logits, labels, weights, label_smoothing=smoothing, reduction="none"
    ).mean()  # "mean" would divide by the sum of weights
    torch.testing.assert_close(loss(logits, loss.targets(labels)), expected, atol=1e-6, rtol=1e-6)


def test_sigmoid_is_that_of_torch() -> None:
    logits, targets = sample(9)[0], torch.rand(9, CLASSES)
    loss = Loss(CLASSES, kind="sigmoid", weights=WEIGHTS, against=AGAINST)
    expected = F.binary_cross_entropy_with_logits(
        logits, targets, AGAINST, pos_weight=WEIGHTS / AGAINST
    )
    torch.testing.assert_close(loss(logits, targets), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.peer
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_are_those_of_timm(smoothing: float) -> None:
    theirs = pytest.importorskip("timm.loss")
    logits, labels = sample(9)
    pairs = [
        ("sigmoid", theirs.BinaryCrossEntropy(smoothing=smoothing)),
        ("softmax", theirs.LabelSmoothingCrossEntropy(smoothing)),
    ]
    for kind, other in pairs:
        loss = Loss(CLASSES, kind=kind, smoothing=smoothing)
        ours = loss(logits, loss.targets(labels))
        torch.testing.assert_close(ours, other(logits, labels), atol=1e-6, rtol=1e-6)
    mixed = theirs.SoftTargetCrossEntropy()(logits, soft(9))
    torch.testing.assert_close(Loss(CLASSES)(logits, soft(9)), mixed, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_focal_loss_of_hard_targets_is_that_of_the_paper(gamma: float) -> None:
    """FL(p_t) = -(1 - p_t)^gamma log p_t, equation 4, and as it is written for detection."""
    logits, labels = sample(11)
    hot = F.one_hot(labels, CLASSES).double()
    p_t = (logits.double().softmax(1) * hot).sum(1)
    expected = (-((1 - p_t) ** gamma) * p_t.log()).mean()
    ours = Loss(CLASSES, focal=gamma)(logits, hot.float())
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)
    p = logits.double().sigmoid()
    p_t = p * hot + (1 - p) * (1 - hot)
    entropy = F.binary_cross_entropy_with_logits(logits.double(), hot, reduction="none")
    expected = (entropy * (1 - p_t) ** gamma).mean()
    ours = Loss(CLASSES, kind="sigmoid", focal=gamma)(logits, hot.float())
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_shift_asks_more_of_rare_classes() -> None:
    """Equation 10 of Menon et al. as a margin between pairs of classes."""
    logits, labels = sample(8)
    prior = torch.tensor([0.5, 0.3, 0.1, 0.07, 0.03])
    ours = Loss(CLASSES, shift=1.5 * prior.log())(logits, F.one_hot(labels, CLASSES).float())
    own = logits.gather(1, labels[:, None])
    ratios = (prior / prior[labels][:, None]) ** 1.5
    expected = (ratios * (logits - own).exp()).sum(1).log().mean()  # the class itself gives the 1
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


@every
def test_gradients_are_finite_differences(kind: str, name: str) -> None:
    loss = Loss(CLASSES, kind=kind, **SETTINGS[name]).double()
    logits = sample(3, scale=2.0)[0].double().requires_grad_()
    targets = soft(3).double()
    assert torch.autograd.gradcheck(lambda z: loss(z, targets), logits, eps=1e-6, atol=1e-8)


@every
@pytest.mark.parametrize("sizes", [(4, 3), (1, 6), (3, 3, 1)])
def test_parts_add_up_to_the_whole(kind: str, name: str, sizes: tuple[int, ...]) -> None:
    loss = Loss(CLASSES, kind=kind, **SETTINGS[name]).double()
    logits, targets = sample(7)[0].double(), soft(7).double()
    parts = zip(logits.split(sizes), targets.split(sizes), strict=True)
    total = sum(len(x) / 7 * loss(x, y).item() for x, y in parts)
    assert total == pytest.approx(loss(logits, targets).item(), rel=1e-13)


@every
def test_it_is_linear_in_the_targets(kind: str, name: str) -> None:
    loss = Loss(CLASSES, kind=kind, **SETTINGS[name]).double()
    logits, one, other = sample(5)[0].double(), soft(5, 1).double(), soft(5, 2).double()
    mixed = loss(logits, 0.3 * one + 0.7 * other)
    torch.testing.assert_close(mixed, 0.3 * loss(logits, one) + 0.7 * loss(logits, other))


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bits_are_computed_in_32(kind: str, name: str, dtype: torch.dtype) -> None:
    loss = Loss(CLASSES, kind=kind, **SETTINGS[name])
    logits, targets = sample(6)[0].to(dtype), soft(6)
    expected = loss(logits.float(), targets)
    assert expected.dtype == torch.float32
    with torch.autocast("cpu", dtype):
        assert torch.equal(loss(logits, targets), expected)
        assert torch.equal(loss(logits.float(), targets), expected)
    assert torch.equal(loss(logits, targets), expected)


@every
@pytest.mark.parametrize("gamma", [None, 0.01, 5.0])
def test_extreme_logits_give_finite_losses(kind: str, name: str, gamma: float | None) -> None:
    most = torch.finfo(torch.float16).max
    rows = [[most, -most, 0, 0, 0], [-most] * 4 + [most], [most] * 5, [0] * 5, [20, 0, 0, 0, 0]]
    logits = torch.tensor(rows, dtype=torch.float16).float().requires_grad_()
    settings = SETTINGS[name] if gamma is None else SETTINGS[name] | {"focal": gamma}
    loss = Loss(CLASSES, kind=kind, **settings)
    for labels in (torch.zeros(5, dtype=torch.int64), torch.tensor([1, 0, 2, 3, 4])):
        value = loss(logits.half(), F.one_hot(labels, CLASSES).float())
        (gradient,) = torch.autograd.grad(value, logits)
        assert value.isfinite() and value > 0
        assert gradient.isfinite().all() and gradient.abs().max() <= 6  # weights are 3 at most


def test_certain_and_right_costs_nothing() -> None:
    logits = torch.full((2, CLASSES), -200.0)
    logits[[0, 1], [1, 3]] = 200.0
    hot = F.one_hot(torch.tensor([1, 3]), CLASSES).float()
    for kind, name in EVERY:
        assert Loss(CLASSES, kind=kind, **SETTINGS[name])(logits, hot).item() == 0


def test_targets_follow_the_shape_of_the_labels() -> None:
    labels = torch.tensor([1, 4])
    hot = F.one_hot(labels, CLASSES)
    for kind in ("softmax", "sigmoid"):
        loss = Loss(CLASSES, kind=kind, smoothing=0.2)
        assert torch.equal(loss.targets(labels), smooth_targets(labels, CLASSES, 0.2))
        assert torch.equal(loss.targets(hot), smooth_labels(hot, 0.2))


def test_it_goes_to_the_device_and_is_not_saved() -> None:
    loss = Loss(CLASSES, **SETTINGS["all"])
    assert loss.state_dict() == {} and not list(loss.parameters())
    moved = loss.to("meta")
    assert {each.device.type for each in moved.buffers()} == {"meta"}
    assert len(list(moved.buffers())) == 3


# --- what the losses are for: 2000 images of class 0, 100 of class 1, which overlap ---


def clouds(counts: tuple[int, int], seed: int) -> tuple[Tensor, Tensor]:
    """Draw features of two classes, one on each side of a line, and a constant."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(2), torch.tensor(counts))
    noise = torch.randn(len(labels), 2, generator=generator)
    features = noise + (2.0 * labels - 1)[:, None] * torch.tensor([1.0, 0.3])
    return torch.cat([features, torch.ones(len(labels), 1)], dim=1), labels


def recalls(loss: Loss) -> tuple[float, float]:
    """Fit a linear model with this loss; give the recall of each class on new, even data."""
    features, labels = clouds((2000, 100), seed=0)
    matrix = torch.zeros(3, 2, requires_grad=True)
    optimizer = torch.optim.LBFGS([matrix], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(features @ matrix, loss.targets(labels)) + 1e-4 * matrix.square().sum()
        value.backward()
        return value

    optimizer.step(closure)
    features, labels = clouds((4000, 4000), seed=1)
    right = ((features @ matrix).argmax(1) == labels).double()
    return right[:4000].mean().item(), right[4000:].mean().item()


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_uneven_classes_are_made_up_for(kind: str) -> None:
    """Balanced accuracy: 67 % without, 85 % with, which is the best possible."""
    prior = torch.tensor([20 / 21, 1 / 21])
    shift = prior.log() if kind == "softmax" else prior.logit()
    weights = 0.5 / prior
    against = 0.5 / (1 - prior) if kind == "sigmoid" else None
    plain = recalls(Loss(2, kind=kind))
    assert plain[0] > 0.97 and plain[1] < 0.5
    for loss in (
        Loss(2, kind=kind, shift=shift),
        Loss(2, kind=kind, weights=weights, against=against),
    ):
        better = recalls(loss)
        assert sum(better) / 2 > 0.83 > sum(plain) / 2 + 0.1
        assert min(better) > 0.8
