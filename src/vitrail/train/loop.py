"""The training loop, and how a run begins, goes on and ends."""

import os
from contextlib import nullcontext
from pathlib import Path

from vitrail.checkpoints import Checkpoint, require_space
from vitrail.data.sources import absolute_source, quarantined
from vitrail.runs import Run
from vitrail.train.again import require_same_settings
from vitrail.train.config import RunConfig, checked
from vitrail.train.data import describe_data, look_at, open_training, reopen_training
from vitrail.train.display import display
from vitrail.train.ending import finish, finish_saving, recover
from vitrail.train.environment import environment
from vitrail.train.events import Events
from vitrail.train.fine_tuning import absolute_weights
from vitrail.train.fitting import require_fit
from vitrail.train.notes import Notes
from vitrail.train.optim import lr_at, set_lr
from vitrail.train.setup import Setup, set_up
from vitrail.train.starting import describe_start, start_again
from vitrail.train.state import find_checkpoint, go_back, make_state, open_saver
from vitrail.train.stopping import Stopped, listening
from vitrail.train.team import Team, joined
from vitrail.train.tensorboard import Mirror
from vitrail.train.validate import progress_line, score_of, validate


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
        config = absolute(config)
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
        with run.locked() if team.leads else nullcontext():
            run_loop(run, setup, team, None, until)
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


def run_loop(  # noqa: C901 - every branch of a step stands here, in its order
    run: Run, setup: Setup, team: Team, begun: Checkpoint | None, until: int | None = None
) -> None:
    """Take every step that is not done yet, then write the final weights.

    Args:
        begun: the checkpoint to go on from.
        until: stop with a checkpoint after so many steps.
    """
    config, last = setup.config, min(until or setup.steps, setup.steps)
    require_fit(setup, team)
    state, events = make_state(setup, team), Events(run.path, config.guard, leads=team.leads)
    first, notes = go_back(run, state, begun, team), Notes(begun)
    with (
        listening() as stop,
        display(setup.steps, first, quiet=not team.leads) as view,
        open_saver(run, config, team) as saver,
        Mirror(run.path, first, idle=not team.leads) as mirror,
    ):
        if first == 0:  # what would fail later fails now
            if team.leads:
                require_space(run.path, state.size(), config.keep_checkpoints)
            validate(setup, state.ema.model, team, 0, limit=2)
            state.save(saver, 0, notes, team)
        while first < last:
            batches = setup.batches(range(first, last), team, view.say)
            for step, batch in zip(range(first, last), batches, strict=True):
                team.pulse.mark(step, "preparing")
                asked = team.ask(lambda: stop.signum or 0)
                notes.report_unreadable(batch, view)
                lr = lr_at(step, setup.steps, *setup.ramps, config.train) * events.lr_scale(step)
                taken = not events.skips(step)
                if taken:
                    set_lr(state.optimizer, lr)
                    notes.take(*state.take(setup.objective, batch, step, config, team), lr)
                team.pulse.mark(step, "update")

                done = step + 1
                logs = due(done, config.log_every, setup.steps)
                measures = due(done, setup.eval_every, setup.steps)
                saves = due(done, setup.save_every, last)
                signum = asked.get()
                looks = logs or measures or saves or signum or team.device.type == "cpu"
                if looks and (trouble := state.guard.look()):
                    first = recover(run, setup, state, events, team, saver, trouble, view)
                    mirror.rewind(first)
                    break
                figures = notes.figures(config.train.batch_size) if logs and taken else {}
                if measures or saves or signum:
                    state.share_buffers(team)
                if measures:
                    figures |= validate(setup, state.ema.model, team, done)
                    view.say(progress_line(setup, done, figures))
                if figures and team.leads:
                    run.log(done, epoch=round(setup.epoch_of(done), 4), **figures)
                    mirror.add(done, figures)
                view.step(done, figures)
                if saves or signum:
                    state.save(saver, done, notes, team, score_of(figures))
                if signum and done < setup.steps:
                    finish_saving(saver, team)
                    raise Stopped(signum, done, run.path)
                team.pulse.mark(done, "reading images")
            else:
                first = last
        finish_saving(saver, team)
    if last == setup.steps:
        finish(run, setup, state, team, notes)


def due(done: int, every: int, steps: int) -> bool:
    """Whether what happens every so many steps, and at the end, happens after `done` steps."""
    return done % every == 0 or done == steps


def _go_on(run: Run, team: Team, until: int | None) -> Run:
    """Take the steps that a run still has to take, on the ranks that are here now."""
    with run.locked() if team.leads else nullcontext():
        if team.share((run.path / "finished.json").exists()):
            return run
        if team.leads:
            run.clean_up()
        config = RunConfig.parse(run.read_json("config.json"), str(run.path / "config.json"))
        data, begun = reopen_training(run, config), find_checkpoint(run, team)
        run_loop(
            run,
            set_up(config, data, team, start_again(run, config, data, begun)),
            team,
            begun,
            until,
        )
    return run


def absolute(config: RunConfig) -> RunConfig:
    """Name files by their whole path: the run will be used from other folders too."""
    listed = config.data.quarantine
    if listed not in ("auto", "none"):
        listed = os.path.abspath(os.path.expanduser(listed))
    source = absolute_source(config.data.source)
    weights = config.weights.replace(source=absolute_weights(config.weights.source))
    return checked(
        config, data=config.data.replace(source=source, quarantine=listed), weights=weights
    )
