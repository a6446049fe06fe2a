"""Explicit against fused attention on the CPU: when is which faster?

    python benchmarks/attention.py --rounds 15 --threads 1

One round times both, in alternating order, so that other work on the machine falls on both alike.
A ratio above 1 means that the fused kernel is faster. Timed is what a model does between its qkv
and its output projection, on the same memory layout; training means forward and backward.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vitrail.models.attention import attention_weights

TOKENS = (17, 65, 197, 785, 1025)
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
MODES = ("inference", "training")


def explicit(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Three plain operations."""
    return attention_weights(q, k) @ v


def one_pass(attend: Callable[..., Tensor], qkv: Tensor, trains: bool) -> float:
    """Run attention once on qkv [b, n, 3, h, k]; seconds."""
    start = time.perf_counter()
    with torch.set_grad_enabled(trains):
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind()
        y = attend(q, k, v).transpose(1, 2).flatten(2)
    if trains:
        torch.autograd.grad(y, qkv, torch.ones_like(y))
    return time.perf_counter() - start


def compare(qkv: Tensor, trains: bool, rounds: int) -> tuple[float, float, float]:
    """Median seconds of explicit and of fused, and the median of their ratios, round by round."""
    contestants = [explicit, F.scaled_dot_product_attention]
    seconds: list[list[float]] = [[], []]
    for i in range(rounds + 2):
        for which in (0, 1) if i % 2 else (1, 0):
            elapsed = one_pass(contestants[which], qkv, trains)
            if i >= 2:  # the first two warm up
                seconds[which].append(elapsed)
    ratios = [a / b for a, b in zip(*seconds, strict=True)]
    return statistics.median(seconds[0]), statistics.median(seconds[1]), statistics.median(ratios)


def cpu_name() -> str:
    """What the kernel calls this CPU, and which bf16 instructions it has."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    has = torch.cpu.get_capabilities()
    return f"{name} (avx512_bf16={has.get('avx512_bf16')}, amx_bf16={has.get('amx_bf16')})"


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--images", type=int, help="per batch; as many as make about 6,000 tokens")
    parser.add_argument("--tokens", type=int, nargs="+", default=TOKENS)
    parser.add_argument("--dtypes", choices=DTYPES, nargs="+", default=list(DTYPES))
    parser.add_argument("--modes", choices=MODES, nargs="+", default=MODES)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, {args.threads} threads, {cpu_name()}")
    print(f"{args.heads} heads of 64, {args.rounds} rounds, medians")
    print(f"{'tokens':>6} {'images':>6} {'dtype':>8} {'mode':>10} ", end="")
    print(f"{'explicit ms':>11} {'fused ms':>9} {'ratio':>6}")
    for n in args.tokens:
        b = args.images or max(1, 6000 // n)
        for dtype_name in args.dtypes:
            for mode in args.modes:
                trains = mode == "training"
                qkv = torch.randn(b, n, 3, args.heads, 64, dtype=DTYPES[dtype_name])
                slow, fast, ratio = compare(qkv.requires_grad_(trains), trains, args.rounds)
                print(f"{n:6} {b:6} {dtype_name:>8} {mode:>10} ", end="")
                print(f"{slow * 1e3:11.2f} {fast * 1e3:9.2f} {ratio:6.2f}", flush=True)


if __name__ == "__main__":
    main()
