"""Models by name, and the count of their operations."""

import re
from typing import Any, Literal

import pytest
import torch

from tests.helpers import tiny_model
from vitrail.errors import ModelError
from vitrail.models import (
    ALIASES,
    BACKBONES,
    MODELS,
    Backbone,
    BackboneConfig,
    build_model,
    count_flops,
    create_model,
    list_models,
)
from vitrail.models.registry import find_model
from vitrail.models.vit import ViT
from vitrail.models.vit_config import ViTConfig


def on_meta(name: str, **sizes: Any) -> Backbone:
    with torch.device("meta"):
        return create_model(name, **sizes)


def vit_config(name: str) -> ViTConfig:
    config = find_model(name)
    assert isinstance(config, ViTConfig)
    return config


VITS = [name for name, config in MODELS.items() if type(config) is ViTConfig]


# --- names --------------------------------------------------------------------


@pytest.mark.parametrize("name", list_models())
def test_a_name_says_what_it_is(name: str) -> None:
    config = find_model(name)
    sizes = dict(config)
    numbers = {key: int(value) for key, value in re.findall(r"(patch|window)(\d+)", name)}
    if "patch" in numbers:
        assert sizes["patch_size"] == numbers["patch"]
    if "window" in numbers:
        assert sizes["window_size"] == (numbers["window"], numbers["window"])
    if image := re.fullmatch(r".*_(\d+)", name):
        assert config.image_size == (int(image[1]), int(image[1]))
    assert BACKBONES[sizes["kind"]][0] is type(config)


@pytest.mark.parametrize("name", VITS)
def test_a_head_is_as_wide_as_in_the_papers(name: str) -> None:
    config = vit_config(name)
    assert config.width // config.heads in (48, 64, 80, 88, 104, 128)


def test_the_list_has_no_aliases_and_no_doubles() -> None:
    assert len(set(list_models())) == len(list_models()) == 85
    assert not set(list_models()) & set(ALIASES)


@pytest.mark.parametrize("alias", list(ALIASES))
def test_the_papers_names_mean_models(alias: str) -> None:
    model = on_meta(alias)
    assert ALIASES[alias] in MODELS
    assert model.name == ALIASES[alias]
    assert model.config == MODELS[ALIASES[alias]]
    assert model.config.image_size == (224, 224)


def test_the_papers_names() -> None:
    assert ALIASES["ViT-B/16"] == "vit_base_patch16_224"
    assert ALIASES["ViT-H/14"] == "vit_huge_patch14_224"
    assert ALIASES["ViT-Ti/16"] == "vit_tiny_patch16_224"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("vit_tin", "did you mean 'vit_tiny_patch16_224' or 'vit_tiny_patch16_384'"),
        ("vit_base_patch16", "did you mean 'vit_base_patch16_224' or 'vit_base_patch16_384'"),
        ("ViT-B16", "did you mean 'ViT-B/16'"),
        ("ViT-Base/16", "did you mean 'ViT-B/16'"),
        ("vit_bas_patch16_224", "did you mean 'vit_base_patch16_224'"),
        ("VIT_BASE_PATCH16_224", "did you mean 'vit_base_patch16_224'"),
        ("huge", "did you mean 'vit_huge_patch14_224'"),
        ("resnet5", "did you mean 'resnet50'"),
        ("vgg", "`vitrail models` lists all"),
        ("", "`vitrail models` lists all"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(ModelError, match=r"^model=.*: no such model; ") as caught:
        create_model(name)
    assert hint in str(caught.value)


# --- sizes --------------------------------------------------------------------


def test_every_size_can_be_changed() -> None:
    model = create_model(
        "ViT-Ti/16",
        num_classes=4,
        image_size=(24, 40),
        in_channels=1,
        patch_size=8,
        width=24,
        heads=3,
        depth=1,
        mlp_ratio=2.0,
        drop_path=0.1,
    )
    assert model(torch.zeros(2, 1, 24, 40)).shape == (2, 4)
    expected = ViTConfig(
        image_size=(24, 40),
        patch_size=8,
        in_channels=1,
        classes=4,
        width=24,
        depth=1,
        heads=3,
        mlp_ratio=2.0,
        drop_path=0.1,
    )
    assert model.config == expected
    assert MODELS["vit_tiny_patch16_224"] == ViTConfig(width=192, heads=3)  # untouched


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"widht": 64}, r"vit_tiny_patch16_224: widht: unknown setting; did you mean 'width'"),
        ({"heads": 5}, "width=192 must be a multiple of heads=5"),
        ({"image_size": (32, 50)}, "the nearest is 32x48"),
        ({"num_classes": -1}, "classes=-1: input should be greater than or equal to 0"),
        ({"depth": "many"}, "depth='many': input should be a valid integer"),
        ({"kind": "swin"}, "kind='swin': input should be 'vit'"),
    ],
)
def test_impossible_sizes_are_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        create_model("vit_tiny_patch16_224", **sizes)


