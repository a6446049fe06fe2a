"""Policies: which operations each image gets, and how strong, from its own draws.

Each function gives layers for `operations.apply`; its numbers are those of the reference named
there.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from vitrail.data.augmentation.operations import Layer

DRAWS = 6  # numbers in [0, 1) for each image and layer of a policy
_GREY, _BLACK = 128, 0  # what the references fill with
_JITTER = np.array(["Brightness", "Contrast", "Color", "Hue"])

Size = tuple[int, int]  # height, width in pixels
Uniform = NDArray[np.float64]  # numbers in [0, 1)
Jitter = tuple[float, float, float, float]  # brightness, contrast, saturation, hue


class Span(NamedTuple):
    """Amounts of an operation: `low` at magnitude 0, `high` at the reference's full magnitude."""

    low: float = 0.0
    high: float = 0.0
    signed: bool = False  # half of the images get low - x instead of low + x
    whole: bool = False  # x is cut to a whole number

    def amounts(self, strength: Uniform, u: Uniform) -> NDArray[np.float64]:
        """Give the amounts for strengths of 0 to 1, or beyond; `u` chooses the sign."""
        x = (self.high - self.low) * strength
        if self.whole:
            x = np.trunc(x + np.sign(x) * 1e-9)  # 6 x (5 / 30) is 1
        return self.low + (np.where(u < 0.5, -x, x) if self.signed else x)


def reference_spans(size: Size) -> dict[str, Span]:
    """RandAugment's operations at magnitude 10, as the authors' code and AugReg have them.

    That code moves by 100 and cuts out 2 x 40 of 224 pixels; other sizes get the same part of
    their sides. Posterize keeps more bits, and Solarize inverts less, the larger the magnitude.
    Source: Cubuk et al. 2020, arXiv:1909.13719; google-research/big_vision, pp/autoaugment.py.
    """
    part = 100 / 224
    factor = Span(0.1, 1.9)
    return {
        "AutoContrast": Span(),
        "Equalize": Span(),
        "Invert": Span(),
        "Rotate": Span(0, 30, signed=True),
        "Posterize": Span(0, 4, whole=True),
        "Solarize": Span(0, 256, whole=True),
        "Color": factor,
        "Contrast": factor,
        "Brightness": factor,
        "Sharpness": factor,
        "ShearX": Span(0, 0.3, signed=True),
        "ShearY": Span(0, 0.3, signed=True),
        "TranslateX": Span(0, part * size[1], signed=True),
        "TranslateY": Span(0, part * size[0], signed=True),
        "Cutout": Span(0, 40 / 224 * min(size), whole=True),
        "SolarizeAdd": Span(0, 110, whole=True),
    }


def increasing_spans(size: Size) -> dict[str, Span]:
    """RandAugment's operations at magnitude 10 where each is stronger the larger the magnitude.

    Source: timm, data/auto_augment.py, `rand-…-inc1`; DeiT (arXiv:2012.12877) uses it.
    """
    factor = Span(1, 1.9, signed=True)
    changed = {
        "Posterize": Span(4, 0, whole=True),
        "Solarize": Span(256, 0, whole=True),
        "Color": factor,
        "Contrast": factor,
        "Brightness": factor,
        "Sharpness": factor,
        "TranslateX": Span(0, 0.45 * size[1], signed=True),
        "TranslateY": Span(0, 0.45 * size[0], signed=True),
    }
    spans = reference_spans(size) | changed
    return {name: span for name, span in spans.items() if name != "Cutout"}


def trivial_spans(size: Size) -> dict[str, Span]:
    """TrivialAugment's operations, wide, at magnitude 30; moves in pixels, whatever the size.

    Source: Müller and Hutter 2021, arXiv:2103.10158; automl/trivialaugment, `wide_standard`.
    """
    factor = Span(0.01, 2.0)
    return {
        "Identity": Span(),
        "AutoContrast": Span(),
        "Equalize": Span(),
        "Rotate": Span(0, 135, signed=True, whole=True),
        "Solarize": Span(256, 0, whole=True),
        "Color": factor,
        "Posterize": Span(8, 2, whole=True),
        "Contrast": factor,
        "Brightness": factor,
        "Sharpness": factor,
        "ShearX": Span(0, 0.99, signed=True),
        "ShearY": Span(0, 0.99, signed=True),
        "TranslateX": Span(0, 32, signed=True, whole=True),
        "TranslateY": Span(0, 32, signed=True, whole=True),
    }


