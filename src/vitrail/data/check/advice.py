"""Settings of `vitrail train` that follow from the images; what cannot be known is asked."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vitrail.data.check.class_findings import VERY_UNEVEN, imbalance, training_split
from vitrail.data.check.duplicates import is_drawn
from vitrail.data.check.survey import Survey
from vitrail.data.dataset import Data

SIZES = (8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224)
PATCHES = (1, 2, 4, 7, 8, 14, 16, 28, 32)  # pixels, of published models or smaller
GRIDS = (4, 16)  # fewest and most patches along a side
GRID = 12  # patches along a side that are aimed at
LONG = 1.5  # longer side in units of the shorter one from which on a crop loses too much
FEW, MANY = 100, 1000  # images of a class for strong, and for light augmentation
MOSTLY = 0.5
SIDES = (("left", "right"), ("b", "d"), ("p", "q"), ("l", "r"), ("clockwise", "counterclockwise"))


@dataclass(frozen=True)
class Advice:
    """Flags of `vitrail train` and why; without flags it is a question."""

    flags: str
    why: str


def advise(survey: Survey) -> list[Advice]:
    """Give the settings that the images suggest; nothing where no image can be used."""
    if not survey.good.any():
        return []
    return [
        *_size(survey),
        *_pixels(survey),
        *_shape(survey),
        *_variation(survey),
        *_balance(survey),
        *_flip(survey.data),
    ]


def input_size(survey: Survey) -> int:
    """Give the side of the model's input: the largest of SIZES that half of the images reach."""
    table = survey.table[survey.good]
    if not len(table):
        return SIZES[-1]
    middle = np.median(np.minimum(table["height"], table["width"]))
    return max((size for size in SIZES if size <= middle), default=SIZES[0])


def patches(size: int) -> list[int]:
    """List the patches that divide an input of this side into 4 to 16 along it, the best first."""
    low, high = GRIDS
    fitting = [p for p in PATCHES if size % p == 0 and low <= size // p <= high]
    return sorted(fitting, key=lambda patch: (abs(size // patch - GRID), -patch))


def _size(survey: Survey) -> Iterator[Advice]:
    table = survey.table[survey.good]
    size = input_size(survey)
    middle = float(np.median(np.minimum(table["height"], table["width"])))
    best, *others = patches(size)
    pairs = [f"{size}/{each}" for each in others]
    for smaller in [each for each in SIZES if each < size][-3:]:
        pairs += [f"{smaller}/{each}" for each in patches(smaller)[:1]]
    why = (
        f"the shorter side has {middle:g} pixels in the middle of all images; {size}/{best} are "
        f"{size // best} x {size // best} patches; also fitting: {', '.join(pairs)}"
    )
    yield Advice(f"--image-size {size} {size} --patch-size {best}", why)


def _pixels(survey: Survey) -> Iterator[Advice]:
    """Channels and depth."""
    table = survey.table[survey.good]
    modes = [mode.decode() for mode in np.unique(table["mode"])]
    bands = {int(mode.split()[0]) if " band" in mode else 0 for mode in modes}
    if len(bands) == 1 and (count := bands.pop()):
        yield Advice(f"--input.channels {count}", f"every image has {count} bands")
    elif table["grey"].all():
        yield Advice("--input.channels 1", "no image has any colour")
    names = [mode for mode in modes if mode.endswith(";16") or mode[:2] in ("I", "F", "I;")]
    deep = np.isin(table["mode"], [name.encode() for name in names])
    if deep.mean() > MOSTLY:
        yield Advice("--input.depth 16", f"{deep.mean():.0%} of the images have more than 8 bits")


def _shape(survey: Survey) -> Iterator[Advice]:
    table = survey.table[survey.good]
    sides = np.stack([table["height"], table["width"]]).astype(np.float64)
    middle = float(np.median(sides.max(0) / sides.min(0)))
    if middle > LONG:
        yield Advice(
            "--input.resize pad --augment.crop-area None",
            f"the longer side is {middle:.1f} times the shorter one in the middle of all images; "
            "a square cut from them would lose much (or --input.resize squash)",
        )


def _variation(survey: Survey) -> Iterator[Advice]:
    """How strongly training images are varied."""
    name = training_split(survey.data)
    part = survey.names.index(name)
    counts = survey.counts(part)
    if not counts.any():
        return
    each = int(np.median(counts[counts > 0]))
    why = f"{each:,} images of a class in {name}, in the middle of all classes"
    if is_drawn(survey.table[survey.good]).mean() > MOSTLY:
        flags = "--augment.rotate 10 --augment.translate 0.08 --augment.scale 0.2"
        yield Advice(flags, "drawings on a plain ground: moved a little, not cut")
    elif each < FEW:
        yield Advice("--augment.erase 0.25 --augment.mixup 0.4", f"{why}: few, so vary them much")
    elif each < MANY:
        yield Advice("--augment.erase 0.2 --augment.mixup 0.2", why)
    else:
        yield Advice("--augment.erase 0.1 --augment.mixup 0.1", f"{why}: many, so vary them little")


def _balance(survey: Survey) -> Iterator[Advice]:
    name = training_split(survey.data)
    ratio = imbalance(survey.counts(survey.names.index(name)))
    if ratio > VERY_UNEVEN and not survey.data.multi_label:
        yield Advice(
            "--data.sampling.balance sqrt",
            f"the largest class has {ratio:,.0f} times the images of the smallest "
            "(--data.sampling.balance class draws all equally often)",
        )


def _flip(data: Data) -> Iterator[Advice]:
    """Ask what no program can know."""
    question = (
        "are mirrored images still of their class? then --augment.flip, else --augment.no-flip"
    )
    hint = _mirror_hint(data)
    yield Advice("", f"{question}; {hint}" if hint else question)


def _mirror_hint(data: Data) -> str:
    """Say what in the names speaks against mirrored images."""
    names = [name.casefold() for name in data.classes]
    if not data.flips_safe or (names and all(len(name) == 1 or name.isdigit() for name in names)):
        return "the classes look like letters or digits: probably not"
    words = [set(name.replace("-", " ").replace("_", " ").split()) for name in names]
    for one, other in SIDES:
        if any(one in each for each in words) and any(other in each for each in words):
            return f"there are classes of {one!r} and {other!r}: probably not"
    return ""
