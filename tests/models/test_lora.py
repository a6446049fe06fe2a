import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vitrail
from tests.helpers import images_for, tiny_model
from vitrail.errors import ConfigError
from vitrail.explain import attention_maps
from vitrail.models import Backbone
from vitrail.models.lora import (
    LoraLinear,
    adapter_names,
    add_lora,
    add_same_lora,
    lora_layers,
    merge_lora,
)
from vitrail.train.parallel import recompute_blocks

ATTENTION = ("attn.qkv", "attn.proj")
KINDS = ("vit", "vit-deit", "vit-dinov2", "vit-dinov3", "vit-map", "vit-gap", "swin", "hybrid")


def lora_layer(inputs: int, outputs: int, rank: int, alpha: float, bias: bool) -> LoraLinear:
    """Build a layer in float64 whose matrices are all drawn."""
    generator = torch.Generator().manual_seed(5)
    layer = LoraLinear(nn.Linear(inputs, outputs, bias).double(), rank, alpha, generator)
    with torch.no_grad():
        layer.lora_b.copy_(torch.randn(layer.lora_b.shape, generator=generator))
    return layer


@torch.no_grad()
def trained(model: Backbone, rank: int = 2, targets: tuple[str, ...] = ATTENTION) -> Backbone:
    """Give a model matrices of which none is zero."""
    add_lora(model, rank, 3.0, targets)
    generator = torch.Generator().manual_seed(1)
    for layer in lora_layers(model).values():
        layer.lora_b += torch.randn(layer.lora_b.shape, generator=generator).to(layer.lora_b)
    return model


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_is_the_formula(bias: bool) -> None:
    layer, rank, alpha = lora_layer(7, 5, 3, 6.0, bias), 3, 6.0
    x = torch.randn(1, 4, 7, dtype=torch.float64)
    matrix = layer.weight + alpha / rank * layer.lora_b @ layer.lora_a
    expected = torch.einsum("oi,bni->bno", matrix, x)
    if bias:
        expected = expected + layer.bias
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)
    merged = layer.merged()
    assert type(merged) is nn.Linear and (merged.bias is not None) is bias
    torch.testing.assert_close(merged(x), expected, rtol=0, atol=1e-12)


def test_gradients_are_those_of_the_formula() -> None:
    layer = lora_layer(7, 5, 3, 6.0, bias=True)
    layer.weight.requires_grad_(False)
    x = torch.randn(4, 7, dtype=torch.float64, requires_grad=True)
    above = torch.randn(4, 5, dtype=torch.float64)
    layer(x).backward(above)
    a, b, scale = layer.lora_a.detach(), layer.lora_b.detach(), 2.0
    torch.testing.assert_close(layer.lora_b.grad, scale * above.T @ (x @ a.T).detach())
    torch.testing.assert_close(layer.lora_a.grad, scale * (above @ b).T @ x.detach())
    assert layer.weight.grad is None

    def of(a: Tensor, b: Tensor, x: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"lora_a": a, "lora_b": b}, (x,))

    assert torch.autograd.gradcheck(of, (layer.lora_a, layer.lora_b, x))


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_begins_as_it_was_and_trains_only_what_is_added(kind: str) -> None:
    model = tiny_model(kind).eval()
    images, names = images_for(model, 1), list(model.state_dict())
    before = model(images)
    layers = add_lora(model, 2, 16.0, ATTENTION)
    torch.testing.assert_close(model(images), before, rtol=0, atol=1e-6)
    added = {f"{layer}.{part}" for layer in layers for part in ("lora_a", "lora_b")}
    assert set(model.state_dict()) == set(names) | added
    assert all(layer.endswith(ATTENTION) for layer in layers) and len(layers) >= 4
    model.train()(images_for(model)).sum().backward()
    learns = {name for name, each in model.named_parameters() if each.grad is not None}
    assert learns == added | set(model.head_names) == set(adapter_names(model))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_merged_it_answers_the_same(kind: str, dtype: torch.dtype, tolerance: float) -> None:
    plain = tiny_model(kind).eval().to(dtype)
    model = trained(copy.deepcopy(plain))
    images = images_for(model, 1).to(dtype)
    merged = merge_lora(model)
    assert not lora_layers(merged) and len(lora_layers(model)) >= 4
    assert merged.state_dict().keys() == plain.state_dict().keys()
    assert all(each.requires_grad for each in merged.parameters())
    answer = model(images)
    torch.testing.assert_close(merged(images), answer, rtol=0, atol=tolerance)
    assert (answer - plain(images)).abs().max() > 0.01  # there was something to merge
    assert merge_lora(merged) is merged


def test_all_linear_layers_may_be_chosen_by_ending_or_name() -> None:
    model = tiny_model("vit")
    layers = add_lora(model, 3, 1.0, ("fc1", "fc2", "blocks.1.attn.qkv"))
    mlps = {f"blocks.{i}.mlp.{part}" for i in (0, 1) for part in ("fc1", "fc2")}
    assert set(layers) == mlps | {"blocks.1.attn.qkv"}


