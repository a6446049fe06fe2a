"""The arithmetic of large trainings equals what PyTorch counts, keeps and writes."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from vitrail import scale
from vitrail.models.base import count_flops
from vitrail.models.registry import build_model
from vitrail.models.vit_config import ViTConfig
from vitrail.models.vit_names import VIT_MODELS
from vitrail.scale import H100, Machine, Memory
from vitrail.train.fitting import activation_bytes

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "layer scale": {"layer_scale": 1e-5},
    "qk norm": {"qk_norm": True},
    "swiglu": {"mlp": "swiglu", "mlp_ratio": 8 / 3},
    "attention pooling": {"pool": "map", "class_token": False},
    "norm after pooling": {"pool": "mean", "class_token": False, "norm_after_pool": True},
    "registers": {"registers": 3, "prefix_positions": False},
    "distilled": {"distilled": True},
    "no key bias": {"qkv_bias": "no_key"},
    "two poolings": {"pool": "token+mean"},
}
SMALL = {"patch_size": 16, "width": 96, "depth": 3, "heads": 3, "classes": 10}
MACHINE = Machine(memory=100.0, flops=50.0, link=10.0, network=4.0, gpus=2)


def config_of(variant: str, **sizes: Any) -> ViTConfig:
    """Give a small ViT of a variant."""
    return ViTConfig(**{"image_size": (48, 80), **SMALL, **VARIANTS[variant], **sizes})


def kept(config: ViTConfig, count: int, *, half: bool) -> int:
    """Run so many images forward on the CPU, and add up what stays in memory for the way back."""
    model = build_model(config).train()
    weights = {each.untyped_storage().data_ptr() for each in model.parameters()}
    storages: dict[int, Any] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage  # alive, so that no other takes its address
        return tensor

    images = torch.randn(count, config.in_channels, *config.image_size)
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16) if half else nullcontext(),
    ):
        model(images)
    return sum(storage.nbytes() for storage in storages.values())


@pytest.mark.parametrize("name", VIT_MODELS)
def test_parameters_and_operations_are_those_of_the_model(name: str) -> None:
    config = VIT_MODELS[name].replace(depth=2)  # the other blocks are alike
    with torch.device("meta"):
        model = build_model(config)
    assert scale.parameters(config) == model.count_parameters()
    assert scale.flops(config) == count_flops(model, config.image_size, config.in_channels)


@pytest.mark.parametrize("variant", VARIANTS)
def test_and_those_of_every_variant(variant: str) -> None:
    config = config_of(variant, in_channels=1, classes=7)
    model = build_model(config)
    assert scale.parameters(config) == model.count_parameters()
    assert scale.flops(config) == count_flops(model, config.image_size, 1)
    block = sum(each.numel() for each in model.blocks[0].parameters())  # type: ignore[index]
    assert scale.block_parameters(config) == block


@pytest.mark.parametrize("variant", VARIANTS)
def test_activations_in_float32_are_what_pytorch_keeps(variant: str) -> None:
    config = config_of(variant)
    each = kept(config, 2, half=False) - kept(config, 1, half=False)
    assert scale.activations(config, half=False) == pytest.approx(each, rel=0.02)


@pytest.mark.parametrize("variant", VARIANTS)
def test_activations_in_bf16_are_what_pytorch_keeps(variant: str) -> None:
    config = config_of(variant, image_size=(352, 336), depth=2)  # enough tokens to fuse attention
    each = kept(config, 2, half=True) - kept(config, 1, half=True)
    assert scale.activations(config, half=True) == pytest.approx(each, rel=0.002)


@pytest.mark.parametrize("variant", VARIANTS)
def test_recompute_keeps_the_input_of_each_block_and_one_block(variant: str) -> None:
    config = config_of(variant, depth=5)
    model = build_model(config).train()
    one = activation_bytes(model, torch.device("cpu"), "float32", recompute=True).each
    assert scale.activations(config, half=False, recompute=True) == pytest.approx(one, rel=0.05)


def test_training_takes_three_forward_passes_or_four() -> None:
    config = config_of("plain")
    assert scale.training_flops(config) == 3 * scale.flops(config)
    assert scale.training_flops(config, recompute=True) == 4 * scale.flops(config)


def test_ddp_holds_everything_and_fsdp_a_share() -> None:
    config = config_of("plain")
    count = scale.parameters(config)
    ddp = scale.memory(config, images=3, ranks=8, strategy="ddp")
    assert ddp[:5] == (4 * count, 4 * count, 8 * count, 4 * count, 2 * count)
    assert ddp.activations == 3 * scale.activations(config)
    assert ddp.total == 22 * count + ddp.activations
    fsdp = scale.memory(config, images=3, ranks=8, strategy="fsdp")
    assert [8 * part for part in fsdp[:4]] == list(ddp[:4])
    assert fsdp.copies == 10 * scale.block_parameters(config)
    assert fsdp.activations == ddp.activations


def test_what_is_left_off_takes_nothing() -> None:
    config = config_of("plain")
    count = scale.parameters(config)
    least = scale.memory(config, images=0, optimizer="sgd", ema=False, half=False)
    assert least == Memory(4 * count, 4 * count, 4 * count, 0, 0, 0)
    again = scale.memory(config, images=1, recompute=True)
    assert again.activations == scale.activations(config, recompute=True)


@pytest.mark.parametrize(("optimizer", "ema"), [("adamw", True), ("adamw", False), ("sgd", True)])
def test_a_checkpoint_is_what_model_optimiser_and_average_hold(optimizer: str, ema: bool) -> None:
    model = build_model(config_of("plain"))
    kinds = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    more = {"momentum": 0.9} if optimizer == "sgd" else {}
    steps = kinds[optimizer](model.parameters(), lr=0.1, **more)  # type: ignore[arg-type]
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    steps.step()
    held = [value for state in steps.state.values() for value in state.values()]
    size = sum(each.nbytes for each in held if each.dim())  # without the counters of steps
    size += sum(each.nbytes for each in model.parameters()) * (2 if ema else 1)
    assert scale.checkpoint_bytes(config_of("plain"), optimizer=optimizer, ema=ema) == size


def test_the_largest_batch_is_the_last_that_fits() -> None:
    fixed = Memory(30.0, 10.0, 10.0, 5.0, 0.0, 0.0)
    assert scale.largest_batch(fixed, 7, MACHINE, used=0.9) == 5  # 55 + 35 = 90
    assert scale.largest_batch(fixed, 8, MACHINE, used=0.9) == 4
    assert scale.largest_batch(fixed._replace(copies=40.0), 1, MACHINE, used=0.9) == 0


def test_traffic_of_a_ring() -> None:
    config = config_of("plain")
    count = scale.parameters(config)
    assert scale.traffic(config, 1, strategy="ddp") == 0
    assert scale.traffic(config, 4, strategy="ddp") == 2 * 4 * count * 3 / 4
    assert scale.traffic(config, 4, strategy="fsdp") == (2 + 2 + 4) * count * 3 / 4
    assert scale.traffic(config, 4, strategy="fsdp", half=False) == 12 * count * 3 / 4
    assert scale.traffic_seconds(60.0, 1, MACHINE) == 0
    assert scale.traffic_seconds(60.0, 2, MACHINE) == 6  # by the link
    assert scale.traffic_seconds(60.0, 4, MACHINE) == 15  # by the network, which is slower


def test_seconds_and_hours() -> None:
    config = config_of("plain")
    assert scale.compute_seconds(100.0, MACHINE, 0.5) == 4
    hours = scale.gpu_hours(config, 10.0, MACHINE, utilisation=0.5, recompute=True)
    assert hours == pytest.approx(10 * 4 * scale.flops(config) / (50 * 0.5) / 3600)


def test_the_h100_is_that_of_the_data_sheet() -> None:
    assert (H100.memory, H100.gpus) == (80e9, 8)
    assert (H100.flops, H100.link, H100.network) == (989.4e12, 450e9, 400e9)
