"""What is frozen keeps its values to the bit, and the running statistics too."""

import copy
import re

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.helpers import TINY, images_for, tiny_model
from vitrail.errors import ConfigError
from vitrail.models import Backbone
from vitrail.models.lora import add_lora
from vitrail.train.ema import Ema
from vitrail.train.learning import OptimConfig
from vitrail.train.optim import freeze, make_groups
from vitrail.train.optim.depth import find_depths

KINDS = list(TINY)
STEM = {"cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}


def learning(model: nn.Module) -> set[str]:
    """Name what is trained."""
    return {name for name, each in model.named_parameters() if each.requires_grad}


def learn(model: Backbone, steps: int = 2) -> None:
    """Take some steps in training mode, with weight decay and a batch of odd size."""
    config = OptimConfig(weight_decay=0.5)
    optimizer = torch.optim.AdamW(make_groups(model, config), lr=0.05)
    model.train()
    for step in range(steps):
        loss = F.cross_entropy(model(images_for(model, 3, seed=step)), torch.tensor([0, 1, 4]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def copied(model: nn.Module) -> dict[str, Tensor]:
    """Copy every parameter and buffer."""
    return {name: each.clone() for name, each in model.state_dict().items()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_block_and_what_is_before_it(kind: str) -> None:
    model = tiny_model(kind, drop_path=0.0)
    depths, before = find_depths(model), copied(model)
    frozen = freeze(model, OptimConfig(freeze_depth=1))
    assert frozen == tuple(name for name, depth in depths.items() if depth <= 1)
    assert model.stem_weight in frozen and not set(model.head_names) & set(frozen)
    assert learning(model) == set(depths) - set(frozen)
    learn(model)
    after = model.state_dict()
    assert list(after) == list(before)
    moved = {name for name in depths if not torch.equal(before[name], after[name])}
    assert moved == set(depths) - set(frozen)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (("pos_embed",), {"pos_embed"}),
        (("patch_embed",), {"patch_embed.proj.weight", "patch_embed.proj.bias"}),
        (("blocks.1.norm1",), {"blocks.1.norm1.weight", "blocks.1.norm1.bias"}),
        (("*.mlp.fc?.bias",), {f"blocks.{i}.mlp.fc{j}.bias" for i in (0, 1) for j in (1, 2)}),
        (("*_*d", "patch_embed"), {*STEM} - {"cls_token"}),
        (("blocks.[1].norm?", "norm"), {
            *(f"blocks.1.norm{i}.{part}" for i in (1, 2) for part in ("weight", "bias")),
            *("norm.weight", "norm.bias"),
        }),
    ],
)  # fmt: skip
def test_names_and_patterns(patterns: tuple[str, ...], expected: set[str]) -> None:
    model = tiny_model()
    frozen = freeze(model, OptimConfig(freeze=patterns))
    assert set(frozen) == expected and len(frozen) == len(expected)
    assert learning(model) == {name for name, _ in model.named_parameters()} - expected


def test_a_name_is_no_beginning_of_another() -> None:
    model = tiny_model(depth=11, width=8)
    frozen = freeze(model, OptimConfig(freeze=("blocks.1",)))
    assert {name.split(".")[1] for name in frozen} == {"1"}  # not 10


def test_names_and_depth_add_up() -> None:
    model = tiny_model()
    frozen = freeze(model, OptimConfig(freeze=("norm", "blocks.0"), freeze_depth=2))
    assert learning(model) == {"head.weight", "head.bias"}
    assert STEM | {"norm.weight", "norm.bias"} < set(frozen)


def test_what_is_frozen_is_not_named_again() -> None:
    model, config = tiny_model(), OptimConfig(freeze=("norm",), freeze_depth=1)
    assert freeze(model, config) and freeze(model, config) == ()


def test_nothing_is_frozen_unless_asked_for() -> None:
    model = tiny_model("resnet")
    kinds = [type(each) for each in model.modules()]
    assert freeze(model, OptimConfig()) == ()
    assert learning(model) == {name for name, _ in model.named_parameters()}
    assert [type(each) for each in model.modules()] == kinds


def test_lora_stays_frozen_and_its_matrices_can_be_frozen() -> None:
    model = tiny_model()
    add_lora(model, 2, 4.0, ("attn.qkv",))
    frozen = freeze(model, OptimConfig(freeze=("patch_embed",), freeze_depth=1))
    assert frozen == ("blocks.0.attn.qkv.lora_a", "blocks.0.attn.qkv.lora_b")
    assert learning(model) == {
        *("blocks.1.attn.qkv.lora_a", "blocks.1.attn.qkv.lora_b", "head.weight", "head.bias")
    }


def test_frozen_batch_norms_keep_and_use_their_statistics() -> None:
    model = tiny_model("resnet")
    freeze(model, OptimConfig(freeze_depth=1))
    before = copied(model)
    learn(model)
    after = model.state_dict()
    statistics = [name for name, _ in model.named_buffers()]
    moved = {name for name in statistics if not torch.equal(before[name], after[name])}
    kept = set(statistics) - moved
    assert {name.split(".")[0] for name in kept} == {"bn1", "layer1"}
    assert {name.split(".")[0] for name in moved} == {"layer2"}


def test_frozen_parts_compute_in_training_what_they_compute_in_evaluation() -> None:
    model, plain = tiny_model("resnet").train(), tiny_model("resnet").eval()
    freeze(model, OptimConfig(freeze_depth=1))
    images = images_for(model, 3)
    names = ["stem", "layer1.0.output"]
    seen, expected = model.intermediates(images, names), plain.intermediates(images, names)
    assert all(torch.equal(seen[name], expected[name]) for name in names)


def test_a_half_frozen_batch_norm_goes_on() -> None:
    model = tiny_model("resnet")
    freeze(model, OptimConfig(freeze=("bn1.weight",)))
    assert isinstance(model.get_submodule("bn1"), nn.BatchNorm2d)


def test_copies_and_conversions_stay_frozen() -> None:
    model = tiny_model("resnet")
    freeze(model, OptimConfig(freeze_depth=1))
    averaged, copy_of = Ema(model, 0.9), copy.deepcopy(model)
    across = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(model))
    norms = [name for name, each in across.named_modules() if isinstance(each, nn.SyncBatchNorm)]
    assert norms and all(name.startswith("layer2") for name in norms)
    images = images_for(model, 3)
    first = copied(copy_of)
    copy_of.train()(images)
    averaged.model.train()(images)
    for changed in (copy_of, averaged.model):
        state = changed.state_dict()
        kept = {name for name in state if torch.equal(state[name], first[name])}
        assert {"bn1.running_mean", "layer1.0.bn3.num_batches_tracked"} < kept
        assert "layer2.0.bn1.running_mean" not in kept


def test_frozen_weights_can_be_loaded_into_a_plain_model_and_back() -> None:
    model, plain = tiny_model("resnet"), tiny_model("resnet", seed=1)
    freeze(model, OptimConfig(freeze_depth=1))
    plain.load_state_dict(model.state_dict())
    images = images_for(model, 1)
    assert torch.equal(plain.eval()(images), model.eval()(images))
    model.load_state_dict(tiny_model("resnet", seed=2).state_dict())
    assert torch.equal(model(images), tiny_model("resnet", seed=2).eval()(images))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"freeze": ("pos_embd",)}, "train.freeze='pos_embd': no parameter .*mean 'pos_embed'"),
        ({"freeze": ("head", "block.0")}, "'block.0': .* did you mean 'blocks.0'"),
        ({"freeze": ("",)}, "train.freeze='': .* so; they begin with cls_token, .*, norm, head$"),
        ({"freeze_depth": 3}, "train.freeze_depth=3 must be at most 2, the blocks of this model"),
        ({"freeze": ("*",)}, r"train.freeze=\*, .*_depth=0: none of the 32 parameters is left"),
        ({"freeze": ("norm", "head"), "freeze_depth": 2}, "freeze=norm,head, .*=2: none of the"),
    ],
)
def test_what_cannot_be_frozen(settings: dict[str, object], message: str) -> None:
    model = tiny_model()
    with pytest.raises(ConfigError, match=message) as caught:
        freeze(model, OptimConfig(**settings))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert learning(model) == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize(("kind", "blocks"), [("swin", 4), ("resnet", 3), ("bit", 3)])
def test_no_more_blocks_than_there_are(kind: str, blocks: int) -> None:
    model = tiny_model(kind)
    with pytest.raises(ConfigError, match=f"freeze_depth={blocks + 1} must be at most {blocks}"):
        freeze(model, OptimConfig(freeze_depth=blocks + 1))
    freeze(model, OptimConfig(freeze_depth=blocks))
    assert learning(model) >= set(model.head_names)


def test_a_frozen_beginning_is_not_differentiated() -> None:
    model = tiny_model()
    freeze(model, OptimConfig(freeze_depth=1))
    assert not model.embed(images_for(model)).requires_grad  # type: ignore[operator]
    assert model(images_for(model)).requires_grad


def test_a_swin_counts_its_blocks_over_the_stages() -> None:
    model = tiny_model("swin")
    frozen = freeze(model, OptimConfig(freeze_depth=3))
    assert "layers.1.downsample.reduction.weight" in frozen
    assert {re.sub(r"blocks\.(\d).*", r"\1", name) for name in frozen if "blocks" in name} == {
        *("layers.0.0", "layers.0.1", "layers.1.0")
    }
