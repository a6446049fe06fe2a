"""The processes that train together: one, or those that torchrun started.

What the host must know (who was asked to stop, which checkpoint is whole) goes over a gloo group of
its own, as JSON, so that no device is waited for and nothing is pickled.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore  # type: ignore[attr-defined]

from vitrail.device import pick_device
from vitrail.errors import ConfigError
from vitrail.train.heartbeat import Pulse, beating, restarts

STARTING = 600.0  # seconds that a rank may start after another


@dataclass(frozen=True)
class Team:
    """One rank of `ranks`, with its device."""

    device: torch.device
    rank: int = 0
    ranks: int = 1
    host: dist.ProcessGroup | None = None  # of gloo; None alone
    pulse: Pulse = field(default_factory=Pulse)

    @property
    def leads(self) -> bool:
        """Whether this rank writes and speaks for all."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Add up a tensor on the device over all ranks; alone it is as it was."""
        if self.ranks == 1:
            return values
        values = values.clone()
        dist.all_reduce(values)
        return values

    def gather(self, value: Any) -> list[Any]:
        """Give every rank's value, of JSON, in the order of the ranks."""
        if self.host is None:
            return [value]
        own = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.ranks)]
        dist.all_gather(sizes, torch.tensor([len(own)]), self.host)
        padded = torch.zeros(int(max(sizes)), dtype=torch.uint8)
        padded[: len(own)] = own
        rows = [torch.empty_like(padded) for _ in range(self.ranks)]
        dist.all_gather(rows, padded, self.host)
        return [
            json.loads(row[: int(size)].numpy().tobytes())
            for row, size in zip(rows, sizes, strict=True)
        ]

    def share(self, value: Any) -> Any:
        """Give rank 0's value, of JSON, to all."""
        return self.gather(value if self.leads else None)[0]

    def gather_rows(self, rows: Tensor) -> Tensor:
        """Give the rows of all ranks, on the CPU; each rank may have another number."""
        if self.host is None:
            return rows
        sizes = [int(size) for size in self.gather(len(rows))]
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(self.ranks)]
        dist.all_gather(parts, padded, self.host)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    def ask(self, number: Callable[[], int]) -> "Answer":
        """Begin to find the largest number of all ranks; ask the answer for it later."""
        if self.host is None:
            return Answer(number, None)
        value = torch.tensor([number()])
        work = dist.all_reduce(value, dist.ReduceOp.MAX, self.host, async_op=True)
        return Answer(lambda: int(value), work)


@dataclass(frozen=True)
class Answer:
    """The largest number of all ranks, which may still be on its way."""

    number: Callable[[], int]
    work: dist.Work | None

    def get(self) -> int:
        """Wait for it."""
        if self.work is not None:
            self.work.wait()
        return self.number()


def ranks_here() -> tuple[int, int]:
    """Give (rank, ranks) as torchrun says them; (0, 1) without it."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


@contextmanager
def joined(device: str, timeout: float) -> Iterator[Team]:
    """Join the ranks that torchrun started, while the block runs; alone there is nothing to join.

    Args:
        device: as in the settings; `auto` and `cuda` give each local rank a GPU of its own.
        timeout: seconds after which a rank that does not move is named.
    Raises:
        ConfigError: the device is not here, or there are more local ranks than GPUs.
    """
    rank, ranks = ranks_here()
    if "RANK" not in os.environ:
        yield Team(pick_device(device))
        return
    chosen = _own_device(device)
    # who stands still is named long before; and ranks may start at quite different times
    waiting = timedelta(seconds=timeout + STARTING)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    # torchrun keeps its store when it starts the ranks anew: with it, addresses of ranks that died
    found, _, _ = next(dist.rendezvous("env://", timeout=waiting))  # type: ignore[attr-defined]
    store = PrefixStore(f"vitrail/{restarts()}", found)
    dist.init_process_group(backend, store=store, rank=rank, world_size=ranks, timeout=waiting)
    try:
        team = Team(chosen, rank, ranks, dist.new_group(backend="gloo", timeout=waiting))
        with beating(team.pulse, rank, ranks, timeout):
            yield team
    finally:
        dist.destroy_process_group()


def _own_device(name: str) -> torch.device:
    """Give this local rank its device. Raises ConfigError."""
    chosen = pick_device(name)
    if chosen.type != "cuda":
        return chosen
    if chosen.index is not None:
        raise ConfigError(f"device={name}: under torchrun each rank takes its own; use device=cuda")
    local = int(os.environ.get("LOCAL_RANK", 0))
    if local >= torch.cuda.device_count():
        raise ConfigError(
            f"local rank {local} has no GPU: there are {torch.cuda.device_count()} here; "
            f"use --nproc-per-node {torch.cuda.device_count()}"
        )
    return torch.device("cuda", local)
