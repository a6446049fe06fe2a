"""The training loop, and how a run begins, goes on and ends."""

import os
import time
from pathlib import Path

from vitrail.data.dataset import Data
from vitrail.data.loader import Batch, train_batches
from vitrail.data.sources import absolute_source, quarantined
from vitrail.models import Backbone
from vitrail.models.lora import lora_layers, merge_lora
from vitrail.runs import Run
from vitrail.train.again import require_same_settings
from vitrail.train.config import RunConfig, checked
from vitrail.train.data import describe_data, look_at, open_training, reopen_training
from vitrail.train.display import Display, display
from vitrail.train.environment import environment
from vitrail.train.fine_tuning import absolute_weights
from vitrail.train.optim import lr_at, set_lr
from vitrail.train.setup import Setup, set_up
from vitrail.train.starting import describe_start, rebuild, start_model
from vitrail.train.state import State, make_state, restore
from vitrail.train.step import backward, clip_gradients
from vitrail.train.stopping import Stopped, listening
from vitrail.train.team import Team, joined
from vitrail.train.tensorboard import Mirror
from vitrail.train.validate import progress_line, require_finite, validate
from vitrail.weights.load import save_model
from vitrail.weights.lora import save_adapter


def train(
    config: RunConfig, out: str | Path, *, again: bool = False, until: int | None = None
) -> Run:
    """Train a model and leave a run directory. Under torchrun, all ranks train it together.

    Args:
        again: go on with `out` if a run of these settings is there already.
        until: stop with a checkpoint after so many steps; `resume` goes on.
    Raises:
        VitrailError: settings, data or disk do not allow it; nothing is lost.
        Stopped: a signal came; the run can be resumed.
    """
    with joined(config.device, config.team.timeout) as team:
        config = _absolute(config)
        there = Path(os.path.expanduser(out)) / "config.json"
        if again and team.share(there.exists()):
            require_same_settings(Run.open(out), config)
            return _go_on(Run.open(out), team, until)
        left_out = quarantined(config.data.source, config.data.quarantine)
        data = open_training(config, left_out)
        setup = set_up(config, data, team)
        if team.leads:
            run = Run.create(out)
            run.write_json("config.json", setup.config.to_json())
            run.write_json("environment.json", environment(setup.config.device))
            run.write_json("data.json", describe_data(data, left_out))
            run.write_json("start.json", describe_start(setup.model, setup.config))
            look_at(data, setup)
        team.share(None)  # the others wait until the run is there
        run = Run.open(out)
        run_loop(run, setup, team, until)
        return run


def resume(path: str | Path, device: str | None = None, *, until: int | None = None) -> Run:
    """Go on from the newest whole checkpoint, to the same end as if the run had never stopped.

    A run that is finished is left as it is. Another `device`, or another number of ranks than the
    run began with, gives other rounding, so the end is then only nearly the same.

    Raises:
        RunError: it is no run directory, or its data have changed.
        Stopped: a signal came; the run can be resumed again.
    """
    run = Run.open(path)
    recorded = RunConfig.parse(run.read_json("config.json"), str(run.path / "config.json"))
    with joined(device or recorded.device, recorded.team.timeout) as team:
        return _go_on(run, team, until)


