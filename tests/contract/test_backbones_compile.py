"""Every backbone compiles and exports; without the shape checker, which breaks `torch.compile`."""

import pytest
import torch

from tests.helpers import TINY, draw_images, images_for, tiny_model
from vitrail.errors import ModelError

KINDS = list(TINY)  # every backbone, and the variants of the ViT
pytestmark = pytest.mark.compile


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_compile_gives_the_same_logits_and_gradients(kind: str) -> None:
    torch.compiler.reset()  # else all models share one count of recompilations
    model = tiny_model(kind, **({"patch_dropout": 0.0} if kind.startswith("vit") else {}))
    compiled = torch.compile(model, fullgraph=True)
    images, parameters = images_for(model), list(model.parameters())
    torch.testing.assert_close(compiled(images), model(images), rtol=1e-4, atol=1e-5)
    expected = torch.autograd.grad(model(images).square().sum(), parameters)
    gradients = torch.autograd.grad(compiled(images).square().sum(), parameters)
    torch.testing.assert_close(gradients, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strict", [False, True])
def test_export_keeps_the_number_of_images_open(kind: str, strict: bool) -> None:
    model = tiny_model(kind).eval()
    batch = torch.export.Dim("batch", min=1, max=256)
    program = torch.export.export(
        model, (images_for(model),), dynamic_shapes={"images": {0: batch}}, strict=strict
    )
    for count in (1, 5):
        images = images_for(model, count, seed=count)
        torch.testing.assert_close(program.module()(images), model(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_images_must_come_as_a_batch(kind: str) -> None:
    # in this group because the shape checker would speak first
    model = tiny_model(kind)
    with pytest.raises(ModelError, match=r"shape \(3, 32, 48\); a model takes a batch"):
        model(draw_images(3, 32, 48))
