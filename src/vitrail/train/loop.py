"""The training loop, and how a run begins, goes on and ends."""

import itertools
import math
import os
import time
import warnings
from pathlib import Path

import torch
from torch.nn.utils import clip_grad_norm_

from vitrail.data.keyed import uniform
from vitrail.data.loader import Batch, ordered_batches, train_batches
from vitrail.data.sources import absolute_source, quarantined
from vitrail.device import autocast
from vitrail.errors import DivergedError
from vitrail.metrics import mean_average_precision, outcomes, top_k_accuracy
from vitrail.models import Backbone
from vitrail.objectives.classify import (
    collect_logits,
    sigmoid_cross_entropy,
    smooth_targets,
    soft_cross_entropy,
)
from vitrail.runs import Run
from vitrail.train.config import RunConfig, checked
from vitrail.train.data import describe_data, look_at, open_training, reopen_training
from vitrail.train.display import Display, display
from vitrail.train.ema import Ema
from vitrail.train.environment import environment
from vitrail.train.optim import lr_at, make_optimizer, set_lr
from vitrail.train.setup import Setup, set_up
from vitrail.train.state import pack, unpack
from vitrail.train.stopping import Stopped, listening
from vitrail.train.tensorboard import Mirror
from vitrail.weights.load import save_model


def train(config: RunConfig, out: str | Path) -> Run:
    """Train a model and leave a run directory.

    Raises:
        VitrailError: settings, data or disk do not allow it; nothing is lost.
        Stopped: a signal came; the run can be resumed.
    """
    source = absolute_source(config.data.source)  # the run will be used from other folders too
    listed = config.data.quarantine
    if listed not in ("auto", "none"):
        listed = os.path.abspath(os.path.expanduser(listed))
    config = checked(config, data=config.data.replace(source=source, quarantine=listed))
    left_out = quarantined(source, config.data.quarantine)
    data = open_training(config, left_out)
    setup = set_up(config, data)
    run = Run.create(out)
    run.write_json("config.json", setup.config.to_json())
    run.write_json("environment.json", environment(setup.config.device))
    run.write_json("data.json", describe_data(data, left_out))
    look_at(data, setup)
    run_loop(run, setup)
    return run


def resume(path: str | Path, device: str | None = None) -> Run:
    """Go on from the newest whole checkpoint, to the same end as if the run had never stopped.

    A run that is finished is left as it is. Another `device` than the run began on gives other
    rounding, so the end is then only nearly the same.

    Raises:
        RunError: it is no run directory, or its data have changed.
        Stopped: a signal came; the run can be resumed again.
    """
    run = Run.open(path)
    if (run.path / "finished.json").exists():
        return run
    config = RunConfig.parse(run.read_json("config.json"), str(run.path / "config.json"))
    data = reopen_training(run, config)
    run_loop(run, set_up(config if device is None else checked(config, device=device), data))
    return run


def run_loop(run: Run, setup: Setup) -> None:
    """Take every step that is not done yet, then write the final weights."""
    config = setup.config
    device = torch.device(config.device)
    objective, optimizer = setup.objective, make_optimizer(setup.model, config.train)
    ema = Ema(setup.model, config.train.ema)
    warmup, cooldown = (
        setup.steps_of(epochs) if epochs else 0
        for epochs in (config.train.warmup_epochs, config.train.cooldown_epochs)
    )
    eval_every, save_every = map(
        setup.steps_of, (config.eval_every_epochs, config.save_every_epochs)
    )

    first, seconds = _restore(run, setup, optimizer, ema)
    started, unreadable = time.monotonic() - seconds, set[str]()
    with (
        listening() as stop,
        display(setup.steps, first) as view,
        Mirror(run.path, first) as mirror,
    ):
        batches = train_batches(
            setup.train_images,
            seed=config.seed,
            batch_size=config.train.batch_size,
            steps=range(first, setup.steps),
            workers=config.data.workers,
            sampling=config.data.sampling,
            tell=view.say,
        )
        if first == 0:
            validate(setup, ema, 0, limit=2)  # what would fail at the first measurement fails now
        for step, batch in zip(range(first, setup.steps), batches, strict=True):
            _report_unreadable(batch, unreadable, view)
            lr = lr_at(step, setup.steps, warmup, cooldown, config.train)
            set_lr(optimizer, lr)
            _seed_step(config.seed, step)
            with autocast(device, config.precision):
                loss, parts = objective(batch)
            loss.backward()
            norm = clip_grad_norm_(setup.model.parameters(), config.train.clip_norm or math.inf)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            ema.update(step)

            done = step + 1
            figures: dict[str, float] = {}
            if due(done, config.log_every, setup.steps):
                rate = (
                    (done - first)
                    * config.train.batch_size
                    / (time.monotonic() - started - seconds)
                )
                figures = {
                    "train_loss": require_finite(loss.item(), done),
                    "lr": lr,
                    "grad_norm": require_finite(norm.item(), done),
                    **{name: value.item() for name, value in parts.items()},
                    "images_per_second": rate,
                }
                view.step(done, loss=figures["train_loss"], images_per_second=rate)
            if due(done, eval_every, setup.steps):
                figures |= validate(setup, ema, done)
                view.say(_progress_line(setup, done, figures))
            if figures:
                run.log(done, epoch=round(setup.epoch_of(done), 4), **figures)
                mirror.add(done, figures)
            view.advance(done)
            if due(done, save_every, setup.steps) or stop.signum:
                require_finite(loss.item() + norm.item(), done)  # never keep what has diverged
                state = {"seconds": time.monotonic() - started}
                tensors = pack(setup.model, optimizer, ema)
                run.save_checkpoint(done, tensors, state, config.keep_checkpoints)
            if stop.signum and done < setup.steps:
                raise Stopped(stop.signum, done, run.path)
    assert isinstance(ema.model, Backbone)  # a copy of the model
    save_model(ema.model, run.path)
    run.write_json(
        "finished.json",
        {
            "steps": setup.steps,
            "seconds": time.monotonic() - started,
            "unreadable": len(unreadable),  # images that were left out since the run last began
        },
    )


