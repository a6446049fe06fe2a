"""The reference implementations can be imported next to the CPU build of PyTorch."""

import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from tests import torchvision_operators


@pytest.mark.peer
def test_timm_and_transformers_import() -> None:
    timm = pytest.importorskip("timm")
    transformers = pytest.importorskip("transformers")
    model = timm.create_model("vit_tiny_patch16_224", img_size=(32, 48), num_classes=3)
    assert model(torch.zeros(2, 3, 32, 48)).shape == (2, 3)
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=(32, 48),
    )
    tokens = transformers.ViTModel(config)(torch.zeros(2, 3, 32, 48)).last_hidden_state
    assert tokens.shape == (2, 1 + 2 * 3, 32)


@pytest.mark.peer
@pytest.mark.skipif(find_spec("torchvision") is None, reason="torchvision is not installed")
def test_every_operator_that_torchvision_names_exists() -> None:
    import torchvision  # noqa: F401

    for name in ("nms", "deform_conv2d", "_roi_align_backward"):
        assert hasattr(torch.ops.torchvision, name)


def test_registration_happens_once() -> None:
    assert torchvision_operators.register() is False


def test_the_tests_are_offline() -> None:
    code = "import os; print(os.environ['HF_HUB_OFFLINE'], os.environ['MPLBACKEND'])"
    out = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert out.split() == ["1", "Agg"]
