"""Heat as colour on a picture. Pictures are uint8 [height, width, 3] everywhere here."""

import io
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from vitrail.files import write_atomic

ColourMap = Literal[
    "inferno", "magma", "plasma", "viridis"
]  # lightness grows evenly with the value
MINIMUM_SIDE = 224  # pixels; a smaller picture shows nothing on a screen
MAXIMUM_SIDE = 4096  # pixels; up to which a small picture is enlarged

Picture = UInt8[np.ndarray, "_ _ 3"]  # height, width
Heat = Float[np.ndarray, "_ _"]


def to_picture(image: UInt8[Tensor, "c h w"] | Float[Tensor, "c h w"]) -> Picture:
    """Turn an image as `Preprocess.fit` gives it into a picture; levels are rounded to 8 bits.

    Of many bands the first three are shown as red, green and blue; of two the first, as grey.
    """
    if len(image) not in (1, 3):
        image = image[: 3 if len(image) > 3 else 1]
    image = image.round().clamp(0, 255).to(torch.uint8) if image.is_floating_point() else image
    return image.expand(3, -1, -1).permute(1, 2, 0).contiguous().cpu().numpy()


def overlay(
    picture: Picture,
    heat: Heat,
    *,
    colours: ColourMap = "plasma",
    strength: float = 0.75,
    minimum_side: int = MINIMUM_SIDE,
) -> Picture:
    """Lay heat over a picture; where there is none, the picture is untouched.

    Args:
        picture: what the model saw.
        heat: in [0, 1], of the picture's height and width.
        colours: the colour of a value.
        strength: how much colour covers the picture where the heat is 1, in [0, 1].
        minimum_side: small pictures are enlarged by a whole factor up to this many pixels.
    Raises:
        ValueError: heat and picture differ in size, heat is outside [0, 1] or not finite.
    """
    if heat.shape != picture.shape[:2]:
        raise ValueError(f"heat of {heat.shape} does not fit a picture of {picture.shape[:2]}")
    if not 0 <= strength <= 1:
        raise ValueError(f"strength={strength} must be in [0, 1]")
    colour = colourise(heat, colours).astype(np.float32)
    # The root lets weak heat show its colour; linear cover would leave nothing to see below 0.3.
    cover = strength * np.sqrt(heat[:, :, None].astype(np.float32).clip(0, 1))
    mixed = (1 - cover) * picture + cover * colour
    return enlarge(np.rint(mixed).astype(np.uint8), minimum_side)


def colourise(
    heat: Heat,
    colours: ColourMap = "plasma",
    value_range: tuple[float, float] = (0.0, 1.0),
) -> Picture:
    """Give each value its colour, `value_range` from the darkest to the brightest.

    Raises:
        ValueError: a value is outside the range or not finite.
    """
    low, high = value_range
    slack = 1e-5 * (high - low)  # a cosine of 1 + 1e-7 is a 1
    if not ((heat >= low - slack) & (heat <= high + slack)).all():
        raise ValueError(f"heat must be finite and in [{low}, {high}]")
    places = np.clip(np.rint((heat - low) / (high - low) * 255), 0, 255)
    return colour_table(colours)[places.astype(np.uint8)]


@cache
def colour_table(name: str) -> UInt8[np.ndarray, "256 3"]:
    """Look up the colours from dark to bright.

    Raises:
        ValueError: they are unknown.
    """
    import matplotlib  # costs a third of a second; only pictures need it

    known = get_args(ColourMap)
    if name not in known:
        raise ValueError(f"colours={name!r} is not one of {', '.join(known)}")
    return np.asarray(matplotlib.colormaps[name](np.arange(256), bytes=True)[:, :3])


def enlarge(picture: Picture, minimum_side: int = MINIMUM_SIDE) -> Picture:
    """Repeat pixels until the shorter side has at least `minimum_side`; each stays a square.

    The factor is whole, so all squares are equal. A very long picture is not enlarged beyond
    `MAXIMUM_SIDE`; a picture that is large enough is given back as it is.
    """
    short, long = sorted(picture.shape[:2])
    factor = max(1, min(-(-minimum_side // short), MAXIMUM_SIDE // long))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def save_png(path: Path | str, picture: Picture) -> None:
    """Write a picture as PNG; the file is whole or, after a failure, as it was before.

    Raises:
        StorageError: the disk is full or cannot be written.
    """
    write_atomic(Path(path), png_bytes(picture))


def png_bytes(picture: Picture) -> bytes:
    """Encode a picture as PNG, for a file, a page or an answer over HTTP."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
