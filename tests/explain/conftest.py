import pytest
import torch
from torch import Tensor

from vitrail.models import create_model
from vitrail.models.vit import ViT

HEIGHT, WIDTH, PATCH = 24, 16, 4  # pixels
GRID = (HEIGHT // PATCH, WIDTH // PATCH)
TOKENS = GRID[0] * GRID[1] + 1


def tiny_vit(depth: int = 3, heads: int = 2, drop_path: float = 0.0) -> ViT:
    """Build a model whose attention is far from uniform and whose logits are not zero."""
    torch.manual_seed(0)
    model = create_model(
        "vit_tiny_patch16_224",
        num_classes=5,
        image_size=(HEIGHT, WIDTH),
        patch_size=PATCH,
        width=32,
        depth=depth,
        heads=heads,
        drop_path=drop_path,
    )
    assert isinstance(model, ViT)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(torch.randn_like(parameter) * (0.3 if "qkv" in name else 0.1))
    return model


@pytest.fixture
def model() -> ViT:
    return tiny_vit().eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
