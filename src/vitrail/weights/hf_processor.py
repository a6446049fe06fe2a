"""From `preprocessor_config.json` of transformers to our preprocessing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vitrail.data.preprocess import Preprocess
from vitrail.errors import ConfigError, WeightsError
from vitrail.models import BackboneConfig
from vitrail.weights.defaults import HALF, IMAGENET, default
from vitrail.weights.hf_values import Values, is_number, shown
from vitrail.weights.hf_write_processor import write_processor
from vitrail.weights.source import OWN_KEY

# Pillow's numbers of filters: ours, and whether it is the same one.
RESAMPLE = {
    0: ("nearest", True),
    1: ("bicubic", False),  # Lanczos
    2: ("bilinear", True),
    3: ("bicubic", True),
    4: ("bilinear", False),  # box
    5: ("bilinear", False),  # Hamming
}
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@dataclass(frozen=True)
class Kind:
    """What a class of image processors does where the file does not say it."""

    resample: int
    statistics: tuple[tuple[float, ...], tuple[float, ...]]
    size: int
    shortest: bool = False  # whether a single number is the length of the shorter side
    crops: bool = False


VIT = Kind(2, HALF, 224)
BIT = Kind(3, CLIP, 224, shortest=True, crops=True)
KINDS = {
    "ViT": VIT,
    "DeiT": Kind(3, HALF, 256, crops=True),
    "Bit": BIT,
    "CLIP": BIT,
    "ConvNext": Kind(3, HALF, 384, shortest=True),
    "DINOv3ViT": Kind(2, IMAGENET, 224),
}


@dataclass(frozen=True)
class Habit:
    """What the published weights of a family have."""

    kind: str  # of the image processor
    statistics: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET
    interpolation: str = "bicubic"
    resize: str = "squash"
    crop_fraction: float = 1.0


HABITS = {
    "vit": Habit("ViT", HALF, "bilinear"),
    "deit": Habit("DeiT", crop_fraction=224 / 256),
    "vit_mae": Habit("ViT", interpolation="bilinear"),
    "dinov2": Habit("Bit", resize="crop", crop_fraction=224 / 256),
    "dinov2_with_registers": Habit("Bit", resize="crop", crop_fraction=224 / 256),
    "dinov3_vit": Habit("DINOv3ViT", interpolation="bilinear"),
    "swin": Habit("ViT"),
    "resnet": Habit("ConvNext", resize="crop", crop_fraction=0.875),
}

Result = tuple[Preprocess | None, tuple[str, ...]]


def read_processor(
    given: Mapping[str, Any], family: str, config: BackboneConfig, where: str
) -> Result:
    """Read the preprocessing, and what was assumed; None where it is none of ours.

    Weights are of use without it, so that nothing in the file makes this fail.
    """
    if config.in_channels not in (1, 3):
        return None, ()
    if not given:
        return _habit(family, config)
    own = _own(given)
    if own is not None and own.channels == config.in_channels:
        return own, ()
    try:
        return _read(Values(given, where), family, config)
    except (WeightsError, ConfigError) as error:
        return None, (f"no preprocessing: {error}",)


def _habit(family: str, config: BackboneConfig) -> Result:
    habit = HABITS[family]
    preprocess = default(
        config,
        *habit.statistics,
        crop_fraction=habit.crop_fraction,
        interpolation=habit.interpolation,
        resize=habit.resize,
    )
    kind = "0.5" if habit.statistics is HALF else "ImageNet's"
    return preprocess, (
        f"no preprocessor_config.json; mean and deviation {kind}, {habit.interpolation}, "
        f"{habit.resize} {habit.crop_fraction:g} are assumed: set model.preprocess where it is "
        "another",
    )


def _own(given: Mapping[str, Any]) -> Preprocess | None:
    """Read what Vitrail wrote, unless somebody has changed what transformers reads since."""
    try:
        own = Preprocess.parse(given.get(OWN_KEY), "")
    except ConfigError:
        return None
    written, _ = write_processor(own)
    return own if all(given.get(key) == value for key, value in written.items()) else None


def _read(values: Values, family: str, config: BackboneConfig) -> Result:
    notes: list[str] = []
    name = _kind_name(values.given) or HABITS[family].kind
    kind = KINDS.get(name)
    if kind is None:
        kind = KINDS[HABITS[family].kind]
        notes.append(f"image processor {shown(name)} is not known; it is read by its settings")
    values.only("do_resize", True)
    values.only("do_pad", False)
    values.only("rescale_offset", False)
    if name == "ConvNext":
        geometry = _convnext(values, kind)
    else:
        geometry = _geometry(values, kind, notes)
    size = geometry["size"]
    if tuple(size) != config.image_size and family != "resnet":
        height, width = config.image_size
        notes.append(
            f"the image processor makes images of {size[0]}x{size[1]}, config.json says "
            f"{height}x{width}, which is taken: give image_size where it should be the former"
        )
    mean, std = _statistics(values, kind, config.in_channels)
    result = Preprocess.parse(
        geometry
        | {
            "channels": config.in_channels,
            "interpolation": _interpolation(values, kind, notes),
            "mean": mean,
            "std": std,
        },
        values.where,
    )
    return result, tuple(notes)


def _kind_name(given: Mapping[str, Any]) -> str:
    """Give the name of the class without what it ends in, such as `ViT`."""
    name = given.get("image_processor_type") or given.get("feature_extractor_type") or ""
    name = name if isinstance(name, str) else ""
    for end in ("Fast", "Pil", "ImageProcessor", "FeatureExtractor"):
        name = name.removesuffix(end)
    return name


def _interpolation(values: Values, kind: Kind, notes: list[str]) -> str:
    number = values.get("resample", kind.resample)
    if type(number) is not int or number not in RESAMPLE:
        raise values.wrong("resample", number, f"one of {', '.join(map(str, RESAMPLE))}")
    ours, same = RESAMPLE[number]
    if not same:
        notes.append(f"Vitrail has no filter resample={number}; {ours} is taken")
    return ours


def _convnext(values: Values, kind: Kind) -> dict[str, Any]:
    """Read ConvNeXt's own way: below 384 pixels a part of the image, above all of it."""
    size = values.get("size", kind.size)
    edge = Values(size if isinstance(size, dict) else {"shortest_edge": size}, values.where)
    side = edge.integer("shortest_edge")
    crops = side < 384
    fraction = values.number("crop_pct", 224 / 256) if crops else 1.0
    resize = "crop" if crops else "squash"
    return {"size": (side, side), "resize": resize, "crop_fraction": fraction}