def randaugment(u: Uniform, size: Size, magnitude: float, deviation: float) -> Layer:
    """Draw one layer of RandAugment, as its authors' code has it.

    Args:
        u: b x DRAWS.
        size: (height, width) of the images in pixels.
        magnitude: 0 to 30; at 10 the amounts are those of `reference_spans`, beyond they go on.
        deviation: of the magnitude, normal, cut to 0 to 30; not in the paper, but usual.
    """
    strength = _magnitudes(u[:, 2], magnitude, deviation, most=30.0) / 10
    return _choose(u, reference_spans(size), strength, _GREY)


def randaugment_increasing(u: Uniform, size: Size, magnitude: float, deviation: float) -> Layer:
    """Draw one layer of RandAugment as timm and DeiT have it; see `randaugment`.

    The magnitude is cut to 0 to 10, and half of the images are left as they are.
    """
    strength = _magnitudes(u[:, 2], magnitude, deviation, most=10.0) / 10
    layer = _choose(u, increasing_spans(size), strength, _GREY)
    return layer._replace(names=np.where(u[:, 3] < 0.5, layer.names, "Identity"))


RANDAUGMENT: dict[str, Callable[[Uniform, Size, float, float], Layer]] = {
    "randaugment": randaugment,
    "randaugment-increasing": randaugment_increasing,
}
"""The variants of RandAugment, by the name of the policy."""


def trivial_augment(u: Uniform, size: Size) -> Layer:
    """Draw the one layer of TrivialAugment: an operation, and a magnitude of 0, 1, … 30.

    Args:
        u: b x DRAWS.
        size: (height, width) of the images in pixels.
    """
    return _choose(u, trivial_spans(size), np.floor(u[:, 2] * 31) / 30, _BLACK)


def three_augment(u: Uniform) -> Layer:
    """Draw the first layer of 3-Augment: grey, solarized from 128 on, or blurred by 0.1 to 2.

    Colour jitter of 0.3 follows it in the reference.
    Source: Touvron et al. 2022, arXiv:2204.07118, section 3; facebookresearch/deit, augment.py.
    """
    spans = {
        "Grey": Span(),
        "Solarize": Span(128, 128),
        "GaussianBlur": Span(0.1, 2.0),
    }
    return _choose(u, spans, u[:, 2], _GREY)


def jitter(u: Uniform, most: Jitter) -> list[Layer]:
    """Draw colour jitter: four layers, whose order is another for each image.

    Args:
        u: b x 8.
        most: brightness, contrast and saturation change by a factor of 1 - most to 1 + most, hue
            by -most to most of the circle; 0 leaves a part out.
    Source: torchvision's ColorJitter.
    """
    change = (2 * u[:, :4] - 1) * np.array(most)
    amounts = change + np.array([1, 1, 1, 0])
    names = np.where(np.array(most) > 0, _JITTER, "Identity")
    orders = np.argsort(u[:, 4:8], axis=1)
    places = np.zeros((len(u), 2))
    every = np.arange(len(u))
    return [Layer(names[part], amounts[every, part], places, _GREY) for part in orders.T]


def _magnitudes(u: Uniform, mean: float, deviation: float, most: float) -> Uniform:
    if not deviation:
        return np.full(len(u), min(mean, most))
    return np.clip(mean + deviation * ndtri(u), 0, most)  # type: ignore[no-any-return]


def _choose(u: Uniform, spans: dict[str, Span], strength: Uniform, fill: int) -> Layer:
    """Choose one of the operations, all equally often.

    `u` holds: operation, sign, two numbers for the caller, place of a cut-out.
    """
    chosen = np.floor(u[:, 0] * len(spans)).astype(np.int64)
    each = np.stack([span.amounts(strength, u[:, 1]) for span in spans.values()])
    amounts = each[chosen, np.arange(len(u))]
    return Layer(np.array(list(spans))[chosen], amounts, u[:, 4:6], fill)


AUGREG: dict[str, dict[str, Any]] = {
    "none": {"policy": "none", "mixup": 0.0},
    "light1": {"policy": "randaugment", "layers": 2, "magnitude": 0.0, "mixup": 0.0},
    "light2": {"policy": "randaugment", "layers": 2, "magnitude": 10.0, "mixup": 0.2},
    "medium1": {"policy": "randaugment", "layers": 2, "magnitude": 15.0, "mixup": 0.2},
    "medium2": {"policy": "randaugment", "layers": 2, "magnitude": 15.0, "mixup": 0.5},
    "strong1": {"policy": "randaugment", "layers": 2, "magnitude": 20.0, "mixup": 0.5},
    "strong2": {"policy": "randaugment", "layers": 2, "magnitude": 20.0, "mixup": 0.8},
}
"""Settings of AugmentConfig by level: `config.replace(**AUGREG["medium1"])`.

light1 is not nothing: at magnitude 0 RandAugment still inverts, blackens and takes colour away.
Source: Steiner et al. 2022, arXiv:2106.10270, section 3; big_vision, configs/vit_i1k.py.
"""
