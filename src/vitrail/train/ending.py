"""What happens after a step went wrong, and at the end of a training."""

from vitrail.checkpoints import Saver
from vitrail.models.lora import lora_layers, merge_lora
from vitrail.runs import Run
from vitrail.train.display import Display
from vitrail.train.events import Events
from vitrail.train.guard import Trouble
from vitrail.train.incident import handle
from vitrail.train.notes import Notes
from vitrail.train.setup import Setup
from vitrail.train.state import State, find_checkpoint, go_back
from vitrail.train.team import Team
from vitrail.weights.load import save_model
from vitrail.weights.lora import save_adapter


def recover(
    run: Run,
    setup: Setup,
    state: State,
    events: Events,
    team: Team,
    saver: Saver | None,
    trouble: Trouble,
    view: Display,
) -> int:
    """Find out why a step went wrong, write it down, and give the step that is taken next.

    Raises:
        DivergedError: it is the last that is borne.
    """
    finish_saving(saver, team)
    # one that a signal wrote is passed over: a run that was never stopped does not have it
    checkpoint = find_checkpoint(run, team, setup.save_every)
    newest = None if checkpoint is None else checkpoint.step
    step = trouble.step
    batch = next(iter(setup.batches(range(step, step + 1), team, view.say)))
    event = handle(run, setup, team, state.scaler, events, trouble, batch, newest)
    view.say(event.line())
    if event.action == "went back":
        return go_back(run, state, checkpoint, team)
    return step  # which is left out now


def finish_saving(saver: Saver | None, team: Team) -> None:
    """Wait until the last checkpoint is on the disk, on all ranks."""
    if saver is not None:
        saver.wait()
    team.share(None)  # nobody leaves before all is written


def finish(run: Run, setup: Setup, state: State, team: Team, notes: Notes) -> None:
    """Write the averaged weights and the figures of the whole run."""
    final = state.whole_model(team)
    if team.leads:
        if lora_layers(final):
            where = run.path / "adapter.safetensors"
            save_adapter(final, where, source=setup.config.weights.source)
        save_model(merge_lora(final), run.path)
        about = {"steps": setup.steps, "ranks": team.ranks, **notes.of_run(team.device)}
        run.write_json("finished.json", about)
    team.share(None)