def run_loop(run: Run, setup: Setup, team: Team, until: int | None = None) -> None:
    """Take every step that is not done yet, then write the final weights."""
    config, model = setup.config, setup.model
    last = min(until or setup.steps, setup.steps)
    warmup, cooldown, eval_every, save_every = (
        setup.steps_of(epochs) if epochs else 0
        for epochs in (
            config.train.warmup_epochs,
            config.train.cooldown_epochs,
            config.eval_every_epochs,
            config.save_every_epochs,
        )
    )
    state = make_state(setup, team)
    first, seconds = restore(run, state, team)
    started, unreadable = time.monotonic() - seconds, set[str]()
    with (
        listening() as stop,
        display(setup.steps, first, quiet=not team.leads) as view,
        Mirror(run.path, first, idle=not team.leads) as mirror,
    ):
        if first == 0:
            validate(setup, state.ema.model, team, 0, limit=2)  # what would fail later fails now
        batches = train_batches(
            setup.train_images,
            seed=config.seed,
            batch_size=config.train.batch_size,
            steps=range(first, last),
            workers=config.data.workers,
            sampling=config.data.sampling,
            rank=team.rank,
            ranks=team.ranks,
            tell=view.say,
        )
        for step, batch in zip(range(first, last), batches, strict=True):
            asked = team.ask(lambda: stop.signum or 0)
            _report_unreadable(batch, unreadable, view)
            lr = lr_at(step, setup.steps, warmup, cooldown, config.train)
            set_lr(state.optimizer, lr)
            loss, parts = backward(setup.objective, batch, step, config, team, state.scaler)
            norm = clip_gradients(model, config.train.clip_norm, state.scaler)
            state.optimizer.step()
            state.optimizer.zero_grad(set_to_none=True)
            state.ema.update(step)
            team.pulse.mark(step, "update")

            done = step + 1
            figures: dict[str, float] = {}
            if due(done, config.log_every, setup.steps):
                rate = (done - first) * config.train.batch_size
                figures = {
                    "train_loss": require_finite(loss.item(), done),
                    "lr": lr,
                    "grad_norm": require_finite(norm.item(), done),
                    **{name: value.item() for name, value in parts.items()},
                    "images_per_second": rate / (time.monotonic() - started - seconds),
                }
                view.step(done, figures)
            if due(done, eval_every, setup.steps):
                figures |= validate(setup, state.ema.model, team, done)
                view.say(progress_line(setup, done, figures))
            if figures and team.leads:
                run.log(done, epoch=round(setup.epoch_of(done), 4), **figures)
                mirror.add(done, figures)
            view.advance(done)
            signum = asked.get()
            if due(done, save_every, last) or signum:
                require_finite(loss.item() + norm.item(), done)  # never keep what has diverged
                state.save(run, done, {"seconds": time.monotonic() - started}, team, config)
            if signum and done < setup.steps:
                team.share(None)  # nobody leaves before all is written
                raise Stopped(signum, done, run.path)
            team.pulse.mark(done, "reading images")
    if last == setup.steps:
        _finish(run, setup, state, team, time.monotonic() - started, len(unreadable))


def due(done: int, every: int, steps: int) -> bool:
    """Whether what happens every so many steps, and at the end, happens after `done` steps."""
    return done % every == 0 or done == steps


def _go_on(run: Run, team: Team, until: int | None) -> Run:
    """Take the steps that a run still has to take, on the ranks that are here now."""
    if team.share((run.path / "finished.json").exists()):
        return run
    config = RunConfig.parse(run.read_json("config.json"), str(run.path / "config.json"))
    data = reopen_training(run, config)
    run_loop(run, set_up(config, data, team, start_again(run, config, data)), team, until)
    return run


def start_again(run: Run, config: RunConfig, data: Data) -> Backbone:
    """Build the model that a run began with; a whole checkpoint needs no source."""
    if not (run.path / "start.json").exists():  # killed before it wrote it
        return start_model(config, data)
    recorded = run.read_json("start.json")
    if run.newest_checkpoint()[0] is not None:
        return rebuild(recorded, config, data)
    return start_model(config, data, recorded)


def _finish(
    run: Run, setup: Setup, state: State, team: Team, seconds: float, unreadable: int
) -> None:
    """Write the averaged weights and the figures of the whole run."""
    final = state.whole_model(setup, team)
    if team.leads:
        if lora_layers(final):
            where = run.path / "adapter.safetensors"
            save_adapter(final, where, source=setup.config.weights.source)
        save_model(merge_lora(final), run.path)
        run.write_json(
            "finished.json",
            {
                "steps": setup.steps,
                "seconds": seconds,
                "unreadable": unreadable,  # images that were left out since the run last began
            },
        )
    team.share(None)


def _report_unreadable(batch: Batch, known: set[str], view: Display) -> None:
    """Say once of each image that it cannot be read and is left out."""
    for key, reason in batch.failures:
        if key not in known:
            known.add(key)
            view.say(f"left out: {reason}")


def _absolute(config: RunConfig) -> RunConfig:
    """Name files by their whole path: the run will be used from other folders too."""
    listed = config.data.quarantine
    if listed not in ("auto", "none"):
        listed = os.path.abspath(os.path.expanduser(listed))
    source = absolute_source(config.data.source)
    weights = config.weights.replace(source=absolute_weights(config.weights.source))
    return checked(
        config, data=config.data.replace(source=source, quarantine=listed), weights=weights
    )
