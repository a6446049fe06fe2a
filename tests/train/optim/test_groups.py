"""Every parameter is in one group, decays if it should, and learns the slower the deeper it is."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor

from tests.helpers import TINY, tiny_model
from vitrail.models import Backbone, create_model
from vitrail.models.lora import add_lora
from vitrail.train.learning import OptimConfig
from vitrail.train.optim import freeze, make_groups
from vitrail.train.optim.depth import count_depths, find_depths
from vitrail.train.parallel import shard
from vitrail.train.team import Team

KINDS = list(TINY)
CONFIG = OptimConfig(layer_decay=0.5, weight_decay=0.3)


def by_name(model: nn.Module, config: OptimConfig, key: str) -> dict[str, float]:
    """Give what the groups say of each parameter."""
    groups = make_groups(model, config)
    return {name: group[key] for group in groups for name in group["names"]}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
def test_every_parameter_is_in_one_group(kind: str, layer_decay: float) -> None:
    model = tiny_model(kind)
    groups = make_groups(model, OptimConfig(layer_decay=layer_decay))
    pairs = [pair for each in groups for pair in zip(each["names"], each["params"], strict=True)]
    own = dict(model.named_parameters())
    assert len(pairs) == len(own) and all(own[name] is parameter for name, parameter in pairs)
    assert {name for name, _ in pairs} == set(own)
    assert all(
        set(each) == {"params", "names", "weight_decay", "lr_scale"} and each["params"]
        for each in groups
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_scale_rises_with_the_depth(kind: str) -> None:
    model = tiny_model(kind)
    depths, scales = find_depths(model), by_name(model, CONFIG, "lr_scale")
    names = list(dict(model.named_parameters()))
    assert list(depths) == names
    in_order = [depths[name] for name in names]
    assert in_order == sorted(in_order)
    assert set(in_order) == set(range(count_depths(model) + 1))
    assert all(scales[name] == 0.5 ** (count_depths(model) - depths[name]) for name in names)
    assert all(scales[name] == 1 for name in model.head_names)
    assert scales[model.stem_weight] == min(scales.values()) < max(scales.values()) == 1
    rising = [group["lr_scale"] for group in make_groups(model, CONFIG)]
    assert rising == sorted(rising)


# A block of any backbone, Swin's patch merging, or what a name begins with.
PART = re.compile(r"((layers|stages)\.\d\.)?blocks\.\d|layers\.\d\.downsample|layer\d\.\d|\w+")


# The parts of each model by depth, from the names that the weights files hold.
PARTS = {
    "vit-deit": [
        {"cls_token", "dist_token", "pos_embed", "patch_embed"},
        {"blocks.0"},
        {"blocks.1"},
        {"norm", "head", "head_dist"},
    ],
    "vit-dinov2": [
        {"cls_token", "reg_token", "pos_embed", "patch_embed"},
        {"blocks.0"},
        {"blocks.1"},
        {"norm", "head"},
    ],
    "vit-dinov3": [
        {"cls_token", "reg_token", "patch_embed"},  # rotary positions have no table
        {"blocks.0"},
        {"blocks.1"},
        {"norm", "head"},
    ],
    "vit-gap": [
        {"pos_embed", "patch_embed"},
        {"blocks.0"},
        {"blocks.1"},
        {"fc_norm", "head"},
    ],
    "vit-map": [{"patch_embed"}, {"blocks.0"}, {"blocks.1"}, {"norm", "attn_pool", "head"}],
    "swin": [
        {"patch_embed"},
        {"layers.0.blocks.0"},
        {"layers.0.blocks.1"},
        {"layers.1.downsample", "layers.1.blocks.0"},  # merging opens the stage
        {"layers.1.blocks.1"},
        {"norm", "head"},
    ],
    "resnet": [
        {"conv1", "bn1"},
        {"layer1.0"},
        {"layer2.0"},
        {"layer2.1"},
        {"fc"},
    ],
    "bit": [
        {"stem"},
        {"stages.0.blocks.0"},
        {"stages.1.blocks.0"},
        {"stages.1.blocks.1"},
        {"norm", "head"},
    ],
    "hybrid": [
        {"cls_token", "pos_embed", "patch_embed"},  # the residual stem too
        {"blocks.0"},
        {"blocks.1"},
        {"norm", "head"},
    ],
}


@pytest.mark.parametrize("kind", PARTS)
def test_the_parts_of_each_depth(kind: str) -> None:
    depths = find_depths(tiny_model(kind))
    found: dict[int, set[str]] = {}
    for name, depth in depths.items():
        part = PART.match(name)
        found.setdefault(depth, set()).add(part[0] if part else "")
    assert found == dict(enumerate(PARTS[kind]))


def test_without_layer_decay_there_are_two_groups() -> None:
    decayed, kept = make_groups(tiny_model(), OptimConfig(weight_decay=0.3))
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.3, 0.0)
    assert decayed["lr_scale"] == kept["lr_scale"] == 1
    blocks = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    assert decayed["names"] == [
        "patch_embed.proj.weight",
        *(f"blocks.{i}.{part}.weight" for i in (0, 1) for part in blocks),
        "head.weight",
    ]
    assert {"cls_token", "pos_embed", "norm.weight", "head.bias"} < set(kept["names"])


def test_an_empty_group_is_left_out() -> None:
    (group,) = make_groups(nn.Linear(3, 2, bias=False), OptimConfig())
    assert group["names"] == ["weight"] and group["weight_decay"] == 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_one_dimension_or_a_place_does_not_decay(kind: str) -> None:
    model = tiny_model(kind)
    undecayed = {name for name, each in by_name(model, CONFIG, "weight_decay").items() if not each}
    tables = ("_token", "pos_embed", "latent", "relative_position_bias_table")
    assert undecayed == {
        name
        for name, parameter in model.named_parameters()
        if parameter.dim() == 1 or name.endswith(tables)
    }
    assert model.stem_weight not in undecayed


def test_lora_trains_its_matrices_and_the_head() -> None:
    model = tiny_model()
    add_lora(model, 2, 4.0, ("attn.qkv",))
    scales, decay = (by_name(model, CONFIG, key) for key in ("lr_scale", "weight_decay"))
    assert scales == {
        **{f"blocks.{i}.attn.qkv.lora_{x}": 0.5 ** (2 - i) for i in (0, 1) for x in "ab"},
        "head.weight": 1.0,
        "head.bias": 1.0,
    }
    assert [name for name, each in decay.items() if not each] == ["head.bias"]


def test_without_a_head_the_scales_are_the_same() -> None:
    """There timm shifts all of them by a layer: it counts the layers that have parameters."""
    whole = by_name(tiny_model(), CONFIG, "lr_scale")
    headless = by_name(tiny_model(classes=0), CONFIG, "lr_scale")
    assert headless == {name: each for name, each in whole.items() if "head" not in name}
    assert headless["norm.weight"] == 1


def test_frozen_parameters_do_not_shift_the_scales() -> None:
    model, config = tiny_model(), CONFIG.replace(freeze_depth=1, freeze=("head",))
    before = by_name(model, config, "lr_scale")
    frozen = freeze(model, config)
    left = by_name(model, config, "lr_scale")
    assert left == {name: each for name, each in before.items() if name not in frozen}
    assert left["norm.bias"] == 1 and left["blocks.1.norm1.bias"] == 0.5


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[Team]:
    """Let this process be all ranks of a group."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield Team(torch.device("cpu"))
    dist.destroy_process_group()


