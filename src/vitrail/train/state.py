"""The state of a training as named tensors, and back, for any number of ranks."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from vitrail.errors import RunError
from vitrail.models import Backbone, build_model
from vitrail.runs import Run
from vitrail.train.config import RunConfig
from vitrail.train.ema import Ema
from vitrail.train.optim import make_optimizer
from vitrail.train.parallel import put, recompute_blocks, replicate, shard, whole
from vitrail.train.scaler import Scaler
from vitrail.train.setup import Setup
from vitrail.train.team import Team

Files = dict[str, dict[str, Tensor]]


@dataclass(frozen=True)
class State:
    """Everything that the next step depends on, beside its number."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema
    scaler: Scaler

    def pack(self, team: Team) -> Files:
        """Give the whole tensors that this rank has to write, by file and name.

        Tensors that lie in parts on the ranks are gathered one after the other, and each is kept by
        one rank, in turn; all others are rank 0's. All ranks must call it together.
        """
        files: Files = {}
        for number, (file, name, tensor) in enumerate(self._tensors()):
            owner = number % team.ranks if isinstance(tensor, DTensor) else 0
            tensor = whole(tensor)
            if owner == team.rank:
                files.setdefault(file, {})[name] = tensor
        return files

    def unpack(self, files: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Put the tensors of `pack` back where they came from.

        Raises:
            RunError: they are of another model.
        """
        _fill(dict(self.model.state_dict()), files["model"], "model")
        if self.ema.decay:
            _fill(dict(self.ema.model.state_dict()), files["ema"], "ema")
        for name, target in self.scaler.tensors().items():
            if name in files.get("guard", {}):  # runs of before had none
                put(target, files["guard"][name])
        parameters = dict(self.model.named_parameters())
        self.optimizer.state.clear()
        for full_name, value in files["optimizer"].items():
            name, _, key = full_name.rpartition("/")
            if name not in parameters:
                raise RunError(f"checkpoint optimizer: {name!r} is not a parameter of this model")
            self.optimizer.state[parameters[name]][key] = _beside(parameters[name], value)

    def save(
        self, run: Run, done: int, about: Mapping[str, Any], team: Team, config: RunConfig
    ) -> None:
        """Write a checkpoint. All ranks must call it together."""
        files = self.pack(team)
        if team.leads:
            run.save_checkpoint(done, files, about, config.keep_checkpoints)

    def whole_model(self, setup: Setup, team: Team) -> Backbone:
        """Give the averaged model on rank 0, whole; all ranks must ask for it."""
        average = self.ema.model
        assert isinstance(average, Backbone)  # a copy of the model
        tensors = {name: whole(value) for name, value in average.state_dict().items()}
        if not any(isinstance(each, DTensor) for each in average.parameters()):
            return average
        plain = build_model(average.config)
        plain.load_state_dict(tensors)
        for name in ("name", "classes", "multi_label", "preprocess"):
            setattr(plain, name, getattr(average, name))
        return plain

    def _tensors(self) -> Iterator[tuple[str, str, Tensor]]:
        """List file, name and tensor of everything, in the same order on every rank."""
        yield from (("model", *item) for item in self.model.state_dict().items())
        if self.ema.decay:
            yield from (("ema", *item) for item in self.ema.model.state_dict().items())
        for name, parameter in self.model.named_parameters():
            for key, value in sorted(self.optimizer.state.get(parameter, {}).items()):
                yield "optimizer", f"{name}/{key}", value
        yield from (("guard", *item) for item in self.scaler.tensors().items())


def make_state(setup: Setup, team: Team) -> State:
    """Give a run its optimiser and its average, and spread them over the ranks."""
    config, model = setup.config, setup.model
    ema = Ema(model, config.train.ema)
    if config.recompute:
        recompute_blocks(model)
    if config.compile:
        model.compile()
    if team.ranks > 1 and config.team.strategy == "fsdp":
        shard(model, team, config.precision)
        if ema.decay:
            shard(ema.model, team, config.precision)
        ema.attach(model)
    elif team.ranks > 1:
        setup.objective.model = replicate(model, team)
    optimizer = make_optimizer(model, config.train)
    return State(model, optimizer, ema, Scaler(config.precision, team.device))


def restore(run: Run, state: State, team: Team) -> tuple[int, float]:
    """Load the newest whole checkpoint, if any; give the steps that are done and their seconds."""
    checkpoint, damaged = run.newest_checkpoint()
    if team.leads:
        for line in damaged:
            warnings.warn(f"checkpoint passed over: {line}", stacklevel=2)
        run.forget_after(0 if checkpoint is None else checkpoint.step)
    if checkpoint is None:
        return 0, 0.0
    state.unpack(checkpoint.tensors)
    return checkpoint.step, float(checkpoint.state["seconds"])


def _fill(targets: Mapping[str, Tensor], values: Mapping[str, Tensor], what: str) -> None:
    """Copy tensors of the same names and shapes. Raises RunError."""
    for name in sorted(targets.keys() ^ set(values)):
        raise RunError(f"checkpoint {what}: {name!r} is only in one of file and model")
    for name, target in targets.items():
        if values[name].shape != target.shape:
            raise RunError(
                f"checkpoint {what}: {name!r} has the shape {list(values[name].shape)}, "
                f"the model's {list(target.shape)}"
            )
        put(target, values[name])


def _beside(parameter: Tensor, value: Tensor) -> Tensor:
    """Bring a tensor of the optimiser to where the parameter is, and cut it as that is cut.

    AdamW's step counter lies there too, where the fused kernel wants it.
    """
    if isinstance(parameter, DTensor) and value.shape == parameter.shape:
        state = torch.zeros_like(parameter, dtype=value.dtype)
        put(state, value)
        return state
    return value.to(parameter.device, copy=True)