def test_first_values_follow_the_seed_alone() -> None:
    def first(seed: int) -> Tensor:
        model = tiny_model("vit")
        add_lora(model, 4, 16.0, ATTENTION, seed=seed)
        return torch.cat([layer.lora_a.detach().flatten() for layer in lora_layers(model).values()])

    torch.manual_seed(1)
    one = first(3)
    state = torch.get_rng_state()
    assert torch.equal(first(3), one) and torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first(4), one)
    bound = 32**-0.5  # 1 / √inputs
    assert one.abs().max() <= bound and one.abs().max() > 0.95 * bound
    assert one.std() == pytest.approx(bound / 3**0.5, rel=0.1)


def test_a_model_gets_the_matrices_of_another() -> None:
    model, twin = trained(tiny_model("vit", seed=1), rank=3), tiny_model("vit")
    assert add_same_lora(twin, tiny_model("vit")) is twin and not lora_layers(twin)
    add_same_lora(twin, model).load_state_dict(model.state_dict())
    images = images_for(model, 1)
    assert torch.equal(twin.eval()(images), model.eval()(images))


def test_a_copy_learns_by_itself() -> None:
    model = trained(tiny_model("vit")).eval()
    images = images_for(model)
    before, twin = model(images), copy.deepcopy(model)
    with torch.no_grad():
        for layer in lora_layers(twin).values():
            layer.lora_b.zero_()
    assert torch.equal(model(images), before)
    assert not torch.equal(twin(images), before)


@pytest.mark.parametrize("kind", ["vit", "vit-dinov3"])
def test_explanations_see_the_matrices(kind: str) -> None:
    model = trained(tiny_model(kind)).eval()
    images = images_for(model, 1)
    merged = merge_lora(model)
    for layer, weights in attention_maps(merged, images).items():
        torch.testing.assert_close(attention_maps(model, images)[layer], weights)
    if kind == "vit":
        heat = vitrail.explain(model, images)
        torch.testing.assert_close(heat, vitrail.explain(merged, images), rtol=0, atol=1e-4)


def test_drop_path_and_both_forms_of_attention_stay() -> None:
    model = trained(tiny_model("vit", drop_path=0.5)).train()
    merged, images = merge_lora(model), images_for(model, 3)

    def answer(of: Backbone, **autocast: bool) -> Tensor:
        torch.manual_seed(7)
        with torch.autocast("cpu", dtype=torch.bfloat16, **autocast):
            return of(images)

    assert not torch.equal(model.eval()(images), model.train()(images))
    exact = answer(model, enabled=False)
    torch.testing.assert_close(answer(merged, enabled=False), exact, rtol=0, atol=1e-5)
    half = answer(model, enabled=True)  # in bf16 attention takes its three plain operations
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), exact, rtol=0, atol=0.1)


def test_blocks_may_be_computed_again_on_the_way_back() -> None:
    def gradients(recompute: bool) -> dict[str, Tensor]:
        model = trained(tiny_model("vit")).train()
        if recompute:
            recompute_blocks(model)
        F.cross_entropy(model(images_for(model)), torch.tensor([0, 3])).backward()
        return {name: each.grad for name, each in model.named_parameters() if each.grad is not None}

    plain, again = gradients(False), gradients(True)
    assert plain.keys() == again.keys() and len(plain) == 10
    assert all(torch.equal(plain[name], again[name]) for name in plain)


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
def test_a_compiled_model_answers_the_same() -> None:
    torch.compiler.reset()
    model = trained(tiny_model("vit")).train()
    images = images_for(model)
    expected = model(images)
    expected.sum().backward()
    wanted = lora_layers(model)["blocks.0.attn.qkv"].lora_a.grad
    assert wanted is not None
    wanted = wanted.clone()
    model.zero_grad()
    answer = torch.compile(model, fullgraph=True)(images)
    answer.sum().backward()
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-5)
    found = lora_layers(model)["blocks.0.attn.qkv"].lora_a.grad
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("rank", "targets", "match"),
    [
        (2, ("attn.qvk",), r"lora.targets='attn.qvk': no linear .*; did you mean 'attn.qkv'"),
        (2, ("head",), "lora.targets='head': no linear layer is called so"),
        (2, ("patch_embed.proj",), "no linear layer is called so"),  # a convolution
        (2, (), "lora.targets: name at least one layer"),
        (33, ("attn.qkv",), r"lora.rank=33 must be at most 32, .* blocks.0.attn.qkv \(96x32\)"),
        (0, ("attn.qkv",), "lora.rank=0 must be at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(rank: int, targets: tuple[str, ...], match: str) -> None:
    model = tiny_model("vit")
    with pytest.raises(ConfigError, match=match):
        add_lora(model, rank, 16.0, targets)
    assert not lora_layers(model) and all(each.requires_grad for each in model.parameters())


def test_a_second_time_and_a_model_without_matrices_are_refused() -> None:
    model = tiny_model("vit")
    add_lora(model, 1, 1.0, ATTENTION)
    with pytest.raises(ConfigError, match="has such matrices already"):
        add_lora(model, 1, 1.0, ATTENTION)
    with pytest.raises(ConfigError, match="no linear layer beside its head"):
        add_lora(tiny_model("resnet"), 1, 1.0, ATTENTION)
