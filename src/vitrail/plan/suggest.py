"""Settings to begin with, from the data, the weights at hand and the time there is."""

from dataclasses import dataclass

from vitrail.data.sources import BUILTIN
from vitrail.plan.advice import GAIN, fewest_parts, seconds
from vitrail.plan.predict import Forecast

FEWEST_IMAGES = 1_000  # up to here low-rank matrices, as in VTAB-1k (arXiv:2206.04673)
FEW_IMAGES = 100_000  # below, starting from weights is the better use of time (arXiv:2106.10270)
MANY_IMAGES = 500_000  # half of ImageNet, for which its recipes are made
SPENT = 0.95  # part of the time that a training may be planned to take
SHORTEST = 0.3  # part of the passes below which a training is better made cheaper than cut


@dataclass(frozen=True)
class Suggestion:
    """A recipe, settings that differ from those asked for, and why."""

    recipe: str
    settings: dict[str, str]
    why: tuple[str, ...]


def suggest(forecast: Forecast, hours: float | None) -> Suggestion:
    """Suggest a recipe and settings that fit memory and time.

    Args:
        hours: time that there is; None for any.
    """
    config, measured = forecast.config, forecast.measured
    recipe, why = _recipe(forecast)
    settings: dict[str, str] = {}
    batch, parts, workers = config.train.batch_size, config.train.accumulate, config.data.workers
    if forecast.needed(batch, parts) > forecast.room:
        count, largest = fewest_parts(forecast), forecast.largest_batch(parts)
        if count is not None:
            settings["train.accumulate"] = str(count)
        elif largest:
            settings["train.batch_size"], batch = str(largest), largest
    best = forecast.best_workers(batch)
    if forecast.step(batch, best) < (1 - GAIN) * forecast.step(batch, workers):
        settings["data.workers"], workers = str(best), best
    if hours is not None:
        steps = measured.train_images / batch
        epoch = steps * forecast.step(batch, workers)
        epoch += measured.validation_seconds * measured.val_images / config.eval_every_epochs
        left = SPENT * 3600 * hours - forecast.start
        changes, lines = _in_time(config.train.epochs, epoch, left, f"{hours:g} h")
        settings |= changes
        why += lines
    return Suggestion(recipe, settings, tuple(why))


def _recipe(forecast: Forecast) -> tuple[str, list[str]]:
    """Choose where to start from."""
    config, images = forecast.config, forecast.measured.train_images
    count = f"{images:,} images"
    if config.weights.source:
        if images <= FEWEST_IMAGES:
            return "finetune_few", [f"recipe finetune_few: {count}, from weights that know more"]
        return "finetune", [f"recipe finetune: {count}, from weights that know more"]
    if config.data.source in BUILTIN:
        return config.data.source, [f"recipe {config.data.source}: made for these images"]
    if images >= MANY_IMAGES:
        return "plain_vit_s16_90", [f"recipe plain_vit_s16_90: {count} teach a ViT from nothing"]
    why = [f"recipe photos: {count}, and no weights"]
    if images < FEW_IMAGES:
        why.append(
            f"{count} are few to learn from nothing; with --weights the same time gives more"
        )
    return "photos", why


def _in_time(
    epochs: float, epoch: float, left: float, budget: str
) -> tuple[dict[str, str], list[str]]:
    """Cut the passes to the time there is; give settings and reasons.

    Args:
        epochs: passes that were asked for.
        epoch: seconds of one.
        left: seconds that there are for all of them.
        budget: how much time was given, in words.
    """
    possible = max(0.0, left) / epoch
    if possible >= epochs:
        spare = f"; it would do for {possible:,.0f}" if possible >= 2 * epochs else ""
        return {}, [f"{epochs:g} passes take {seconds(epochs * epoch)} of {budget}{spare}"]
    lines = [
        f"{epochs:g} passes would take {seconds(epochs * epoch)}; {possible:,.1f} fit in {budget}"
    ]
    if possible < SHORTEST * epochs:
        lines.append(
            "so few passes teach little: half of --image-size in height and width takes about a "
            "quarter of the time, or take a smaller --model"
        )
    return {"train.epochs": str(max(1, int(possible)))}, lines
