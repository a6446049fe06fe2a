"""What every backbone promises. A new one in BACKBONES is tested on arrival."""

import json
import math

import pytest
import torch

from tests.helpers import TINY, draw_images, images_for, tiny, tiny_model
from vitrail.errors import ModelError
from vitrail.models import BACKBONES, Features, build_model, count_flops

KINDS = list(TINY)  # every backbone, and the variants of the ViT
# ReLU and max pooling choose otherwise after rounding: single gradients move far, to the same digit
# in timm's twins. So these are judged by all gradients together.
RECTIFIED = ("resnet", "bit", "hybrid")
SIZES = [
    (40, 24),
    (24, 56),
    (8, 8),
    (64, 32),
]  # odd grids, one patch, and more than the native size
LAYER = [
    *("norm1.weight", "norm1.bias", "attn.qkv.weight", "attn.qkv.bias"),
    *("attn.proj.weight", "attn.proj.bias", "norm2.weight", "norm2.bias"),
    *("mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias"),
]
SWIN_LAYER = [*LAYER[:2], "attn.relative_position_bias_table", *LAYER[2:]]
BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
BOTTLENECK = [
    name
    for i in (1, 2, 3)
    for name in (f"conv{i}.weight", *(f"bn{i}.{part}" for part in BATCH_NORM))
]
PROJECTION = ["downsample.0.weight", *(f"downsample.1.{part}" for part in BATCH_NORM)]
PRE_ACTIVATION = [
    *("norm1.weight", "norm1.bias", "conv1.weight", "norm2.weight", "norm2.bias", "conv2.weight"),
    *("norm3.weight", "norm3.bias", "conv3.weight"),
]
POST_ACTIVATION = [
    *("conv1.weight", "norm1.weight", "norm1.bias", "conv2.weight", "norm2.weight", "norm2.bias"),
    *("conv3.weight", "norm3.weight", "norm3.bias"),
]
# Weights files hold these names: a change here makes every saved model unreadable.
STATE_NAMES = {
    "vit": [
        *("cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"),
        *(f"blocks.{i}.{name}" for i in (0, 1) for name in LAYER),
        *("norm.weight", "norm.bias", "head.weight", "head.bias"),
    ],
    "swin": [
        *(f"patch_embed.{part}" for part in ("proj.weight", "proj.bias", "norm.weight")),
        "patch_embed.norm.bias",
        *(f"layers.0.blocks.{i}.{name}" for i in (0, 1) for name in SWIN_LAYER),
        *(f"layers.1.downsample.{part}" for part in ("norm.weight", "norm.bias")),
        "layers.1.downsample.reduction.weight",
        *(f"layers.1.blocks.{i}.{name}" for i in (0, 1) for name in SWIN_LAYER),
        *("norm.weight", "norm.bias", "head.fc.weight", "head.fc.bias"),
    ],
    "resnet": [
        *("conv1.weight", *(f"bn1.{part}" for part in BATCH_NORM)),
        *(f"layer1.0.{name}" for name in BOTTLENECK + PROJECTION),
        *(f"layer2.0.{name}" for name in BOTTLENECK + PROJECTION),
        *(f"layer2.1.{name}" for name in BOTTLENECK),
        *("fc.weight", "fc.bias"),
    ],
    "bit": [
        "stem.conv.weight",
        *(f"stages.0.blocks.0.{name}" for name in ["downsample.conv.weight", *PRE_ACTIVATION]),
        *(f"stages.1.blocks.0.{name}" for name in ["downsample.conv.weight", *PRE_ACTIVATION]),
        *(f"stages.1.blocks.1.{name}" for name in PRE_ACTIVATION),
        *("norm.weight", "norm.bias", "head.fc.weight", "head.fc.bias"),
    ],
    "hybrid": [
        *("cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"),
        *(f"patch_embed.backbone.stem.{part}" for part in ("conv.weight", "norm.weight")),
        "patch_embed.backbone.stem.norm.bias",
        *(
            f"patch_embed.backbone.stages.{block}.{name}"
            for block in ("0.blocks.0", "1.blocks.0", "1.blocks.1")
            for name in [
                *(f"downsample.{part}" for part in ("conv.weight", "norm.weight", "norm.bias")),
                *POST_ACTIVATION,
            ][3 * (block == "1.blocks.1") :]  # only the first block of a stage projects
        ),
        *(f"blocks.{i}.{name}" for i in (0, 1) for name in LAYER),
        *("norm.weight", "norm.bias", "head.weight", "head.bias"),
    ],
}
INTERMEDIATE_NAMES = {
    "vit": [
        "embed",
        *("blocks.0.attn.input", "blocks.0.attn.output", "blocks.0.mlp.output", "blocks.0.output"),
        *("blocks.1.attn.input", "blocks.1.attn.output", "blocks.1.mlp.output", "blocks.1.output"),
        *("norm", "pooled", "logits"),
    ],
    "swin": [
        "embed",
        *(
            f"layers.{stage}.blocks.{i}.{part}"
            for stage in (0, 1)
            for i in (0, 1)
            for part in ("attn.input", "attn.output", "mlp.output", "output")
        ),
        *("norm", "pooled", "logits"),
    ],
    "resnet": [
        *("stem", "layer1.0.output", "layer2.0.output", "layer2.1.output", "pooled", "logits"),
    ],
    "bit": [
        *("stem", "stages.0.blocks.0.output", "stages.1.blocks.0.output"),
        *("stages.1.blocks.1.output", "norm", "pooled", "logits"),
    ],
}
INTERMEDIATE_NAMES["hybrid"] = INTERMEDIATE_NAMES["vit"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 3])
def test_forward_gives_one_finite_logit_per_class(kind: str, count: int) -> None:
    model = tiny_model(kind)
    logits = model(images_for(model, count))
    assert logits.shape == (count, 5)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_other_sizes_than_the_native_one(kind: str, size: tuple[int, int]) -> None:
    model = tiny_model(kind)
    images = draw_images(2, 3, *size)
    assert model(images).isfinite().all()
    pooled, tokens, grid = model.features(images)
    assert tokens.shape[:2] == (2, math.prod(grid))
    assert pooled.shape[1] % tokens.shape[2] == 0  # one or two of them side by side
    if size[0] != size[1]:
        assert (grid[0] > grid[1]) == (size[0] > size[1])