def due(done: int, every: int, steps: int) -> bool:
    """Whether what happens every so many steps, and at the end, happens after `done` steps."""
    return done % every == 0 or done == steps


def require_finite(value: float, step: int) -> float:
    """Give the value back.

    Raises:
        DivergedError: it is infinite or not a number.
    """
    if not math.isfinite(value):
        raise DivergedError(
            f"step {step}: loss or gradient is {value}; "
            f"lower train.lr or lengthen train.warmup_epochs"
        )
    return value


def validate(setup: Setup, ema: Ema, done: int, limit: int | None = None) -> dict[str, float]:
    """Measure the averaged weights after `done` steps on the val split, or its first batches."""
    config = setup.config
    batches = ordered_batches(
        setup.val_images, batch_size=2 * config.train.batch_size, workers=config.data.workers
    )
    outputs = collect_logits(
        ema.model, setup.preprocess, itertools.islice(batches, limit), config.precision
    )
    logits, labels = outputs.logits, outputs.labels
    if setup.data.multi_label:
        loss = sigmoid_cross_entropy(logits, labels.float())
        score = mean_average_precision(logits.numpy(), labels.numpy())
        figures = {} if score is None else {"val_map": score}
    else:
        loss = soft_cross_entropy(logits, smooth_targets(labels, len(setup.data.classes), 0.0))
        figures = {"val_top1": top_k_accuracy(outcomes(logits.numpy(), labels.numpy()), 1)}
    return {
        "val_loss": require_finite(loss.item(), done),
        **figures,
        "val_images": len(labels),
    }


def _restore(
    run: Run, setup: Setup, optimizer: torch.optim.Optimizer, ema: Ema
) -> tuple[int, float]:
    """Load the newest whole checkpoint, if any; give the steps that are done and their seconds."""
    checkpoint, damaged = run.newest_checkpoint()
    for line in damaged:
        warnings.warn(f"checkpoint passed over: {line}", stacklevel=2)
    done = 0 if checkpoint is None else checkpoint.step
    run.forget_after(done)
    if checkpoint is None:
        return 0, 0.0
    unpack(checkpoint.tensors, setup.model, optimizer, ema)
    return done, float(checkpoint.state["seconds"])


def _seed_step(seed: int, step: int) -> None:
    """Make what the model draws in this step (drop path) a function of seed and step."""
    torch.manual_seed(int(uniform("step", seed, step, 0, 1)[0, 0] * 2**53))


def _report_unreadable(batch: Batch, known: set[str], view: Display) -> None:
    """Say once of each image that it cannot be read and is left out."""
    for key, reason in batch.failures:
        if key not in known:
            known.add(key)
            view.say(f"left out: {reason}")


def _progress_line(setup: Setup, done: int, figures: dict[str, float]) -> str:
    epoch = f"epoch {setup.epoch_of(done):.1f}"
    name, figure = ("mAP", "val_map") if setup.data.multi_label else ("top-1", "val_top1")
    score = f"val {name} {figures[figure]:.1%}, " if figure in figures else ""
    return f"{epoch}: {score}val loss {figures['val_loss']:.3f}"
