"""Stands in for torchvision's compiled operators where they cannot be loaded.

timm and transformers import torchvision, and torchvision's import fails where its compiled part
does not fit the installed PyTorch, as the usual wheel beside a CPU build. The references in our
tests call none of those operators; their names are all that the import asks for.
"""

from importlib.util import find_spec
from pathlib import Path

import torch

NMS = "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
FORWARD = ("qnms", "roi_align", "qroi_align", "roi_pool", "ps_roi_align", "ps_roi_pool")
BACKWARD = ("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d")
_kept: list[torch.library.Library] = []  # the operators vanish with their library


def register() -> bool:
    """Register the operators by name where they are missing; call it before timm is imported.

    Returns:
        True if stand-ins were registered; False without torchvision, or where its own are loaded.
    """
    spec = find_spec("torchvision")
    if _kept or spec is None or spec.origin is None or _own_operators(Path(spec.origin).parent):
        return False
    library = torch.library.Library("torchvision", "DEF")
    library.define(NMS)
    names = [*FORWARD, "deform_conv2d", *(f"_{name}_backward" for name in BACKWARD)]
    for name in names:
        library.define(f"{name}(Tensor x) -> Tensor")
    _kept.append(library)
    return True


def _own_operators(package: Path) -> bool:
    """Whether torchvision's own compiled operators load; it loads the same file again itself."""
    for path in [*package.glob("_C*.so"), *package.glob("_C*.pyd")]:
        try:
            torch.ops.load_library(str(path))
        except OSError:
            return False
        return True
    return False