@pytest.mark.parametrize("kind", KINDS)
def test_grey_images(kind: str) -> None:
    model = tiny_model(kind, in_channels=1)
    assert model(images_for(model)).shape == (2, 5)
    with pytest.raises(ModelError, match=r"images have 3 channels; this model takes 1"):
        model(draw_images(2, 3, 32, 48))


@pytest.mark.parametrize("kind", KINDS)
def test_images_do_not_influence_each_other(kind: str) -> None:
    model = tiny_model(kind).eval()
    images = images_for(model, 3)
    alone = torch.cat([model(images[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(model(images), alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_receives_a_gradient(kind: str) -> None:
    model = tiny_model(kind)
    model(images_for(model)).square().sum().backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None]
    assert missing == []
    zero = [name for name, p in model.named_parameters() if p.grad.abs().sum() == 0]
    assert zero == []
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_what_the_head_classifies(kind: str) -> None:
    model = tiny_model(kind).eval()
    images = images_for(model)
    features = model.features(images)
    assert isinstance(features, Features)
    assert features.grid[0] * features.grid[1] == features.tokens.shape[1]
    assert torch.equal(model.classify(features.pooled), model(images))


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_to_bf16_stays_close(kind: str) -> None:
    model = tiny_model(kind).eval()
    images = images_for(model, 4)
    exact = model(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(images).float()
    assert not torch.equal(rough, exact)
    assert (rough - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("kind", KINDS)
def test_bf16_gradients_stay_close(kind: str) -> None:
    model = tiny_model(kind, **({"patch_dropout": 0.0} if kind.startswith("vit") else {}))
    images, names = images_for(model, 4), [name for name, _ in model.named_parameters()]
    exact = torch.autograd.grad(model(images).square().sum(), list(model.parameters()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(images).float().square().sum()
    rough = torch.autograd.grad(loss, list(model.parameters()))
    floor = 1e-4 * max(float(b.norm()) for b in exact)  # a bias of all keys has no gradient at all
    errors = {
        n: float((a - b).norm() / b.norm())
        for n, a, b in zip(names, rough, exact, strict=True)
        if b.norm() > floor
    }
    if kind.startswith(RECTIFIED):
        whole, true = (torch.cat([g.flatten() for g in gs]) for gs in (rough, exact))
        assert (whole - true).norm() < 0.2 * true.norm()
    else:
        assert max(errors.values()) < 0.1, errors


@pytest.mark.parametrize("kind", KINDS)
def test_initialise_draws_every_parameter(kind: str) -> None:
    model = build_model(tiny(kind))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
    model.initialise()
    assert [name for name, p in model.named_parameters() if p.isnan().any()] == []
    assert [name for name, buffer in model.named_buffers() if buffer.isnan().any()] == []


@pytest.mark.parametrize("kind", KINDS)
def test_initialise_depends_on_the_seed_alone(kind: str) -> None:
    model = build_model(tiny(kind))
    torch.manual_seed(1)
    model.initialise()
    first = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(1)
    model.initialise()
    assert all(torch.equal(first[name], tensor) for name, tensor in model.state_dict().items())
    torch.manual_seed(2)
    model.initialise()
    assert any(not torch.equal(first[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_without_classes_answers_with_its_features(kind: str) -> None:
    model = tiny_model(kind, classes=0).eval()
    images = images_for(model)
    assert torch.equal(model(images), model.features(images).pooled)
    assert not set(model.head_names) & set(model.state_dict())
    assert set(model.head_names) <= set(tiny_model(kind).state_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_model_finds_every_class_equally_likely(kind: str) -> None:
    model = build_model(tiny(kind))
    assert torch.equal(model(images_for(model)), torch.zeros(2, 5))


@pytest.mark.parametrize("kind", KINDS)
def test_intermediates_are_complete_and_in_order(kind: str) -> None:
    model = tiny_model(kind)
    seen = model.intermediates(images_for(model))
    assert sorted(seen) == sorted(INTERMEDIATE_NAMES[kind.split("-")[0]])
    assert list(seen) == INTERMEDIATE_NAMES[kind.split("-")[0]]
    assert model.intermediate_names() == tuple(INTERMEDIATE_NAMES[kind.split("-")[0]])
    assert all(len(tensor) == 2 for tensor in seen.values())


@pytest.mark.parametrize("kind", KINDS)
def test_recording_changes_no_bit(kind: str) -> None:
    model = tiny_model(kind).eval()
    images = images_for(model)
    seen = model.intermediates(images)
    assert torch.equal(seen["logits"], model(images))
    assert torch.equal(seen["pooled"], model.features(images).pooled)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_wanted_intermediates_are_kept(kind: str) -> None:
    model = tiny_model(kind)
    last = model.intermediate_names()[-1]
    assert set(model.intermediates(images_for(model), [last])) == {last}
    assert model.intermediates(images_for(model), []) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_intermediate_is_refused(kind: str) -> None:
    model = tiny_model(kind)
    with pytest.raises(ModelError, match=r"'logit' is not one of the \d+ names .* mean 'logits'"):
        model.intermediates(images_for(model), ["logit"])


@pytest.mark.parametrize("kind", BACKBONES)
def test_state_names_never_change(kind: str) -> None:
    assert list(build_model(tiny(kind)).state_dict()) == STATE_NAMES[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_configuration_survives_json(kind: str) -> None:
    model = tiny_model(kind).eval()
    text = json.dumps(model.config.to_json())
    config = BACKBONES[kind.split("-")[0]][0].parse(json.loads(text), where="model.json")
    assert config == model.config
    again = build_model(config).eval()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(images_for(model)), model(images_for(model)))


@pytest.mark.parametrize("kind", KINDS)
def test_kind_names_the_entry(kind: str) -> None:
    config = tiny(kind)
    assert config.to_json()["kind"] == kind.split("-")[0]
    assert type(build_model(config)) is BACKBONES[kind.split("-")[0]][1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_can_be_built_without_memory(kind: str) -> None:
    with torch.device("meta"):
        model = build_model(tiny(kind))
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    solid = tiny_model(kind)
    assert model.count_parameters() == solid.count_parameters()
    assert count_flops(model, (32, 48), 3) == count_flops(solid, (32, 48), 3) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_drop_path_acts_in_training_only(kind: str) -> None:
    model = tiny_model(kind, drop_path=0.9)
    images = images_for(model, 8)
    torch.manual_seed(0)
    first, second = model(images), model(images)
    assert not torch.equal(first, second)
    model.eval()
    assert torch.equal(model(images), model(images))
    fresh = tiny_model(kind, drop_path=0.9).eval()  # batch norms have seen nothing yet
    assert torch.equal(fresh(images), tiny_model(kind).eval()(images))
