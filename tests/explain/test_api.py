from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from tests.explain.conftest import HEIGHT, WIDTH, tiny_vit
from vitrail.errors import ModelError
from vitrail.explain import EXPLAINERS, class_attention, explain
from vitrail.explain.api import Explainer, find_explainer, to_pixels, to_unit_range
from vitrail.models.vit import ViT


@pytest.mark.parametrize("method", EXPLAINERS)
def test_each_map_has_the_images_size_and_the_unit_range(
    model: ViT, images: Tensor, method: str
) -> None:
    heat = explain(model, images, method=method)
    assert heat.shape == (2, HEIGHT, WIDTH)
    assert heat.dtype == torch.float32
    assert not heat.requires_grad
    assert torch.equal(heat.amin(dim=(1, 2)), torch.zeros(2))
    assert torch.equal(heat.amax(dim=(1, 2)), torch.ones(2))


@pytest.mark.parametrize("method", EXPLAINERS)
@pytest.mark.parametrize("training", [True, False])
def test_the_model_stays_as_it_was(images: Tensor, method: str, training: bool) -> None:
    model = tiny_vit(drop_path=0.5).train(training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    heat = explain(model, images.requires_grad_(), method=method)
    assert all(module.training is training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert images.grad is None
    assert torch.equal(heat, explain(model, images, method=method))


@pytest.mark.parametrize("method", EXPLAINERS)
def test_an_image_is_explained_alike_alone_and_in_a_batch(
    model: ViT, images: Tensor, method: str
) -> None:
    alone = explain(model, images[1:], method=method)
    assert alone.shape == (1, HEIGHT, WIDTH)
    torch.testing.assert_close(
        alone[0], explain(model, images, method=method)[1], atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("method", EXPLAINERS)
def test_an_image_of_another_size_and_an_empty_batch(model: ViT, method: str) -> None:
    assert explain(model, torch.randn(1, 3, 12, 40), method=method).shape == (1, 12, 40)
    assert explain(model, torch.randn(0, 3, 12, 40), method=method).shape == (0, 12, 40)


@pytest.mark.parametrize("method", EXPLAINERS)
def test_uniform_attention_gives_no_heat(images: Tensor, method: str) -> None:
    model = tiny_vit()
    for block in model.blocks:  # whatever rounding leaves must not become a picture
        nn.init.zeros_(block.attn.qkv.weight)
    assert torch.equal(explain(model, images, method=method), torch.zeros(2, HEIGHT, WIDTH))


def test_attention_is_the_last_layers_mean_over_heads(model: ViT, images: Tensor) -> None:
    squares = explain(model, images, method="attention", upsampling="nearest")
    weights = class_attention(model, images, layer=2).mean(dim=1)
    expected = to_unit_range(weights).repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)
    torch.testing.assert_close(squares, expected)


def test_a_patch_stays_in_its_place_when_upsampled() -> None:
    heat = torch.zeros(1, 6, 4)
    heat[0, 4, 1] = 1.0
    grown = to_pixels(heat, (30, 20), "bilinear")
    assert grown[0].argmax().item() == 22 * 20 + 7  # the centre of patch (4, 1), each 5 x 5
    assert grown[0, 22, 7] == 1.0
    assert grown[0, 22, 12] == 0.0  # the centre of the next patch
    assert grown[0, 22, 9] == pytest.approx(0.6)
    squares = to_pixels(heat, (30, 20), "nearest")
    assert squares.sum() == 25
    assert squares[0, 20:25, 5:10].min() == 1.0


def test_unit_range_of_constant_and_of_tiny_maps() -> None:
    heat = torch.full((3, 4, 6), 0.04)
    heat[1] *= 1 + 1e-7 * torch.rand(4, 6)  # rounding
    heat[2] = 1e-12 * torch.arange(24).view(4, 6)
    unit = to_unit_range(heat)
    assert torch.equal(unit[:2], torch.zeros(2, 4, 6))
    torch.testing.assert_close(unit[2], torch.arange(24).view(4, 6) / 23)
    assert torch.equal(to_unit_range(torch.zeros(1, 2, 3)), torch.zeros(1, 2, 3))


def test_what_cannot_be_explained_is_refused(model: ViT, images: Tensor) -> None:
    with pytest.raises(
        ModelError, match=r"method='rolout' is not one of .*; did you mean 'rollout'\?"
    ):
        explain(model, images, method="rolout")
    with pytest.raises(ModelError, match=r"method='rollout' shows .*; leave target out"):
        explain(model, images, target=3)
    with pytest.raises(ModelError, match=r"method='attention' shows .*; leave target out"):
        explain(model, images, method="attention", target=torch.tensor([1, 2]))
    with pytest.raises(ModelError, match="upsampling='cubic' is not one of bilinear, nearest"):
        find_explainer("rollout", "cubic", targeted=False)
    with pytest.raises(ModelError, match="Conv2d without attention"):
        explain(nn.Conv2d(3, 3, 1), images)


@pytest.mark.parametrize("method", EXPLAINERS)
def test_a_broken_model_is_named_not_drawn(model: ViT, images: Tensor, method: str) -> None:
    nn.init.constant_(model.blocks[2].attn.qkv.bias, float("nan"))
    with pytest.raises(ModelError, match=f"method='{method}' gave values that are not finite"):
        explain(model, images, method=method)


@pytest.fixture
def with_target_method(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    targets: list[object] = []

    def heat(model: nn.Module, images: Tensor, target: object) -> Tensor:
        targets.append(target)
        scale = next(model.parameters()).sum()
        return torch.arange(6.0).view(1, 2, 3).expand(len(images), 2, 3) * scale.exp()

    monkeypatch.setitem(EXPLAINERS, "class", Explainer(heat, "for the test", takes_target=True))
    yield targets


def test_a_method_for_classes_gets_its_target(
    model: ViT, images: Tensor, with_target_method: list[object]
) -> None:
    assert not explain(model, images, method="class", target=3).requires_grad
    assert with_target_method == [3]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("method", EXPLAINERS)
def test_the_gpu_gives_the_same_map(model: ViT, images: Tensor, method: str) -> None:
    expected = explain(model, images, method=method)
    heat = explain(model.cuda(), images.cuda(), method=method)
    assert heat.device.type == "cuda"
    torch.testing.assert_close(heat.cpu(), expected, rtol=0, atol=1e-3)
