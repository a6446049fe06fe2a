"""The loss that follows from the settings and from how often each class is drawn."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.train.helpers import paint, tiny_config
from vitrail.data.augment import AugmentConfig
from vitrail.data.dataset import Data, LabelSets, Split
from vitrail.data.loading.sampling import SamplingConfig, find_chances, resample
from vitrail.errors import ConfigError
from vitrail.objectives.losses import Loss
from vitrail.train.config import DataConfig, RunConfig
from vitrail.train.learning import LossConfig, OptimConfig
from vitrail.train.loop import train
from vitrail.train.losses import class_draws, class_weights, make_loss

COUNTS = np.array([60, 30, 0, 9, 1])  # of 100 images; class 2 has none
SETS = [[0, 1], [0], [0, 4], [0], [0, 1], [0], [0, 1, 3], [0], [], [0]]  # 9, 3, 0, 1, 1 of 10


def data_of(labels: Any, weights: np.ndarray[Any, Any] | None = None) -> Data:
    if isinstance(labels, list):
        labels = LabelSets.of(labels, len(COUNTS))
    split = Split(tuple(map(str, range(len(labels)))), labels, lambda i: b"", weights)
    return Data("shapes", tuple("abcde"), {"train": split})


SINGLE = data_of(np.random.default_rng(0).permutation(np.repeat(np.arange(5), COUNTS)))
SEVERAL = data_of(SETS)


def settings(smoothing: float = 0.0, sampling: dict[str, Any] | None = None, **loss: Any) -> Any:
    return RunConfig(
        data=DataConfig(sampling=SamplingConfig(**(sampling or {}))),
        loss=LossConfig(**loss),
        train=OptimConfig(label_smoothing=smoothing),
    )


def made(data: Data, sampling: dict[str, Any] | None = None, **loss: Any) -> Loss:
    return make_loss(settings(0.0, sampling, **loss), data)


def slope(loss: Loss, data: Data, logits: torch.Tensor) -> torch.Tensor:
    """Slope of the mean loss over all images, if the model says the same of each."""
    labels = data.splits["train"].labels
    hot = labels.hot() if isinstance(labels, LabelSets) else labels
    targets = loss.targets(torch.from_numpy(hot)).double()
    logits = logits.double().requires_grad_()
    value = loss.double()(logits.expand(len(targets), -1), targets)
    (gradient,) = torch.autograd.grad(value, logits)
    return gradient


# --- which loss ---


def test_settings_reach_the_loss() -> None:
    plain = make_loss(RunConfig(), SINGLE)
    assert (plain.kind, plain.smoothing, plain.focal, plain.plain) == ("softmax", 0.1, 0, True)
    assert plain.classes == 5 and plain.shift is None
    other = make_loss(settings(0.3, kind="sigmoid", focal=2.0), SINGLE)
    assert (other.kind, other.smoothing, other.focal, other.plain) == ("sigmoid", 0.3, 2.0, False)
    assert make_loss(RunConfig(), SEVERAL).kind == "sigmoid"
    assert made(SEVERAL, kind="sigmoid").kind == "sigmoid"
    for kind in ("softmax", "sigmoid"):
        assert made(SINGLE, kind=kind, logit_adjustment=1.0).smoothing == 0
        both = make_loss(settings(0.2, kind=kind, class_weights="balanced", focal=1.5), SINGLE)
        assert (both.kind, both.smoothing, both.focal) == (kind, 0.2, 1.5)


def test_softmax_of_several_labels_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"loss\.kind=softmax: the images of data=shapes"):
        made(SEVERAL, kind="softmax")


def test_two_remedies_at_once_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"=effective and loss\.logit_adjustment=0\.5 each"):
        made(SINGLE, class_weights="effective", logit_adjustment=0.5)


@pytest.mark.parametrize("remedy", [{"class_weights": "balanced"}, {"logit_adjustment": 1.0}])
def test_images_without_any_class_are_refused(remedy: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="no training image has a class"):
        made(data_of([[], []]), **remedy)
    assert made(data_of([[], []])).plain


# --- how often classes are drawn ---


def test_without_sampling_images_are_counted() -> None:
    split = SINGLE.splits["train"]
    assert class_draws(split, 5, SamplingConfig()).tolist() == COUNTS.tolist()
    assert class_draws(split, 5, SamplingConfig(repeats=2)).tolist() == COUNTS.tolist()
    several = class_draws(SEVERAL.splits["train"], 5, SamplingConfig())
    assert several.tolist() == [9, 3, 0, 1, 1]


@pytest.mark.parametrize("sampling", [{"balance": "class"}, {"balance": "sqrt"}])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("labels", [SINGLE, SEVERAL], ids=["single", "several"])
def test_draws_are_those_of_the_sampler(
    sampling: dict[str, Any], weighted: bool, labels: Data
) -> None:
    own = np.random.default_rng(1).random(len(labels.splits["train"])) + 0.05
    data = data_of(labels.splits["train"].labels, own)
    split, config = data.splits["train"], SamplingConfig(**sampling, weighted=weighted)
    chances = find_chances(split, config)
    assert chances is not None
    hot = split.labels.hot() if isinstance(split.labels, LabelSets) else np.eye(5)[split.labels]
    epochs = 300
    counted = sum(hot[resample(3, epoch, chances)[0]].sum(0) for epoch in range(epochs)) / epochs
    assert np.abs(counted - class_draws(split, 5, config)).max() < 0.1


# --- class weights ---


@pytest.mark.parametrize("scheme", ["balanced", "effective"])
@pytest.mark.parametrize("sampling", [{}, {"balance": "sqrt"}, {"balance": "class"}])
def test_weights_are_1_in_the_mean(scheme: str, sampling: dict[str, Any]) -> None:
    draws = class_draws(SINGLE.splits["train"], 5, SamplingConfig(**sampling))
    loss = made(SINGLE, sampling, class_weights=scheme)
    weights = loss.weights.double().numpy()
    assert (draws * weights).sum() / draws.sum() == pytest.approx(1, abs=1e-6)
    assert np.isfinite(weights).all() and (weights > 0).all()
    assert weights[2] == weights[4]  # no image counts as the rarest
    if sampling == {"balance": "class"}:  # nothing is left to weigh
        assert weights == pytest.approx(1, abs=1e-6)


def test_balanced_weights_are_inverse_frequencies() -> None:
    weights = made(SINGLE, class_weights="balanced").weights
    assert weights.tolist() == pytest.approx([100 / 4 / n for n in (60, 30, 1, 9, 1)])
    weights = made(SEVERAL, class_weights="balanced").weights
    assert weights.tolist() == pytest.approx([14 / 4 / n for n in (9, 3, 1, 1, 1)])


def test_effective_weights_are_those_of_the_paper() -> None:
    counts = np.array([2e6, 3e4, 5e3, 40])
    weights = class_weights(counts, "effective")
    expected = (1 - 0.9999) / (1 - 0.9999**counts)
    assert weights / weights[0] == pytest.approx(expected / expected[0], rel=1e-9)
    assert weights[1] / weights[0] < 1.06  # above some ten thousand images all count alike
    assert weights[3] / weights[2] == pytest.approx(5e3 / 40, rel=0.25)  # few: as if balanced


@pytest.mark.parametrize("sampling", [{}, {"balance": "sqrt"}])
@pytest.mark.parametrize("scheme", ["balanced", "effective"])
@pytest.mark.parametrize("data", [SINGLE, SEVERAL], ids=["single", "several"])
def test_yes_and_no_of_each_class_are_1_in_the_mean(
    sampling: dict[str, Any], scheme: str, data: Data
) -> None:
    split = data.splits["train"]
    draws = class_draws(split, 5, SamplingConfig(**sampling))
    loss = made(data, sampling, class_weights=scheme, kind="sigmoid")
    yes, no = loss.weights.double().numpy(), loss.against.double().numpy()
    means = (draws * yes + (len(split) - draws) * no) / len(split)
    assert means == pytest.approx(1, abs=1e-6)
    assert (no >= 0).all()


def test_a_class_of_every_image_has_no_other_side() -> None:
    loss = made(data_of([[0], [0, 1], [0]]), class_weights="balanced")
    assert loss.against[0] == 1 and loss.against.isfinite().all()
    shift = made(data_of([[0], [0, 1], [0]]), logit_adjustment=1.0).shift
    assert shift is not None
    assert shift[:2].tolist() == pytest.approx([math.log(2.5 / 0.5), math.log(1 / 2)])


def test_smoothing_and_weights_are_those_of_torch() -> None:
    logits = torch.randn(100, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.from_numpy(SINGLE.splits["train"].labels)
    loss = make_loss(settings(0.1, class_weights="balanced"), SINGLE)
    expected = F.cross_entropy(
        logits, labels, loss.weights, label_smoothing=0.1, reduction="none"
    ).mean()
    torch.testing.assert_close(loss(logits, loss.targets(labels)), expected, atol=1e-6, rtol=1e-6)


# --- what a model that says the same of each image would learn ---


def test_balanced_weights_want_all_classes_alike() -> None:
    here = COUNTS > 0
    logits = torch.tensor([1.0, 1.0, -1e4, 1.0, 1.0])
    assert slope(made(SINGLE, class_weights="balanced"), SINGLE, logits).abs().max() < 1e-7
    loss = made(SINGLE, class_weights="balanced", kind="sigmoid")
    logits = torch.full((5,), 1 / 4).logit()  # each is one of four
    assert slope(loss, SINGLE, logits)[here].abs().max() < 1e-7


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_logit_adjustment_wants_what_is_beyond_the_prior(tau: float) -> None:
    here = torch.from_numpy(COUNTS > 0)
    prior = torch.from_numpy(COUNTS / 100)
    best = torch.where(here, (1 - tau) * prior.log(), -1e4)  # at tau = 1 nothing
    loss = made(SINGLE, logit_adjustment=tau)
    assert slope(loss, SINGLE, best).abs().max() < 1e-7
    best = torch.where(here, (1 - tau) * prior.logit(), 0.0)
    loss = made(SINGLE, logit_adjustment=tau, kind="sigmoid")
    assert slope(loss, SINGLE, best)[here].abs().max() < 1e-7


def test_logit_adjustment_of_several_labels() -> None:
    loss = made(SEVERAL, logit_adjustment=1.0)
    there = [0, 1, 3, 4]
    assert slope(loss, SEVERAL, torch.zeros(5))[there].abs().max() < 1e-7


def test_a_class_without_images_has_the_prior_of_the_rarest() -> None:
    for kind in ("softmax", "sigmoid"):
        shift = made(SINGLE, logit_adjustment=1.0, kind=kind).shift
        assert shift is not None and shift.isfinite().all() and shift[2] == shift[4]


def test_even_sampling_leaves_no_prior() -> None:
    shift = made(SINGLE, {"balance": "class"}, logit_adjustment=1.0).shift
    assert shift is not None
    assert shift.tolist() == pytest.approx([math.log(1 / 5)] * 5)
    shift = made(SINGLE, {"balance": "class"}, logit_adjustment=1.0, kind="sigmoid").shift
    assert shift is not None
    assert shift.tolist() == pytest.approx([math.log(1 / 3)] * 5)  # a quarter against the rest


# --- through a training ---

PRIOR = np.array([15, 6, 3]) / 24


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pictures to learn from, 15 blue, 6 green and 3 red, and 2 of each to measure by."""
    root = tmp_path_factory.mktemp("uneven")
    paint(root / "train", 15)
    paint(root / "val", 2)
    for name, last in (("green", 6), ("red", 3)):
        for i in range(last, 15):
            (root / "train" / name / f"{i}.png").unlink()
    return root


