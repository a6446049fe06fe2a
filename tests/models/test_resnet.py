"""ResNets: the numbers of torchvision, timm and transformers, and what is particular to them."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.helpers import draw_images, perturb, tiny, tiny_model
from vitrail.errors import ModelError
from vitrail.models import build_model, count_flops, create_model
from vitrail.models.resnet import RESNETS, ResNet, ResNetConfig

SIZES = [(64, 96), (96, 64), (128, 160), (97, 131), (33, 65), (8, 8)]  # the first is native
CLASSES = 7


def make_model(block: str) -> ResNet:
    """Four stages of the true widths, every weight and running statistic perturbed; eval mode."""
    torch.manual_seed(0)
    config = ResNetConfig(block=block, depths=(1, 2, 1, 1), image_size=SIZES[0], classes=CLASSES)
    model = ResNet(config)
    perturb(model, std=0.02)
    return model.eval()


@pytest.fixture(scope="module", params=["basic", "bottleneck"])
def model(request: pytest.FixtureRequest) -> ResNet:
    return make_model(request.param)


@pytest.fixture(scope="module")
def twins(model: ResNet) -> dict[str, nn.Module]:
    """The references in eval mode; only to be read."""
    makers = {
        "torchvision": torchvision_twin,
        "timm": timm_twin,
        "transformers": transformers_twin,
    }
    return {name: make(model) for name, make in makers.items()}


def torchvision_twin(model: ResNet) -> nn.Module:
    """Build torchvision's model of the same sizes with the same weights."""
    resnet = pytest.importorskip("torchvision.models.resnet")
    block = {"basic": resnet.BasicBlock, "bottleneck": resnet.Bottleneck}[model.config.block]
    twin: nn.Module = resnet.ResNet(block, list(model.config.depths), model.config.classes)
    twin.load_state_dict(model.state_dict())
    return twin.eval()


def timm_twin(model: ResNet, **options: Any) -> nn.Module:
    """Build timm's model of the same sizes with the same weights."""
    resnet = pytest.importorskip("timm.models.resnet")
    block = {"basic": resnet.BasicBlock, "bottleneck": resnet.Bottleneck}[model.config.block]
    twin: nn.Module = resnet.ResNet(block, model.config.depths, model.config.classes, **options)
    twin.load_state_dict(model.state_dict())
    return twin.eval()


def transformers_name(name: str) -> str:
    """Translate the name of a tensor."""
    *path, layer, kind = name.split(".")
    if layer == "fc":
        return f"classifier.1.{kind}"
    if not path:
        part = "convolution" if layer == "conv1" else "normalization"
        return f"resnet.embedder.embedder.{part}.{kind}"
    stage = f"resnet.encoder.stages.{int(path[0][-1]) - 1}.layers.{path[1]}"
    if "downsample" in path:
        return f"{stage}.shortcut.{('convolution', 'normalization')[int(layer)]}.{kind}"
    part = "convolution" if layer.startswith("conv") else "normalization"
    return f"{stage}.layer.{int(layer[-1]) - 1}.{part}.{kind}"


