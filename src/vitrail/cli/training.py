"""`vitrail train`: every setting is a flag, over a recipe or the configuration of another run."""

import json
import os
from pathlib import Path
from typing import TypeVar

from vitrail.cli.consoles import NOTE, OUT
from vitrail.cli.flags import parse
from vitrail.cli.settings import (
    SHORT_FLAGS,
    adapt,
    begin_from_weights,
    lengthen,
    take,
    take_switch,
    value_of,
    vary,
)
from vitrail.data.augmentation.policies import AUGREG
from vitrail.data.sources import BUILTIN
from vitrail.errors import ConfigError, UsageError, printable
from vitrail.train.config import RunConfig
from vitrail.train.fine_tuning import absolute_weights
from vitrail.train.stopping import handling, leave
from vitrail.train.team import ranks_here

C = TypeVar("C", bound=RunConfig)
TRAIN_ONLY = ("--out", "--recipe", "--resume", "--config", "--device", "--augreg")


def train(args: list[str]) -> None:
    """`vitrail train`: a new run, or the rest of one."""
    from vitrail.recipes import RECIPES
    from vitrail.train import loop

    again, args = take_switch(args, "--continue")
    special, rest = take(args, TRAIN_ONLY, "train")
    if "--help" in rest or "-h" in rest:
        _train_help(list(RECIPES))
    if "--resume" in special:
        if rest or again or special.keys() - {"--resume", "--device"}:
            raise UsageError("train --resume RUN: takes only --device; the run knows its settings")
        with handling(leave):
            run = loop.resume(special["--resume"], special.get("--device"))
    else:
        config = compose(special, rest, "train", RunConfig)
        if "--out" not in special:
            raise UsageError(
                "train: --out is missing; name a new folder for the run, such as runs/mine"
            )
        # torchrun gives the same command again when it starts the ranks anew
        again = again or os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
        with handling(leave):
            run = loop.train(config, special["--out"], again=again)
    if ranks_here()[0] == 0:
        NOTE.print(printable(f"trained: {run.path}"))
        NOTE.print(printable(f"next: vitrail evaluate {run.path}"))


def compose(special: dict[str, str], rest: list[str], command: str, kind: type[C]) -> C:
    """Put settings together from a command line, over a recipe or the settings of another run.

    Args:
        special: what `take` gave of --recipe, --config, --device and --augreg.
        rest: all other flags.
        kind: RunConfig, or one that has more settings beside.
    Raises:
        ConfigError, UsageError: they contradict each other, or nobody named data.
    """
    from vitrail.recipes import FINE_TUNING, find_recipe

    rest = [lengthen(arg) for arg in rest]
    if "--device" in special:
        rest += ["--device", special["--device"]]
    if "--config" in special:
        if "--recipe" in special:
            raise UsageError(f"{command}: --config and --recipe exclude each other; name one")
        base = _read_config(Path(special["--config"]))
    else:
        usual = "finetune" if value_of(rest, "--weights.source") else None
        base = find_recipe(special.get("--recipe", usual), value_of(rest, "--data.source"))
    base = vary(adapt(base, rest), special.get("--augreg"))
    base = begin_from_weights(base, rest, command, kind)
    config = parse(kind, rest, command, default=kind(**dict(base)))
    source = absolute_weights(config.weights.source)
    config = config.replace(weights=config.weights.replace(source=source))
    _require_data(special, rest, command)
    if special.get("--recipe") in FINE_TUNING and not source:
        raise UsageError(
            f"{command}: --recipe={special['--recipe']} begins from weights; name them by --weights"
        )
    return config


def _read_config(path: Path) -> RunConfig:
    """Read the settings of another run: its config.json, or its folder. Raises ConfigError."""
    if path.is_dir():
        path = path / "config.json"
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"--config {path}: cannot be read ({error})") from None
    return RunConfig.parse(values, str(path))


def _require_data(special: dict[str, str], rest: list[str], command: str) -> None:
    """Refuse to train on what nobody named. Raises UsageError."""
    named = "--config" in special or special.get("--recipe") in BUILTIN  # they say it themselves
    if not named and not value_of(rest, "--data.source"):
        raise UsageError(
            f"{command}: --data is missing; name a folder of images, or {' or '.join(BUILTIN)}"
        )


def _train_help(recipes: list[str]) -> None:
    """Print what tyro does not know, before it prints all settings."""
    OUT.print("usage: vitrail train --data DATA --out RUN [settings]")
    OUT.print("       vitrail train --weights SOURCE --data DATA --out RUN [settings]")
    OUT.print("       vitrail train --resume RUN")
    OUT.print("       torchrun --nproc-per-node GPUS -m vitrail train …   (the same on many)\n")
    OUT.print("  --out RUN         a new folder for the run")
    OUT.print(f"  --recipe NAME     settings to start from: {', '.join(recipes)}")
    OUT.print(
        "  --weights SOURCE  begin from a run, a file or folder of weights, or hf://owner/name"
    )
    OUT.print("  --config FILE     settings to start from: the config.json of another run")
    OUT.print(f"  --augreg LEVEL    augmentation to start from: {', '.join(AUGREG)}")
    OUT.print("  --resume RUN      go on with a run that was stopped")
    OUT.print("  --continue        go on with --out if it is there already, else begin\n")
    OUT.print("short flags: " + ", ".join(SHORT_FLAGS) + "\n")
