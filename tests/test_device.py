"""Which device and precision a name means here."""

import pytest
import torch

from vitrail import device as device_module
from vitrail.device import autocast, pick_device, pick_precision
from vitrail.errors import ConfigError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def pretend_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def pretend_cpu(monkeypatch: pytest.MonkeyPatch, capability: str, bf16: bool) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": bf16})


def test_cpu_is_always_there() -> None:
    assert pick_device("cpu") == CPU


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch, 0)
    assert pick_device("auto") == CPU
    pretend_gpus(monkeypatch, 2)
    assert pick_device("auto") == CUDA


def test_gpus_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch, 2)
    assert pick_device("cuda") == CUDA
    assert pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ConfigError, match="device='cuda:2': there are 2 GPUs, from cuda:0"):
        pick_device("cuda:2")


@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pretend_gpus(monkeypatch, 0)
    with pytest.raises(
        ConfigError, match=f"device='{name}': PyTorch sees no GPU here; use device=cpu"
    ):
        pick_device(name)


@pytest.mark.parametrize("name", ["", "gpu", "CPU", "cuda:x", "cuda:-1", "meta", "mps", "cpu cpu"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"device='{name}' is not one of auto, cpu, cuda, cuda:N"):
        pick_device(name)


@pytest.mark.parametrize("device", [CPU, CUDA], ids=str)
def test_a_stated_precision_is_kept(device: torch.device) -> None:
    assert pick_precision("float32", device) == "float32"
    assert pick_precision("bf16", device) == "bf16"


@pytest.mark.parametrize(
    ("capability", "bf16", "precision"),
    [("AVX512", True, "bf16"), ("AVX512", False, "float32"), ("AVX2", True, "float32")],
)
def test_auto_precision_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, capability: str, bf16: bool, precision: str
) -> None:
    pretend_cpu(monkeypatch, capability, bf16)
    assert pick_precision("auto", CPU) == precision


def test_auto_precision_where_pytorch_knows_nothing_of_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert device_module.pick_precision("auto", CPU) == "float32"


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16"), (False, "float32")])
def test_auto_precision_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, native: bool, precision: str
) -> None:
    def supported(including_emulation: bool) -> bool:
        return native or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert pick_precision("auto", CUDA) == precision


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_autocast_sets_the_type_of_products(precision: str, dtype: torch.dtype) -> None:
    weight = torch.ones(2, 2)
    with autocast(CPU, precision):
        assert (weight @ weight).dtype == dtype
    assert (weight @ weight).dtype == torch.float32
    assert weight.dtype == torch.float32
