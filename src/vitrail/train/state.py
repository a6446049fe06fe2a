"""The state of a training as named tensors, and back, for any number of ranks."""

import secrets
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from vitrail.checkpoints import Checkpoint, Saver
from vitrail.data.loader import Batch
from vitrail.errors import ConfigError, RunError
from vitrail.models import Backbone, build_model
from vitrail.models.lora import add_same_lora
from vitrail.objectives.classify import Classify
from vitrail.runs import Run
from vitrail.train.blame import weights_are_finite
from vitrail.train.config import RunConfig
from vitrail.train.ema import Ema
from vitrail.train.environment import conditions, warn_of_change
from vitrail.train.fitting import can_recompute
from vitrail.train.guard import Guard
from vitrail.train.notes import Notes
from vitrail.train.optim import make_optimizer
from vitrail.train.parallel import put, recompute_blocks, replicate, shard, whole
from vitrail.train.scaler import Scaler
from vitrail.train.setup import Setup
from vitrail.train.step import Statistics, backward, clip_gradients, update
from vitrail.train.team import Team

Files = dict[str, dict[str, Tensor]]


@dataclass(frozen=True)
class State:
    """Everything that the next step depends on, beside its number."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema
    scaler: Scaler
    guard: Guard
    statistics: Statistics

    def take(
        self, objective: Classify, batch: Batch, step: int, config: RunConfig, team: Team
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Take one step, which changes nothing if the guard refuses it; the device is not awaited.

        Returns:
            mean loss and length of the gradient over the batch of all ranks, and further figures.
        """
        self.statistics.keep()
        loss, parts = backward(objective, batch, step, config, team, self.scaler)
        norm = clip_gradients(self.model, config.train.clip_norm, self.scaler)
        refused = self.guard.watch(step, loss, norm)
        update(self.optimizer, refused)
        self.statistics.undo(refused)
        self.scaler.update(self.guard.overflow, refused)
        self.ema.update(step, refused)
        return loss, norm, parts

    def pack(self, team: Team) -> Files:
        """Give the whole tensors that this rank has to write, by file and name.

        Tensors that lie in parts on the ranks are gathered one after the other, and each is kept by
        one rank, in turn; all others are rank 0's. All ranks must call it together.
        """
        files: Files = {"model": {}, "optimizer": {}, "guard": {}} if team.leads else {}
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
        for name, target in {**self.guard.tensors(), **self.scaler.tensors()}.items():
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
        self, saver: Saver | None, done: int, notes: Notes, team: Team, score: float | None = None
    ) -> None:
        """Begin to write a checkpoint. All ranks must call it together.

        Weights that are not finite are not kept: the next step sees them, and goes back.
        """
        team.pulse.mark(done, "saving")
        if not all(team.gather(weights_are_finite(self.model))):
            return
        files = self.pack(team)
        if saver is not None:
            saver.save(done, files, notes.of_checkpoint(team.ranks), score)

    def share_buffers(self, team: Team) -> None:
        """Give all ranks the running statistics of rank 0, so that figures and files agree."""
        if team.ranks > 1:
            for buffer in (*self.model.buffers(), *self.ema.model.buffers()):
                dist.broadcast(buffer, 0)

    def size(self) -> int:
        """Give the bytes of a whole checkpoint, with two numbers of AdamW for each that learns."""
        copies = 2 if self.ema.decay else 1
        return sum(
            4 * each.numel() * (copies + 2 * each.requires_grad) for each in self.model.parameters()
        )

    def whole_model(self, team: Team) -> Backbone:
        """Give the averaged model on rank 0, whole; all ranks must ask for it."""
        average = self.ema.model
        assert isinstance(average, Backbone)  # a copy of the model
        tensors = {name: whole(value) for name, value in average.state_dict().items()}
        if not any(isinstance(each, DTensor) for each in average.parameters()):
            return average
        plain = add_same_lora(build_model(average.config), average)
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
        yield from (("guard", *item) for item in self.guard.tensors().items())
        yield from (("guard", *item) for item in self.scaler.tensors().items())


def make_state(setup: Setup, team: Team) -> State:
    """Give a run its optimiser and its average, and spread them over the ranks."""
    config, model = setup.config, setup.model
    ema = Ema(model, config.train.ema)
    if config.recompute:
        if not can_recompute(model):
            raise ConfigError(
                f"recompute=True: {model.name} has batch norms, whose statistics would move twice; "
                "use train.accumulate=… to save memory"
            )
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
    scaler = Scaler(config.precision, team.device)
    guard = Guard(config.guard, team.device, scaled=scaler.on, batch_size=config.train.batch_size)
    return State(model, optimizer, ema, scaler, guard, Statistics(model))


def find_checkpoint(run: Run, team: Team, every: int = 1) -> Checkpoint | None:
    """Find the newest whole checkpoint; rank 0 looks at every byte, the others take its word.

    Args:
        every: only steps that are a multiple of it.
    """
    found, damaged = run.newest_checkpoint(every) if team.leads else (None, [])
    for line in damaged:
        warnings.warn(f"checkpoint passed over: {line}", stacklevel=2)
    step = team.share(None if found is None else found.step)
    return found if step is None or team.leads else run.read_checkpoint(step)


def go_back(run: Run, state: State, checkpoint: Checkpoint | None, team: Team) -> int:
    """Put a checkpoint back, and forget what was logged after it; give the steps that are done."""
    done = 0 if checkpoint is None else checkpoint.step
    if team.leads:
        run.forget_after(done)
    if checkpoint is not None:
        state.unpack(checkpoint.tensors)
        warn_of_change(checkpoint.state.get("conditions", {}), conditions(team.ranks))
    return done


def open_saver(run: Run, config: RunConfig, team: Team) -> AbstractContextManager[Saver | None]:
    """Give what saves the state of this rank; None where rank 0 has all of it."""
    attempt = team.share(secrets.token_hex(4))
    shares = team.ranks if config.team.strategy == "fsdp" else 1
    if team.rank >= shares:
        return nullcontext()
    return Saver(
        run.path,
        keep=config.keep_checkpoints,
        keep_best=config.keep_best,
        rank=team.rank,
        ranks=shares,
        attempt=attempt,
        timeout=config.team.timeout,
    )


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