@pytest.mark.parametrize("kind", ["vit-deit", "swin", "resnet"])
def test_sharded_parameters_are_in_the_same_groups(kind: str, one_rank: Team) -> None:
    config = CONFIG.replace(freeze_depth=1)
    whole, model = tiny_model(kind), tiny_model(kind)
    assert freeze(whole, config) == freeze(model, config)
    shard(model, one_rank, "float32")
    groups, expected = make_groups(model, config), make_groups(whole, config)
    assert all(isinstance(each, DTensor) for group in groups for each in group["params"])
    assert [{**group, "params": None} for group in groups] == [
        {**group, "params": None} for group in expected
    ]


def twins(name: str) -> tuple[Backbone, nn.Module]:
    """Build our and timm's model of this name, without weights."""
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        return create_model(name, num_classes=7), timm.create_model(name, num_classes=7)


@pytest.mark.peer
@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",
        "vit_small_patch14_dinov2",
        "deit_tiny_distilled_patch16_224",
        "deit3_small_patch16_224",
        "vit_base_patch16_siglip_224",
        "vit_small_r26_s32_224",
        "swin_tiny_patch4_window7_224",
        "resnet50",
        "resnetv2_50x1_bit",
    ],
)
def test_scales_equal_timms(name: str) -> None:
    groups_of = pytest.importorskip("timm.optim").param_groups_layer_decay
    ours, theirs = twins(name)
    names = {id(parameter): name for name, parameter in theirs.named_parameters()}
    config = OptimConfig(layer_decay=0.75)
    expected = {
        names[id(parameter)]: group["lr_scale"]
        for group in groups_of(theirs, layer_decay=0.75)
        for parameter in group["params"]
    }
    # on purpose: timm counts what is called `norm` with the last block, Bao et al. with the head
    differs = {name for name in expected if name.startswith("norm.")}
    found = by_name(ours, config, "lr_scale")
    assert {name: each for name, each in found.items() if name not in differs} == {
        name: each for name, each in expected.items() if name not in differs
    }
    assert {found[name] for name in differs} <= {1.0}
    assert {expected[name] for name in differs} <= {0.75}


@pytest.mark.peer
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_what_decays_equals_timms(name: str) -> None:
    groups_of = pytest.importorskip("timm.optim").param_groups_layer_decay
    ours, theirs = twins(name)
    names = {id(parameter): name for name, parameter in theirs.named_parameters()}
    exempt = [f"*{each}" for each in theirs.no_weight_decay()]  # type: ignore[operator]
    expected = {
        names[id(parameter)]: group["weight_decay"]
        for group in groups_of(theirs, weight_decay=0.3, no_weight_decay_list=exempt)
        for parameter in group["params"]
    }
    assert by_name(ours, CONFIG, "weight_decay") == expected
