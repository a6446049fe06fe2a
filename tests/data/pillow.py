"""What Pillow makes of an image: the oracle of the tests of augmentation."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from vitrail.data.augmentation.operations import Layer

BILINEAR = Image.Resampling.BILINEAR
AMOUNTS: dict[str, tuple[float, ...]] = {
    "Identity": (0,),
    "AutoContrast": (0,),
    "Equalize": (0,),
    "Invert": (0,),
    "Posterize": (1, 2, 3, 5, 8),
    "Solarize": (0, 1, 77, 128, 255, 256),
    "SolarizeAdd": (0, 1, 50, 110, 128),
    "Color": (0, 0.1, 0.37, 1, 1.9, 2.8),
    "Contrast": (0, 0.1, 0.37, 1, 1.9, 2.8),
    "Brightness": (0, 0.1, 0.37, 1, 1.9, 2.8),
    "Sharpness": (0, 0.1, 0.37, 1, 1.9, 2.8),
    "Rotate": (-135, -30, -0.3, 0, 1, 17.77, 45),
    "ShearX": (-0.99, -0.3, 0, 0.1, 0.3),
    "ShearY": (-0.99, -0.3, 0, 0.1, 0.3),
    "TranslateX": (-32, -7.3, -0.5, 0, 0.25, 4, 70),
    "TranslateY": (-32, -7.3, -0.5, 0, 0.25, 4, 70),
    "Grey": (0,),
    "GaussianBlur": (0, 0.1, 0.5, 1.3, 2, 3.7, 9),
    "Hue": (-0.5, -0.1, 0, 0.05, 0.37, 0.5),
}
"""Amounts to try, for every operation that Pillow has."""


def oracle(name: str, image: Image.Image, amount: float, fill: int = 128) -> Image.Image:
    """Apply an operation of `vitrail.data.augmentation.operations.OPERATIONS` with Pillow."""
    enhance = {
        "Color": ImageEnhance.Color,
        "Contrast": ImageEnhance.Contrast,
        "Brightness": ImageEnhance.Brightness,
        "Sharpness": ImageEnhance.Sharpness,
    }
    affine = {
        "ShearX": (1, amount, 0, 0, 1, 0),
        "ShearY": (1, 0, 0, amount, 1, 0),
        "TranslateX": (1, 0, amount, 0, 1, 0),
        "TranslateY": (1, 0, 0, 0, 1, amount),
    }
    plain = {
        "AutoContrast": ImageOps.autocontrast,
        "Equalize": ImageOps.equalize,
        "Invert": ImageOps.invert,
    }
    colour = fill if image.mode == "L" else (fill,) * 3
    if name in plain:
        return plain[name](image)
    if name in enhance:
        return enhance[name](image).enhance(amount)
    if name in affine:
        how = Image.Transform.AFFINE
        return image.transform(image.size, how, affine[name], BILINEAR, fillcolor=colour)
    if name == "Rotate":
        return image.rotate(amount, BILINEAR, fillcolor=colour)
    return _others(name, image, amount)


def _others(name: str, image: Image.Image, amount: float) -> Image.Image:
    if name == "Posterize":
        return ImageOps.posterize(image, int(amount))
    if name == "Solarize":
        return ImageOps.solarize(image, amount)
    if name == "SolarizeAdd":
        table = [min(255, i + int(amount)) if i < 128 else i for i in range(256)]
        return image.point(table * len(image.getbands()))
    if name == "Grey":
        return image.convert("L").convert(image.mode)
    if name == "GaussianBlur":
        return image.filter(ImageFilter.GaussianBlur(amount))
    if name == "Hue" and image.mode == "RGB":  # as torchvision's adjust_hue
        turn, saturation, value = image.convert("HSV").split()
        turned = np.asarray(turn) + np.int32(amount * 255).astype(np.uint8)
        return Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB")
    return image


def layer(name: str, *amounts: float, fill: int = 128) -> Layer:
    """One operation, with an amount for each image; cut-outs are in the middle."""
    every = np.array(amounts, dtype=np.float64)
    return Layer(np.array([name] * len(every)), every, np.full((len(every), 2), 0.5), fill)


def samples(channels: int, size: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """Noise, pale noise, one level, two levels, and a smooth picture: each h x w x channels."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: size[0], : size[1]]
    waves = [127 + 60 * np.sin(x / (9 + c)) + 60 * np.cos(y / (13 + c)) for c in range(channels)]
    shape = (*size, channels)
    return [
        rng.integers(0, 256, shape).astype(np.uint8),
        rng.integers(90, 140, shape).astype(np.uint8),
        np.full(shape, 77, np.uint8),
        np.where(rng.random(shape) < 0.9, 30, 200).astype(np.uint8),
        np.stack(waves, axis=-1).astype(np.uint8),
    ]
