"""One step: the gradients of a batch, for any number of parts and ranks, and their length."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from vitrail.data.keyed import uniform
from vitrail.data.loader import Batch
from vitrail.device import autocast
from vitrail.models.draws import part_of_batch
from vitrail.objectives.classify import Classify
from vitrail.train.config import RunConfig
from vitrail.train.parallel import synchronising, whole
from vitrail.train.scaler import Scaler
from vitrail.train.team import Team


def seed_step(seed: int, step: int) -> None:
    """Make what the model draws in this step (drop path) a function of seed and step."""
    torch.manual_seed(int(uniform("step", seed, step, 0, 1)[0, 0] * 2**53))


def backward(
    objective: Classify, batch: Batch, step: int, config: RunConfig, team: Team, scaler: Scaler
) -> tuple[Tensor, dict[str, Tensor]]:
    """Add the gradients of the mean loss over the images of all ranks.

    The batch is augmented and mixed whole, then computed in `train.accumulate` parts, each with its
    share of the mean. Every part is seeded alike and takes its own rows of what is drawn for the
    batch of all ranks, so that neither parts nor ranks change more than rounding.

    Returns:
        the mean loss over the batch of all ranks, and further figures of this rank's last part.
    """
    images, targets = objective.prepare(batch)
    counted = len(images)
    team.pulse.mark(step, "forward")
    if team.ranks > 1:  # some images of a rank may be unreadable; only the device knows how many
        counts = team.sum(torch.full((), float(len(images)), device=team.device))
    size, parts = config.train.batch_size, config.train.accumulate
    first = size // team.ranks * team.rank
    total = torch.zeros((), device=team.device)
    figures: dict[str, Tensor] = {}
    for number, (x, y) in enumerate(_parts(images, targets, parts)):
        used = len(x) if number < counted else 0  # see _parts
        weight = used * team.ranks / counts if team.ranks > 1 else used / counted
        seed_step(config.seed, step)
        last = number == parts - 1
        with part_of_batch(first, size), synchronising(objective.model, last):
            with autocast(team.device, config.precision):
                loss, figures = objective(x, y)
            team.pulse.mark(step, "backward")
            scaler.scaled(loss * weight).backward()  # type: ignore[no-untyped-call]
        total += loss.detach() * weight
        first += len(x)
    return team.sum(total) / team.ranks, figures


def _parts(images: Tensor, targets: Tensor, parts: int) -> list[tuple[Tensor, Tensor]]:
    """Cut a batch in equally many parts on every rank.

    Where unreadable images leave fewer images than parts, those beyond the last image hold the
    first one, which must not count.
    """
    if parts == 1:
        return [(images, targets)]
    pieces = zip(images.tensor_split(parts), targets.tensor_split(parts), strict=True)
    return [(x, y) if len(x) else (images[:1], targets[:1]) for x, y in pieces]


@torch.no_grad()
def clip_gradients(model: nn.Module, limit: float | None, scaler: Scaler) -> Tensor:
    """Shorten the gradient of all parameters together to `limit`; give its length of before."""
    parameters = [each for each in model.parameters() if each.grad is not None]
    scaler.unscale(parameters)
    norm = get_total_norm([each.grad for each in parameters if each.grad is not None])
    if limit is not None:
        clip_grads_with_norm_(parameters, limit, norm)
    return whole(norm)


def update(optimizer: torch.optim.Optimizer, refused: Tensor) -> None:
    """Take the step, unless it is refused: 1.0; gradients are gone afterwards."""
    optimizer.found_inf = refused  # type: ignore[attr-defined]
    optimizer.grad_scale = None  # type: ignore[attr-defined]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


class Statistics:
    """The running statistics of batch norms, which a forward pass changes before one can look."""

    def __init__(self, model: nn.Module) -> None:
        """`model` may have none."""
        norms = [each for each in model.modules() if isinstance(each, _BatchNorm)]
        self._now = [buffer for norm in norms for buffer in norm.buffers()]
        self._before: list[Tensor] = []

    def keep(self) -> None:
        """Remember them as they are."""
        self._before = [each.clone() for each in self._now]

    def undo(self, refused: Tensor) -> None:
        """Put them back if the step is refused: 1.0; nothing is waited for."""
        for now, before in zip(self._now, self._before, strict=True):
            now.copy_(torch.where(refused > 0, before, now))
