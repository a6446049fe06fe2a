"""Policies against the tables of their references, and the laws of their draws."""

from collections import Counter

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from vitrail.data.augment import AugmentConfig, Draw, augment, policy_layers
from vitrail.data.augmentation.operations import OPERATIONS
from vitrail.data.augmentation.policies import (
    AUGREG,
    DRAWS,
    increasing_spans,
    jitter,
    randaugment,
    randaugment_increasing,
    reference_spans,
    three_augment,
    trivial_augment,
    trivial_spans,
)

SIZE = (112, 224)
POLICIES = ["randaugment", "randaugment-increasing", "trivialaugment", "3-augment"]


def uniform(n: int, count: int = DRAWS, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).random((n, count))


def draw_for(samples: NDArray[np.int64], epoch: int = 0) -> Draw:
    return Draw(5, np.full(len(samples), epoch), samples)


def amounts(spans: str, name: str, magnitude: float, sign: float = 0.9) -> float:
    """The amount of an operation; a sign from 0.5 on is plus."""
    tables = {
        "reference": reference_spans(SIZE),
        "increasing": increasing_spans(SIZE),
        "trivial": trivial_spans(SIZE),
    }
    full = 30 if spans == "trivial" else 10
    span = tables[spans][name]
    (value,) = span.amounts(np.array([magnitude]) / full, np.array([sign]))
    return float(value)


# --- the tables ---


@pytest.mark.parametrize(
    ("spans", "name", "magnitude", "expected"),
    [
        ("reference", "Rotate", 10, 30),
        ("reference", "Rotate", 15, 45),
        ("reference", "Posterize", 0, 0),
        ("reference", "Posterize", 9, 3),
        ("reference", "Posterize", 20, 8),
        ("reference", "Solarize", 9, 230),
        ("reference", "Solarize", 20, 512),
        ("reference", "SolarizeAdd", 15, 165),
        ("reference", "Color", 0, 0.1),
        ("reference", "Sharpness", 15, 2.8),
        ("reference", "ShearX", 9, 0.27),
        ("reference", "TranslateX", 10, 100),
        ("reference", "TranslateY", 15, 75),
        ("reference", "Cutout", 10, 20),
        ("increasing", "Posterize", 9, 1),
        ("increasing", "Solarize", 9, 26),
        ("increasing", "SolarizeAdd", 9, 99),
        ("increasing", "Brightness", 10, 1.9),
        ("increasing", "TranslateX", 10, 100.8),
        ("trivial", "Rotate", 30, 135),
        ("trivial", "Rotate", 2, 9),
        ("trivial", "Posterize", 5, 7),
        ("trivial", "Posterize", 30, 2),
        ("trivial", "Solarize", 0, 256),
        ("trivial", "Solarize", 30, 0),
        ("trivial", "Contrast", 0, 0.01),
        ("trivial", "Contrast", 30, 2.0),
        ("trivial", "ShearY", 30, 0.99),
        ("trivial", "TranslateY", 29, 30),
    ],
)
def test_amounts_of_the_references(
    spans: str, name: str, magnitude: float, expected: float
) -> None:
    assert amounts(spans, name, magnitude) == pytest.approx(expected)


def test_signs() -> None:
    for name in ("Rotate", "ShearX", "TranslateY"):
        for spans in ("reference", "increasing", "trivial"):
            assert amounts(spans, name, 7, 0.1) == -amounts(spans, name, 7, 0.9) < 0
    assert amounts("increasing", "Color", 9, 0.1) == pytest.approx(0.19)
    assert amounts("reference", "Color", 9, 0.1) == amounts("reference", "Color", 9, 0.9)


def test_the_operations_of_each_policy() -> None:
    assert len(reference_spans(SIZE)) == 16
    assert set(increasing_spans(SIZE)) == set(reference_spans(SIZE)) - {"Cutout"}
    assert set(trivial_spans(SIZE)) == set(increasing_spans(SIZE)) - {"Invert", "SolarizeAdd"} | {
        "Identity"
    }
    for spans in (reference_spans, increasing_spans, trivial_spans):
        assert set(spans(SIZE)) <= set(OPERATIONS)


@pytest.mark.peer
@pytest.mark.parametrize("magnitude", [0, 1, 2.5, 3, 5, 7, 8.25, 9, 10])
def test_amounts_are_those_of_timm(magnitude: float) -> None:
    auto = pytest.importorskip("timm.data.auto_augment")
    increasing = {"Posterize", "Solarize", "Color", "Contrast", "Brightness", "Sharpness"}
    for name in increasing_spans(SIZE):
        if name in ("AutoContrast", "Equalize", "Invert"):
            continue
        if name.startswith("Translate"):
            key, unit = f"{name}Rel", SIZE[1] if name.endswith("X") else SIZE[0]
        else:
            key, unit = f"{name}Increasing" if name in increasing else name, 1
        theirs = {auto.LEVEL_TO_ARG[key](magnitude, {})[0] * unit for _ in range(60)}
        ours = {amounts("increasing", name, magnitude, sign) for sign in (0.1, 0.9)}
        assert sorted(ours) == pytest.approx(sorted(theirs)), name
        if name in ("Posterize", "Solarize"):
            theirs = auto.LEVEL_TO_ARG[name](magnitude, {})[0]
            assert amounts("reference", name, magnitude) == theirs


# --- the draws ---


def test_operations_are_equally_frequent() -> None:
    n = 16000
    for one, kinds in (
        (randaugment(uniform(n), SIZE, 9.0, 0.0), 16),
        (trivial_augment(uniform(n), SIZE), 14),
        (three_augment(uniform(n)), 3),
    ):
        counts = Counter(one.names.tolist())
        assert len(counts) == kinds
        assert stats.chisquare(list(counts.values())).pvalue > 1e-4
    halved = Counter(randaugment_increasing(uniform(n), SIZE, 9.0, 0.0).names.tolist())
    assert abs(halved.pop("Identity") - n / 2) < 300
    assert len(halved) == 15


