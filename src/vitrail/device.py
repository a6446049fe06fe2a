"""Where and in which precision a model computes."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from vitrail.errors import ConfigError

Precision = Literal["auto", "float32", "bf16", "fp16"]
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(name: str) -> torch.device:
    """Turn `auto`, `cpu`, `cuda` or `cuda:N` into a device that exists here.

    Raises:
        ConfigError: there is no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device={name!r} is not one of auto, cpu, cuda, cuda:N")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device={name!r}: PyTorch sees no GPU here; use device=cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device={name!r}: there are {torch.cuda.device_count()} GPUs, from cuda:0"
        )
    return device


def pick_precision(name: Precision, device: torch.device) -> Literal["float32", "bf16", "fp16"]:
    """Resolve `auto`: bf16 where the hardware multiplies it natively and so gains, else float32."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    native = torch.backends.cpu.get_cpu_capability() == "AVX512" and _has_avx512_bf16()
    return "bf16" if native else "float32"


def _has_avx512_bf16() -> bool:
    """Whether this CPU has bf16 dot products; without them bf16 is slower than float32."""
    return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Compute the matrix products inside this context in `precision`; weights stay float32."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=DTYPES[precision])
