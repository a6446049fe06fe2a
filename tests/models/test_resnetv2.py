"""BiT: the numbers of timm and transformers, and standardised weights."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.helpers import draw_images, perturb, tiny, tiny_model
from vitrail.errors import ModelError
from vitrail.models import build_model, create_model
from vitrail.models.resnetv2 import BITS, BiT, BiTConfig
from vitrail.models.standardised import StandardisedConv2d, pad_same, standardise

SIZES = [(64, 96), (96, 64), (128, 160), (97, 131), (33, 65), (8, 8)]  # the first is native
ROUNDING = 5e-5  # of float32; so far timm's are from their own float64, where we agree to 1e-12


@pytest.fixture(scope="module", params=[64, 96], ids=["x1", "x1.5"])
def model(request: pytest.FixtureRequest) -> BiT:
    """Four stages, every weight perturbed; eval mode."""
    torch.manual_seed(0)
    width = request.param
    config = BiTConfig(depths=(1, 2, 1, 1), width=width, image_size=SIZES[0], classes=7)
    built = BiT(config)
    perturb(built, std=0.05)
    return built.eval()


@pytest.fixture(scope="module")
def timm_twin(model: BiT) -> nn.Module:
    """timm's model of the same sizes with the same weights."""
    timm_layers = pytest.importorskip("timm.layers")
    resnetv2 = pytest.importorskip("timm.models.resnetv2")
    twin: nn.Module = resnetv2.ResNetV2(
        layers=model.config.depths,
        channels=[4 * model.config.width * 2**i for i in range(4)],
        stem_chs=model.config.width,
        stem_type="fixed",
        conv_layer=partial(timm_layers.StdConv2d, eps=1e-8),  # as in all BiT of timm
        num_classes=model.config.classes,
    )
    twin.load_state_dict(model.state_dict())
    return twin.eval()


def transformers_name(name: str) -> str:
    """Translate the name of a tensor."""
    if name.startswith("head.fc"):
        return name.replace("head.fc", "classifier.1")
    if name.startswith("stem.conv"):
        return name.replace("stem.conv", "bit.embedder.convolution")
    if name.startswith("stages"):
        return "bit.encoder." + name.replace("blocks", "layers")
    return f"bit.{name}"