def test_a_configuration_without_a_model_is_refused() -> None:
    class StrangeConfig(BackboneConfig):
        kind: Literal["strange"] = "strange"

    with pytest.raises(ModelError, match=r"StrangeConfig is not one of the backbones \['vit', 's"):
        build_model(StrangeConfig())


def test_a_fresh_model_has_no_class_names_and_no_preprocessing() -> None:
    model = tiny_model("vit")
    assert (model.name, model.classes, model.preprocess) == ("", (), None)


# --- operations ---------------------------------------------------------------


def analytic_flops(config: ViTConfig, image_size: tuple[int, int]) -> int:
    """Two for every multiply-add of a matrix product; norms, softmax and GELU are not counted."""
    d, p, hidden = config.width, config.patch_size, config.hidden
    patches = (image_size[0] // p) * (image_size[1] // p)
    n = patches + config.prefix_tokens
    attention = n * d * 3 * d + 2 * n * n * d + n * d * d  # qkv; scores and their use; projection
    block = attention + (3 if config.mlp == "swiglu" else 2) * n * d * hidden
    embed = patches * config.in_channels * p * p * d
    head = d * config.classes * (2 if config.distilled else 1)
    if config.pool == "map":  # one query: its projection, keys and values, scores, output, MLP
        head += d * d + 2 * patches * d * d + 2 * patches * d + d * d + 2 * d * hidden
    return 2 * (embed + config.depth * block + head)


@pytest.mark.parametrize("name", VITS)
def test_flops_are_the_analytic_count(name: str) -> None:
    model, config = on_meta(name), vit_config(name)
    for size in (config.image_size, (224, 448)):
        if size[0] % config.patch_size == 0:
            assert count_flops(model, size, 3) == analytic_flops(config, size)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_flops_do_not_depend_on_device_type_or_mode(dtype: torch.dtype, mode: str) -> None:
    model = tiny_model("vit", drop_path=0.1).to(dtype).train(mode == "train")
    assert isinstance(model, ViT)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert count_flops(model, (32, 48), 3) == analytic_flops(model.config, (32, 48))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert {p.device.type for p in model.parameters()} == {"cpu"}


@pytest.mark.parametrize(
    ("name", "gflops"),
    [
        *[("ViT-B/16", 35.1), ("ViT-S/16", 9.2), ("ViT-Ti/16", 2.5), ("ViT-L/16", 123.1)],
        # twice the multiply-adds of Liu et al. 2021, table 1, and of He et al. 2016, table 1
        *[("swin_tiny_patch4_window7_224", 9.0), ("swin_base_patch4_window7_224", 30.8)],
        *[("resnet18", 3.63), ("resnet50", 8.2), ("resnet152", 23.0)],
    ],
)
def test_flops_of_the_known_models(name: str, gflops: float) -> None:
    count = count_flops(on_meta(name), (224, 224), 3)
    assert count / 1e9 == pytest.approx(gflops, rel=0.01)
