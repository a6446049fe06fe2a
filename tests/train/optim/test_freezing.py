import copy
import pytest
import torch
from torch import nn

from tests.helpers import TINY, images_for, tiny_model
from vitrail.errors import ConfigError
from vitrail.models import Backbone, build_model
from vitrail.models.lora import add_lora
from vitrail.train.learning import OptimConfig
from vitrail.train.optim import freeze, make_optimizer
from vitrail.train.optim.depth import count_depths, find_depths
from vitrail.train.optim.freezing import FrozenBatchNorm


def settings(*patterns: str, depth: int = 0) -> OptimConfig:
    return OptimConfig(freeze=patterns, freeze_depth=depth)


def learning(model: nn.Module) -> set[str]:
    return {name for name, each in model.named_parameters() if each.requires_grad}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("pos_embed", {"pos_embed"}),
        ("patch_embed", {"patch_embed.proj.weight", "patch_embed.proj.bias"}),
        ("norm", {"norm.weight", "norm.bias"}),  # the last one alone
        ("head.bias", {"head.bias"}),
        ("blocks.*.norm1", {f"blocks.{i}.norm1.{x}" for i in (0, 1) for x in ("weight", "bias")}),
        ("*.qkv.bias", {"blocks.0.attn.qkv.bias", "blocks.1.attn.qkv.bias"}),
        ("blocks.[1-9].attn.proj", {f"blocks.1.attn.proj.{x}" for x in ("weight", "bias")}),
        ("???_token", {"cls_token"}),
    ],
)
def test_patterns(pattern: str, expected: set[str]) -> None:
    model = tiny_model()
    every = set(dict(model.named_parameters()))
    assert set(freeze(model, settings(pattern))) == expected
    assert learning(model) == every - expected


def test_several_patterns_and_a_depth_add_up() -> None:
    model = tiny_model()
    names = [name for name, _ in model.named_parameters()]
    frozen = freeze(model, settings("norm", "pos_embed", depth=1))
    assert list(frozen) == [name for name in names if name in set(frozen)]  # in their order
    assert learning(model) == {name for name in names if name.startswith(("blocks.1.", "head."))}
    assert freeze(model, settings("norm", depth=1)) == ()  # is so already


def test_nothing_is_frozen_unless_asked_for() -> None:
    model = tiny_model("resnet")
    assert freeze(model, settings()) == ()
    assert learning(model) == set(dict(model.named_parameters()))
    assert isinstance(model.get_submodule("bn1"), nn.BatchNorm2d)


@pytest.mark.parametrize("kind", TINY)
def test_each_depth_of_each_model(kind: str) -> None:
    depths = find_depths(tiny_model(kind))
    for depth in range(1, count_depths(tiny_model(kind))):
        model = tiny_model(kind)
        frozen = freeze(model, settings(depth=depth))
        assert frozen == tuple(name for name, each in depths.items() if each <= depth)
        assert model.stem_weight in frozen and learning(model) >= set(model.head_names)


@pytest.mark.parametrize("kind", ["vit", "swin", "resnet", "bit", "hybrid"])
def test_a_frozen_part_does_not_move(kind: str) -> None:
    model = tiny_model(kind, drop_path=0.0)
    before = copy.deepcopy(model.state_dict())
    frozen = set(freeze(model, settings(depth=1)))
    optimizer = make_optimizer(model, OptimConfig(lr=1e-2))
    for _ in range(2):
        model.train()(images_for(model)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = {
        name for name, each in model.state_dict().items() if not torch.equal(each, before[name])
    }
    kept = {name.rpartition(".")[0] for name in frozen}
    assert moved >= learning(model) and not moved & frozen
    assert [name for name in moved if name.rpartition(".")[0] in kept] == []  # nor statistics


def frozen_resnet() -> Backbone:
    model = tiny_model("resnet")
    freeze(model, settings("bn1", "layer1"))
    return model


def test_a_frozen_batch_norm_computes_as_in_evaluation() -> None:
    model = frozen_resnet()
    assert isinstance(model.get_submodule("bn1"), FrozenBatchNorm)
    assert isinstance(model.get_submodule("layer1.0.downsample.1"), FrozenBatchNorm)
    assert isinstance(model.get_submodule("layer2.0.bn1"), nn.BatchNorm2d)
    images = images_for(model, 3)
    stem = tiny_model("resnet").eval().stem_map(images)  # type: ignore[operator]
    assert torch.equal(model.train().stem_map(images), stem)  # type: ignore[operator]
    assert torch.equal(model.eval()(images), tiny_model("resnet").eval()(images))


def test_a_batch_norm_that_learns_a_little_goes_on() -> None:
    model = tiny_model("resnet")
    freeze(model, settings("bn1.weight"))
    assert isinstance(model.get_submodule("bn1"), nn.BatchNorm2d)


def test_tensors_keep_their_names() -> None:
    model, plain = frozen_resnet(), tiny_model("resnet", seed=1)
    assert list(model.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(model.state_dict())
    images = images_for(model)
    assert torch.equal(plain.eval()(images), model.eval()(images))
    again = build_model(model.config)
    freeze(again, settings("bn1", "layer1"))
    again.load_state_dict(copy.deepcopy(model).state_dict())
    assert torch.equal(again.eval()(images), model(images))


def test_lora_may_be_frozen_in_part() -> None:
    model = tiny_model()
    add_lora(model, 2, 4.0, ("attn.qkv",))
    frozen = freeze(model, settings(depth=1))
    assert frozen == ("blocks.0.attn.qkv.lora_a", "blocks.0.attn.qkv.lora_b")
    assert learning(model) == {
        "blocks.1.attn.qkv.lora_a",
        "blocks.1.attn.qkv.lora_b",
        "head.weight",
        "head.bias",
    }


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("vit", settings("pos_embd"), r"train.freeze='pos_embd': no parameter.*pos_embed"),
        ("vit", settings("norm", "block.*"), r"train.freeze='block.\*': no parameter"),
        ("vit", settings("qqqqq*"), r"they begin with cls_token, pos_embed, patch_embed, blocks"),
        ("vit", settings("*"), r"none of the 32 parameters is left to learn"),
        ("vit", settings("head", "norm", depth=2), r"train.freeze=head,norm, train.freeze_depth=2"),
        ("vit", settings(depth=3), r"train.freeze_depth=3 must be at most 2"),
        ("swin", settings(depth=5), r"train.freeze_depth=5 must be at most 4"),
        ("resnet", settings(depth=4), r"train.freeze_depth=4 must be at most 3"),
    ],
)
def test_refusals(kind: str, config: OptimConfig, message: str) -> None:
    model = tiny_model(kind)
    with pytest.raises(ConfigError, match=message):
        freeze(model, config)
    assert learning(model) == set(dict(model.named_parameters()))  # as it was


def test_a_frozen_beginning_is_not_differentiated() -> None:
    model = tiny_model()
    freeze(model, settings(depth=1))
    assert not model.embed(images_for(model)).requires_grad  # type: ignore[operator]
    assert model(images_for(model)).requires_grad