@pytest.fixture(scope="module")
def transformers_twin(model: BiT) -> nn.Module:
    """transformers' model of the same sizes with the same weights."""
    transformers = pytest.importorskip("transformers")
    width = model.config.width
    twin: nn.Module = transformers.BitForImageClassification(
        transformers.BitConfig(
            embedding_size=width,
            hidden_sizes=[4 * width * 2**i for i in range(4)],
            depths=list(model.config.depths),
            num_labels=model.config.classes,
        )
    )
    state = {transformers_name(name): tensor for name, tensor in model.state_dict().items()}
    state["classifier.1.weight"] = state["classifier.1.weight"].flatten(1)
    twin.load_state_dict(state)
    return twin.eval()


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Compare; absolute, on values of size one."""
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.peer
@pytest.mark.parametrize("name", BITS)
def test_names_shapes_and_image_sizes_equal_timms(name: str) -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        ours, theirs = create_model(name), timm.create_model(name)
    shapes = {key: tensor.shape for key, tensor in theirs.state_dict().items()}
    assert {key: tensor.shape for key, tensor in ours.state_dict().items()} == shapes
    assert ours.count_parameters() == sum(p.numel() for p in theirs.parameters())
    assert ours.config.image_size == theirs.default_cfg["input_size"][1:]
    convolutions = [module for module in theirs.modules() if hasattr(module, "padding")]
    assert {module.eps for module in convolutions if hasattr(module, "eps")} == {1e-8}


@pytest.mark.peer
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_logits_and_map_equal_the_references(
    model: BiT, timm_twin: nn.Module, transformers_twin: nn.Module, size: tuple[int, int]
) -> None:
    images = draw_images(2, 3, *size)
    with torch.no_grad():
        logits, features = model(images), model.features(images)
        assert 0.1 < logits.std() < 10  # what the tolerance means
        close(logits, timm_twin(images), ROUNDING)
        close(logits, transformers_twin(images).logits, ROUNDING)
        theirs = timm_twin.forward_features(images)
    close(features.tokens, theirs.flatten(2).transpose(1, 2), ROUNDING)
    close(features.pooled, theirs.mean(dim=(2, 3)), ROUNDING)
    assert features.grid == theirs.shape[2:]


@pytest.mark.peer
def test_blocks_equal_timms_to_the_last_digits_of_float64(model: BiT, timm_twin: nn.Module) -> None:
    model, timm_twin = copy.deepcopy(model).double(), copy.deepcopy(timm_twin).double()
    images, seen = draw_images(2, 3, 97, 131).double(), {}
    with torch.no_grad():
        x = seen["stem"] = timm_twin.stem(images)
        for i, stage in enumerate(timm_twin.stages):
            for j, block in enumerate(stage.blocks):
                x = seen[f"stages.{i}.blocks.{j}.output"] = block(x)
        seen["norm"] = timm_twin.norm(x)
        ours, logits = model.intermediates(images), timm_twin(images)
    assert list(ours) == [*seen, "pooled", "logits"]
    for name, expected in seen.items():
        close(ours[name], expected, 1e-12)
    close(ours["logits"], logits, 1e-12)


@pytest.mark.peer
def test_gradients_equal_timms(model: BiT, timm_twin: nn.Module) -> None:
    # in float64: one place where max pooling chooses otherwise after rounding moves far
    nets = copy.deepcopy(model).double(), copy.deepcopy(timm_twin).double()
    images, names = draw_images(2, 3, 64, 96).double(), [n for n, _ in model.named_parameters()]
    ours, theirs = (
        torch.autograd.grad(net(images).square().sum(), [net.get_parameter(name) for name in names])
        for net in nets
    )
    for name, a, b in zip(names, ours, theirs, strict=True):
        assert float((a - b).norm() / b.norm()) < 1e-10, name


def test_kernels_are_standardised_by_the_formula() -> None:
    weight = 3 + 0.2 * torch.randn(5, 4, 3, 2, dtype=torch.float64)
    for kernel, got in zip(weight, standardise(weight), strict=True):
        mean = kernel.sum() / 24
        variance = ((kernel - mean) ** 2).sum() / 24
        close(got, (kernel - mean) / (variance + 1e-8).sqrt(), 1e-13)
    close(standardise(weight.float()), standardise(weight).float(), 2e-5)
    assert standardise(weight.bfloat16()).dtype == torch.bfloat16


def test_a_constant_kernel_becomes_zero_and_can_be_trained() -> None:
    weight = torch.full((2, 3, 3, 3), 0.7, requires_grad=True)
    standard = standardise(weight)
    assert standard.abs().max() < 1e-2
    (gradient,) = torch.autograd.grad(standard[:, 0].sum(), weight)
    assert gradient.isfinite().all()


def test_the_scale_and_the_mean_of_a_kernel_do_not_matter() -> None:
    convolution, x = StandardisedConv2d(3, 4, 3, 2), draw_images(2, 3, 9, 12)
    before = convolution(x)
    with torch.no_grad():
        convolution.weight.mul_(5).add_(0.3)
    close(convolution(x), before)


@pytest.mark.parametrize("kernel_size", [1, 3, 7])
@pytest.mark.parametrize("size", range(1, 12))
def test_same_padding_keeps_every_second_place(kernel_size: int, size: int) -> None:
    x = torch.ones(1, 1, size, size + 1)
    padded = pad_same(x, kernel_size, 2)
    extra = padded.shape[2] - size
    if extra:  # where it is odd, the end has more
        assert (padded[0, 0, : extra // 2] == 0).all() and (padded[0, 0, extra // 2] != 0).any()
    out = F.conv2d(padded, torch.ones(1, 1, kernel_size, kernel_size), stride=2)
    assert out.shape[2:] == ((size + 1) // 2, (size + 2) // 2)


def test_first_weights() -> None:
    model = build_model(tiny("bit", width=32, groups=8))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7)
    model.initialise()
    for name, parameter in model.state_dict().items():
        if name.startswith("head") or name.endswith("bias"):
            assert (parameter == 0).all(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name
        else:
            fan_out = parameter.shape[0] * parameter[0, 0].numel()
            assert float(parameter.std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.1), name


def test_without_classes_there_is_no_head() -> None:
    model = tiny_model("bit", classes=0).eval()
    assert not any(name.startswith("head") for name in model.state_dict())
    images = draw_images(2, 3, 32, 48)
    assert torch.equal(model(images), model.features(images).pooled)


def test_drop_path_grows_linearly_over_all_blocks() -> None:
    model = build_model(tiny("bit", depths=(1, 2, 2), drop_path=0.4))
    assert isinstance(model, BiT)
    rates = [block.drop_path.rate for _, block in model.named_blocks()]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_groups_must_divide_the_width() -> None:
    with pytest.raises(ModelError, match=r"width=48 must be a multiple of groups=32"):
        create_model("resnetv2_50x1_bit", width=48)
    with pytest.raises(ModelError, match=r"depths=\(\): tuple should have at least 1 item"):
        create_model("resnetv2_50x1_bit", depths=())
