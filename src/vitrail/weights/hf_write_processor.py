"""From our preprocessing to `preprocessor_config.json` of transformers."""

from typing import Any

from vitrail.data.preprocess import Preprocess
from vitrail.weights.source import OWN_KEY

FILTERS = {"nearest": 0, "bilinear": 2, "bicubic": 3}  # Pillow's numbers


def write_processor(preprocess: Preprocess) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Give the JSON values of the image processor that comes nearest, and what it cannot say.

    Ours stands beside them as it is, so that nothing is lost on the way back.
    """
    height, width = preprocess.size
    whole = {"height": height, "width": width}
    fraction = preprocess.crop_fraction
    notes: list[str] = []
    geometry: dict[str, Any] = {"image_processor_type": "ViTImageProcessor", "size": whole}
    if preprocess.resize == "pad":
        notes.append("its image processors do not pad to a shape; they distort the whole image")
    elif preprocess.resize == "crop" and height == width:
        geometry = _cropped("BitImageProcessor", {"shortest_edge": round(height / fraction)}, whole)
    elif preprocess.resize == "crop":
        notes.append(
            f"its image processors do not cut out the shape of {height}x{width}; "
            "they distort the whole image"
        )
    elif fraction < 1:
        larger = {"height": round(height / fraction), "width": round(width / fraction)}
        geometry = _cropped("DeiTImageProcessor", larger, whole)
    if fraction < 1:
        notes.append(
            "its image processors resize before they cut, Vitrail cuts before: pixels differ a bit"
        )
    if preprocess.channels == 1:
        notes.append("its image processors do not make colour images grey: give it grey ones")
    values = geometry | {
        "do_resize": True,
        "resample": FILTERS[preprocess.interpolation],
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocess.mean),
        "image_std": list(preprocess.std),
        "do_convert_rgb": preprocess.channels == 3,
        OWN_KEY: preprocess.to_json(),
    }
    return values, tuple(notes)


def _cropped(kind: str, size: dict[str, int], crop: dict[str, int]) -> dict[str, Any]:
    return {
        "image_processor_type": kind,
        "size": size,
        "do_center_crop": True,
        "crop_size": crop,
    }