def test_signs_and_magnitudes_are_drawn_for_each_image() -> None:
    one = trivial_augment(uniform(60000), SIZE)
    angles = one.amounts[one.names == "Rotate"]
    assert len(set(np.abs(angles).tolist())) == 31
    assert abs((angles < 0).mean() - 0.5) < 0.05
    assert one.fill == 0 and randaugment(uniform(1), SIZE, 9.0, 0.0).fill == 128


def test_the_deviation_of_the_magnitude() -> None:
    u = uniform(80000)
    one = randaugment(u, SIZE, 10.0, 2.0)
    slants = np.abs(one.amounts[one.names == "ShearX"]) / 0.03
    assert stats.kstest(slants, stats.norm(10, 2).cdf).pvalue > 1e-4
    wide = randaugment_increasing(u, SIZE, 9.0, 5.0)
    slants = np.abs(wide.amounts[wide.names == "ShearX"]) / 0.03
    assert slants.min() == 0 and slants.max() == pytest.approx(10)
    edge = uniform(4)
    edge[:, 2] = 0.0
    assert np.isfinite(randaugment(edge, SIZE, 9.0, 1.0).amounts).all()


def test_blur_and_solarize_of_3_augment() -> None:
    one = three_augment(uniform(9000))
    blurs = one.amounts[one.names == "GaussianBlur"]
    assert stats.kstest(blurs, stats.uniform(0.1, 1.9).cdf).pvalue > 1e-4
    assert (one.amounts[one.names == "Solarize"] == 128).all()


def test_jitter_is_in_another_order_for_each_image() -> None:
    most = (0.4, 0.3, 0.2, 0.1)
    layers = jitter(uniform(24000, 8), most)
    orders = Counter(zip(*[each.names.tolist() for each in layers], strict=True))
    assert len(orders) == 24
    assert stats.chisquare(list(orders.values())).pvalue > 1e-4
    names = np.concatenate([each.names for each in layers])
    values = np.concatenate([each.amounts for each in layers])
    for name, limit in zip(("Brightness", "Contrast", "Color", "Hue"), most, strict=True):
        middle = 0 if name == "Hue" else 1
        law = stats.uniform(middle - limit, 2 * limit)
        assert stats.kstest(values[names == name], law.cdf).pvalue > 1e-4


def test_jitter_leaves_out_what_is_zero() -> None:
    layers = jitter(uniform(50, 8), (0.0, 0.3, 0.0, 0.0))
    names = np.stack([each.names for each in layers])
    assert ((names == "Contrast").sum(axis=0) == 1).all()
    assert ((names == "Identity").sum(axis=0) == 3).all()


# --- settings ---


@pytest.mark.parametrize("level", AUGREG)
def test_levels_of_augreg_are_settings(level: str) -> None:
    config = AugmentConfig().replace(**AUGREG[level])
    assert config.mixup == AUGREG[level]["mixup"]
    layers = policy_layers(draw_for(np.arange(3)), config, SIZE)
    assert len(layers) == (0 if level == "none" else 2)


def test_levels_of_augreg_are_those_of_the_paper() -> None:
    published = {  # mixup, layers, magnitude
        "light1": (0.0, 2, 0),
        "light2": (0.2, 2, 10),
        "medium1": (0.2, 2, 15),
        "medium2": (0.5, 2, 15),
        "strong1": (0.5, 2, 20),
        "strong2": (0.8, 2, 20),
    }
    found = {
        name: (level["mixup"], level["layers"], level["magnitude"])
        for name, level in AUGREG.items()
        if name != "none"
    }
    assert found == published


def test_3_augment_brings_its_jitter_unless_another_is_set() -> None:
    draw = draw_for(np.arange(3))
    config = AugmentConfig(policy="3-augment")
    assert len(policy_layers(draw, config, SIZE)) == 5
    assert len(policy_layers(draw, config.replace(jitter=(0, 0, 0, 0)), SIZE)) == 1
    changed = policy_layers(draw, config.replace(jitter=(0, 0, 0, 0.5)), SIZE)
    assert {name for each in changed[1:] for name in each.names} == {"Hue", "Identity"}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_policy_depends_on_the_image_alone(policy: str, channels: int) -> None:
    config = AugmentConfig(
        policy=policy, layers=2, magnitude_std=0.5, jitter=(0.4, 0.4, 0.2, 0.1), flip_vertical=True
    )
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (21, channels, 27, 36), generator=generator, dtype=torch.uint8)
    samples = np.arange(21) * 3
    for batch in (images, images.float() * 0.9 + 0.3):
        together = augment(batch, draw_for(samples), config)
        order = np.random.default_rng(0).permutation(21)
        shuffled = augment(batch[order], draw_for(samples[order]), config)
        assert torch.equal(shuffled, together[order])
        for first, last in ((0, 1), (1, 8), (8, 21)):
            part = augment(batch[first:last], draw_for(samples[first:last]), config)
            assert torch.equal(part, together[first:last])
        assert not torch.equal(augment(batch, draw_for(samples, epoch=1), config), together)


def test_more_layers_begin_with_the_same_ones() -> None:
    draw, config = draw_for(np.arange(9)), AugmentConfig(policy="randaugment", layers=3)
    three = policy_layers(draw, config, SIZE)
    two = policy_layers(draw, config.replace(layers=2), SIZE)
    for mine, other in zip(two, three[:2], strict=True):
        assert (mine.names == other.names).all() and (mine.amounts == other.amounts).all()