def _geometry(values: Values, kind: Kind, notes: list[str]) -> dict[str, Any]:
    """Read the size and what is kept of an image."""
    size = values.get("size", kind.size)
    if type(size) is int:
        size = {"shortest_edge": size} if kind.shortest else {"height": size, "width": size}
    if not isinstance(size, dict):
        raise values.wrong("size", size, "a number or an object")
    sides = Values(size, f"{values.where}: size")
    crop = _crop(values) if values.flag("do_center_crop", kind.crops) else None
    if sides.given.get("longest_edge") is not None:
        raise WeightsError(f"{sides.where}: longest_edge: images of many sizes are not supported")
    if "shortest_edge" in size:
        edge = sides.integer("shortest_edge")
        if crop is None:
            notes.append("the image processor keeps all of an image; the middle is taken here")
        elif crop[0] != crop[1]:
            notes.append(f"a crop of {crop[0]}x{crop[1]} that is no square is only near to its own")
        cut = crop or (edge, edge)
        return {"size": cut, "resize": "crop", "crop_fraction": min(cut) / edge}
    whole = sides.integer("height"), sides.integer("width")
    cut = crop or whole
    fraction = cut[0] / whole[0]
    if abs(cut[1] - fraction * whole[1]) > 1:
        raise values.wrong("crop_size", cut, f"in proportion to size={whole}")
    return {"size": cut, "resize": "squash", "crop_fraction": fraction}


def _crop(values: Values) -> tuple[int, int]:
    size = values.get("crop_size", 224)
    size = {"height": size, "width": size} if type(size) is int else size
    if not isinstance(size, dict):
        raise values.wrong("crop_size", size, "a number or an object")
    sides = Values(size, f"{values.where}: crop_size")
    return sides.integer("height"), sides.integer("width")


def _statistics(
    values: Values, kind: Kind, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Give mean and deviation in units of 0 to 1, whatever the scale is that they are given in."""
    scale = values.number("rescale_factor", 1 / 255) if values.flag("do_rescale", True) else 1.0
    unit = 255 * scale  # what 1 is there; with the usual factor 1 itself
    unit = 1.0 if abs(unit - 1) < 1e-9 else unit
    if not values.flag("do_normalize", True):
        return (0.0,) * channels, (1 / unit,) * channels
    mean = _floats(values, "image_mean", kind.statistics[0], channels)
    std = _floats(values, "image_std", kind.statistics[1], channels)
    return tuple(m / unit for m in mean), tuple(s / unit for s in std)


def _floats(
    values: Values, key: str, standard: tuple[float, ...], channels: int
) -> tuple[float, ...]:
    given = values.given.get(key)
    if given is None:
        return standard if channels == 3 else (sum(standard) / 3,)
    numbers = [given] * channels if is_number(given) else given
    if (
        not isinstance(numbers, list)
        or len(numbers) != channels
        or not all(map(is_number, numbers))
    ):
        raise values.wrong(key, given, f"{channels} numbers")
    return tuple(float(number) for number in numbers)