def entropy(p: float) -> float:
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


FIRST: dict[str, tuple[dict[str, Any], float]] = {  # the new head says 0 of every class
    "softmax": ({}, math.log(3)),
    "sigmoid": ({"kind": "sigmoid"}, math.log(2)),
    "focal": ({"focal": 2.0}, (2 / 3) ** 2 * math.log(3)),
    "focal sigmoid": ({"focal": 1.0, "kind": "sigmoid"}, math.log(2) / 2),
    "balanced": ({"class_weights": "balanced"}, math.log(3)),
    "balanced sigmoid": ({"class_weights": "balanced", "kind": "sigmoid"}, math.log(2)),
    "effective": ({"class_weights": "effective", "focal": 0.5}, (2 / 3) ** 0.5 * math.log(3)),
    "adjusted": ({"logit_adjustment": 1.0}, float(-(PRIOR * np.log(PRIOR)).sum())),
    "adjusted sigmoid": (
        {"logit_adjustment": 1.0, "kind": "sigmoid"},
        float(np.mean([entropy(p) for p in PRIOR])),
    ),
}


@pytest.mark.parametrize("name", FIRST)
def test_a_training_minimises_it(name: str, uneven: Path, tmp_path: Path) -> None:
    """The first step sees every image once, so its loss is known; later ones are lower."""
    loss, first = FIRST[name]
    config = tiny_config(
        uneven,
        augment=AugmentConfig(flip=False),
        loss=LossConfig(**loss),
        train__batch_size=24,
        train__label_smoothing=0.0,
        train__warmup_epochs=0.0,
        train__epochs=5,
        model__drop_path=0.0,
    )
    history = train(config, tmp_path / "run").history()
    assert history[0]["train_loss"] == pytest.approx(first, rel=1e-5)
    assert history[-1]["train_loss"] < 0.97 * first
    assert math.isfinite(history[-1]["val_loss"])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_everything_at_once_in_16_bits(precision: Any, uneven: Path, tmp_path: Path) -> None:
    config = tiny_config(
        uneven,
        precision=precision,
        loss=LossConfig(kind="sigmoid", focal=1.5, class_weights="balanced"),
        data__sampling=SamplingConfig(balance="sqrt"),
    )
    history = train(config, tmp_path / "run").history()
    assert all(math.isfinite(line["train_loss"]) for line in history)


def test_what_does_not_fit_leaves_no_run(uneven: Path, tmp_path: Path) -> None:
    loss = LossConfig(class_weights="balanced", logit_adjustment=1.0)
    with pytest.raises(ConfigError, match="leave one off"):
        train(tiny_config(uneven, loss=loss), tmp_path / "run")
    assert not (tmp_path / "run").exists()
