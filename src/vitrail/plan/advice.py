"""What limits a training, and what to change: one line each, with the numbers."""

from collections.abc import Iterator
from typing import Literal

from vitrail.plan.predict import Forecast
from vitrail.train.fitting import gibibytes

Bound = Literal["memory", "data", "compute"]
WAITING = 0.2  # part of a step that may go into waiting for images
GAIN = 0.1  # part of a step that a change must save to be told of


def find_bound(forecast: Forecast) -> Bound:
    """Say whether memory, reading images or computing limits a training."""
    config = forecast.config
    free = forecast.measured.free
    batch, parts = config.train.batch_size, config.train.accumulate
    if free is not None and forecast.needed(batch, parts) > free:
        return "memory"
    step = forecast.step(batch, config.data.workers)
    return "data" if forecast.wait() > WAITING * step else "compute"


def advise(forecast: Forecast) -> tuple[str, ...]:
    """List what to change."""
    bound = find_bound(forecast)
    if bound == "memory":
        return tuple(_less_memory(forecast))
    reading = _faster_reading(forecast) if bound == "data" else iter(())
    return (*reading, *_faster_computing(forecast))


def _less_memory(forecast: Forecast) -> Iterator[str]:
    """Say what would fit."""
    config, room = forecast.config, forecast.room
    batch, parts = config.train.batch_size, config.train.accumulate
    now = gibibytes(forecast.needed(batch, parts))
    fitting = False
    count = fewest_parts(forecast)
    if count is not None:
        fitting = True
        yield (
            f"train.accumulate={count}: the same batch in {count} parts needs about "
            f"{gibibytes(forecast.needed(batch, count))} instead of {now}, and hardly more time"
        )
    if not config.recompute and "recompute" in forecast.measured.each:
        need = forecast.needed(batch, parts, "recompute")
        fitting |= need <= room
        yield (
            f"recompute=True: needs about {gibibytes(need)} instead of {now}, "
            f"{_verdict(need, room)}; a step takes about "
            f"{seconds(forecast.compute(batch, 'recompute'))} instead of "
            f"{seconds(forecast.compute(batch))}"
        )
    if forecast.measured.precision == "float32" and forecast.measured.native_bf16:
        need = forecast.needed(batch, parts, "bf16")
        fitting |= need <= room
        size = gibibytes(need)
        yield f"precision=bf16: needs about {size} instead of {now}, {_verdict(need, room)}"
    largest = forecast.largest_batch(parts)
    if largest:
        yield f"train.batch_size={largest}: the largest that fits; lower train.lr with it"
    elif not fitting:
        yield "model.name: nothing else makes it fit; take a smaller model or smaller images"


def _verdict(need: int, room: float) -> str:
    """Say whether that is enough."""
    return "and fits" if need <= room else "which does not suffice alone"


def fewest_parts(forecast: Forecast) -> int | None:
    """Give the smallest `accumulate` with which the batch fits; None if there is none."""
    batch = forecast.config.train.batch_size
    for parts in range(forecast.config.train.accumulate, batch + 1):
        if batch % parts == 0 and forecast.needed(batch, parts) <= forecast.room:
            return parts
    return None


def _faster_reading(forecast: Forecast) -> Iterator[str]:
    """Say how images come faster."""
    config, measured = forecast.config, forecast.measured
    batch, workers = config.train.batch_size, config.data.workers
    now, cache = forecast.step(batch, workers), measured.cache
    best = forecast.best_workers(batch)
    better = forecast.step(batch, best)
    if best != workers and better < (1 - GAIN) * now:
        yield (
            f"data.workers={best}: a step takes about {seconds(better)} instead of {seconds(now)}"
        )
    elif workers < measured.cores:
        yield f"data.workers: more than {workers} gain little on {measured.cores} cores"
    spare = forecast.room - forecast.needed(batch, config.train.accumulate)
    if cache.kind == "none":
        kind = "ram" if cache.total < spare else "disk"
        yield (
            f"data.cache={kind}: decodes every image once, for {seconds(cache.decoding)}; "
            f"takes {gibibytes(cache.total)}"
        )


def _faster_computing(forecast: Forecast) -> Iterator[str]:
    """Say how steps get shorter, or give more."""
    config, measured = forecast.config, forecast.measured
    batch, parts, workers = config.train.batch_size, config.train.accumulate, config.data.workers
    now = forecast.step(batch, workers)
    if measured.precision == "float32" and measured.native_bf16:
        yield "precision=bf16: this hardware multiplies it natively, and faster"
    if measured.device == "cpu" and measured.threads < measured.cores - workers:
        yield (
            f"OMP_NUM_THREADS={measured.cores - workers}: {measured.threads} of "
            f"{measured.cores} cores compute"
        )
    if config.recompute and forecast.needed(batch, parts, "plain") <= forecast.room:
        size = gibibytes(forecast.needed(batch, parts, "plain"))
        yield (
            f"recompute=False: fits, with about {size}; a step takes about "
            f"{seconds(forecast.compute(batch, 'plain'))} instead of {seconds(now)}"
        )
    largest = forecast.largest_batch(parts)
    more = 2 * batch
    if largest is not None and more <= largest and forecast.overhead > GAIN * now:
        rate, other = batch / now, more / forecast.step(more, workers)
        yield (
            f"train.batch_size={more}: about {other:,.0f} images a second instead of {rate:,.0f}, "
            f"as {seconds(forecast.overhead)} of a step do not depend on it; raise train.lr with it"
        )


def seconds(value: float) -> str:
    """Say how long in words."""
    if value < 0.9995:
        return f"{1000 * value:.3g} ms"
    if value < 120:
        return f"{value:.3g} s"
    if value < 2 * 3600:
        return f"{value / 60:.0f} min"
    return f"{value / 3600:.1f} h"
