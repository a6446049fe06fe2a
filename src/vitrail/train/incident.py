"""A step that went wrong is taken once more; what happens next is decided and written down."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from torch import Tensor
from torch.distributed.tensor import DTensor

from vitrail.checkpoints.folders import step_folder
from vitrail.data.loader import Batch
from vitrail.errors import StorageError
from vitrail.runs import Run
from vitrail.train.blame import repeat, weights_are_finite
from vitrail.train.bundle import Place, write_bundle
from vitrail.train.events import Event, Events
from vitrail.train.guard import Trouble
from vitrail.train.parallel import whole
from vitrail.train.scaler import Scaler
from vitrail.train.setup import Setup
from vitrail.train.team import Team

NAMED = 256  # images in the record; a bundle has all


@dataclass(frozen=True)
class Report:
    """What one rank found when it computed its part of the step again."""

    first: str  # what was the first not to be finite
    shared: str  # a gradient that was not, of all ranks together
    loss: float
    norm: float
    weights_finite: bool
    images: list[str]  # keys


def handle(
    run: Run,
    setup: Setup,
    team: Team,
    scaler: Scaler,
    events: Events,
    trouble: Trouble,
    batch: Batch,
    newest: int | None,
) -> Event:
    """Find out what went wrong in a step, and decide how it goes on; all ranks do so together.

    The weights must be those of before the step, as the guard leaves them.

    Args:
        batch: this rank's part of the step's batch.
        newest: step of the newest whole checkpoint, the same on all ranks.
    Returns:
        the event, which is on the disk: restore the checkpoint if it went back, then take the step
        `back_to`.
    Raises:
        DivergedError: it is the last that is borne.
        StorageError: the event cannot be written.
    """
    reports = _investigate(setup, team, scaler, trouble.step, batch)
    guilty = find_guilty(reports)
    broken = not reports[guilty[0]].weights_finite
    event = events.decide(trouble, setup.epoch_of(trouble.step), newest, broken=broken)
    images = [] if broken else [key for rank in guilty for key in reports[rank].images]
    module = reports[guilty[0]].first or reports[guilty[0]].shared
    event = replace(event, module=module, samples=tuple(images[:NAMED]))
    names = events.bundle_names(event, guilty, team.ranks)
    if names:
        own = _place(setup, team, scaler, trouble, reports[team.rank])
        event = _keep(run, setup, team, (event, own), batch, names)
    else:
        event = replace(event, note="not kept: there are enough replays of this run")
    events.record(event, None if newest is None else step_folder(run.path / "checkpoints", newest))
    return event


def find_guilty(reports: Sequence[Report]) -> list[int]:
    """Name the ranks where something was not finite, or else the one with the largest loss.

    Where weights are not finite, one rank that has such weights is enough.
    """
    for rank, report in enumerate(reports):
        if not report.weights_finite:
            return [rank]
    bad = [rank for rank, each in enumerate(reports) if each.first]
    losses = [each.loss if math.isfinite(each.loss) else -math.inf for each in reports]
    return bad or [losses.index(max(losses))]


def _investigate(setup: Setup, team: Team, scaler: Scaler, step: int, batch: Batch) -> list[Report]:
    """Let each rank compute its part of the step again; give what all found."""
    found = repeat(setup.objective, setup.model, batch, step, setup.config, team, scaler)
    keys = setup.train_images.split.keys
    own = Report(
        found.seen.first,
        found.seen.shared,
        found.loss,
        found.norm,
        weights_are_finite(setup.model),
        [keys[i] for i in batch.samples[:NAMED].tolist()],
    )
    return [Report(**values) for values in team.gather(asdict(own))]


def _place(setup: Setup, team: Team, scaler: Scaler, trouble: Trouble, own: Report) -> Place:
    """Say which part of the step this rank computes, and what must come out."""
    scale = scaler.scale.item() if scaler.on else None
    if team.ranks == 1:
        return Place(0, 1, trouble.loss, trouble.norm, scale)
    in_parts = any(isinstance(each, DTensor) for each in setup.model.parameters())
    return Place(team.rank, team.ranks, own.loss, None if in_parts else own.norm, scale)


def _keep(
    run: Run,
    setup: Setup,
    team: Team,
    about: tuple[Event, Place],
    batch: Batch,
    names: dict[int, str],
) -> Event:
    """Write the bundles of these ranks; a disk that refuses is no reason to stop."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in setup.model.state_dict().items():
        tensor = whole(tensor)
        if team.rank in names:
            tensors[name] = tensor.cpu()
    failure = ""
    if team.rank in names:
        folder = run.path / names[team.rank]
        try:
            write_bundle(folder, setup.config, setup.objective, setup.model, tensors, batch, about)
        except StorageError as error:
            failure = f"not kept: {error}"
    failures = team.gather(failure)
    written = tuple(name for rank, name in names.items() if not failures[rank])
    return replace(about[0], bundles=written, note=next(filter(None, failures), ""))
