"""Tiny models that torchvision can build."""

from typing import Any

from tests.weights.references import ready_model
from vitrail.models import Backbone

# kind and sizes
VIT: dict[str, Any] = {"image_size": (32, 32), "position_rule": "corners"}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("vit", VIT),
    "swin": ("swin", {}),
    "resnet": ("resnet", {"width": 64, "depths": (1, 1, 1, 1)}),
    "resnet-basic": ("resnet-basic", {"width": 64, "depths": (1, 2, 1, 1)}),
}


def a_model(case: str, **sizes: Any) -> Backbone:
    """Build a tiny model that torchvision has too."""
    kind, own = CASES[case]
    return ready_model(kind, **(own | sizes))