def transformers_twin(model: ResNet) -> nn.Module:
    """Build transformers' model of the same sizes with the same weights."""
    transformers = pytest.importorskip("transformers")
    config, wide = model.config, 4 if model.config.block == "bottleneck" else 1
    twin: nn.Module = transformers.ResNetForImageClassification(
        transformers.ResNetConfig(
            embedding_size=config.width,
            hidden_sizes=[config.width * wide * 2**i for i in range(4)],
            depths=list(config.depths),
            layer_type=config.block,
            num_labels=config.classes,
        )
    )
    twin.load_state_dict({transformers_name(n): t for n, t in model.state_dict().items()})
    return twin.eval()


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Compare; absolute, on values of size one."""
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.peer
@pytest.mark.parametrize("name", RESNETS)
def test_names_shapes_and_order_equal_torchvisions_and_timms(name: str) -> None:
    torchvision, timm = (pytest.importorskip(each) for each in ("torchvision", "timm"))
    with torch.device("meta"):
        ours, theirs = create_model(name), getattr(torchvision.models, name)()
        other = timm.create_model(name)
    shapes = [(key, tensor.shape) for key, tensor in ours.state_dict().items()]
    assert shapes == [(key, tensor.shape) for key, tensor in theirs.state_dict().items()]
    assert dict(shapes) == {key: tensor.shape for key, tensor in other.state_dict().items()}
    assert ours.config.image_size == other.default_cfg["input_size"][1:]
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]


@pytest.mark.peer
@pytest.mark.parametrize("name", RESNETS)
def test_parameters_and_products_equal_the_published_numbers(name: str) -> None:
    torchvision = pytest.importorskip("torchvision")
    published = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].meta
    with torch.device("meta"):
        model = create_model(name)
    assert model.count_parameters() == published["num_params"]
    assert count_flops(model, (224, 224), 3) / 2e9 == pytest.approx(published["_ops"], abs=1e-3)


@pytest.mark.peer
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_logits_and_map_equal_the_references(
    model: ResNet, twins: dict[str, nn.Module], size: tuple[int, int]
) -> None:
    images = draw_images(2, 3, *size)
    twin = twins["timm"]
    with torch.no_grad():
        logits, features = model(images), model.features(images)
        assert 0.05 < logits.std() < 10  # what the tolerance means
        close(logits, twins["torchvision"](images))
        close(logits, twin(images))
        close(logits, twins["transformers"](images).logits)
        theirs = twin.forward_features(images)
        pooled = twin.forward_head(theirs, pre_logits=True)
    close(features.tokens, theirs.flatten(2).transpose(1, 2))
    close(features.pooled, pooled)
    assert features.grid == theirs.shape[2:]


@pytest.mark.peer
def test_blocks_equal_torchvisions(model: ResNet) -> None:
    twin, seen = torchvision_twin(model), {}
    for name, module in twin.named_modules():
        if name.count(".") == 1 and name.startswith("layer"):
            module.register_forward_hook(
                lambda _m, _i, y, name=name: seen.setdefault(f"{name}.output", y)
            )
    images = draw_images(2, 3, 97, 131)
    with torch.no_grad():
        twin(images)
        ours = model.intermediates(images)
    assert list(ours) == ["stem", *seen, "pooled", "logits"]
    for name, expected in seen.items():
        close(ours[name], expected)


@pytest.mark.peer
def test_training_equals_torchvisions(model: ResNet) -> None:
    model = make_model(model.config.block).train()
    twin = torchvision_twin(model).train()
    for step in range(2):
        images = draw_images(4, 3, 70, 90, seed=step)
        close(model(images), twin(images))
    ours, theirs = (dict(net.named_buffers()) for net in (model, twin))
    assert ours["bn1.num_batches_tracked"] == 2
    for name, buffer in ours.items():
        close(buffer, theirs[name])


@pytest.mark.peer
@pytest.mark.parametrize("training", [False, True])
def test_gradients_equal_timms(model: ResNet, training: bool) -> None:
    # in float64: one place where max pooling chooses otherwise after rounding moves far
    model = make_model(model.config.block)
    nets = [net.double().train(training) for net in (model, timm_twin(model))]
    images, names = draw_images(4, 3, 64, 96).double(), [n for n, _ in model.named_parameters()]
    ours, theirs = (
        torch.autograd.grad(net(images).square().sum(), [net.get_parameter(name) for name in names])
        for net in nets
    )
    for name, a, b in zip(names, ours, theirs, strict=True):
        assert float((a - b).norm() / b.norm()) < 1e-10, name


@pytest.mark.peer
def test_without_classes_the_answer_is_timms_too() -> None:
    torch.manual_seed(0)
    model = ResNet(ResNetConfig(block="basic", depths=(1, 1, 1, 1), classes=0))
    perturb(model, std=0.02)
    images, twin = draw_images(2, 3, 40, 56), timm_twin(model)
    model.eval()
    assert not any(name.startswith("fc") for name in model.state_dict())
    with torch.no_grad():
        close(model(images), twin(images))
        assert torch.equal(model(images), model.features(images).pooled)


def test_first_weights() -> None:
    model = build_model(tiny("resnet", width=32))
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(7)
    torch.manual_seed(0)
    model.initialise()
    state = model.state_dict()
    for name, tensor in state.items():
        if tensor.ndim == 4:  # He-normal by the outputs
            fan_out = tensor.shape[0] * tensor[0, 0].numel()
            assert float(tensor.std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.05), name
        elif name.startswith("fc") or name.endswith(("bias", "mean", "tracked")):
            assert (tensor == 0).all(), name
        else:
            assert (tensor == 1).all(), name


def test_one_small_image_cannot_be_trained_on() -> None:
    model = tiny_model("resnet")  # two stages: every 8 pixels
    images = draw_images(1, 3, 8, 5)
    with pytest.raises(ModelError, match=r"one image of 8x5 pixels .* one larger than 8x8"):
        model(images)
    assert model(draw_images(1, 3, 8, 9)).isfinite().all()
    assert model(draw_images(2, 3, 8, 5)).isfinite().all()
    assert model.eval()(images).isfinite().all()


def test_drop_path_grows_linearly_over_all_blocks() -> None:
    model = build_model(tiny("resnet", depths=(1, 2, 2), drop_path=0.4))
    assert isinstance(model, ResNet)
    rates = [block.drop_path.rate for _, block in model.named_blocks()]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_a_stem_for_grey_images_answers_to_grey_as_the_coloured_one() -> None:
    colour, grey = tiny_model("resnet").eval(), tiny_model("resnet", in_channels=1).eval()
    fitted = {n: grey.fit(n, t, colour.config) for n, t in colour.state_dict().items()}
    grey.load_state_dict(fitted)
    images = draw_images(2, 1, 32, 48)
    close(grey(images), colour(images.expand(-1, 3, -1, -1)))
