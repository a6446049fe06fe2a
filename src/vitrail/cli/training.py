"""`vitrail train`: every setting is a flag, over a recipe or the configuration of another run."""

import json
from pathlib import Path

from vitrail.cli.consoles import NOTE, OUT
from vitrail.cli.flags import parse
from vitrail.data.sources import SOURCES
from vitrail.errors import ConfigError, UsageError, printable
from vitrail.train.config import ModelConfig, RunConfig

# What everybody uses has a short name; every other setting has its place in the tree.
SHORT_FLAGS = {
    "--data": "--data.source",
    "--model": "--model.name",
    "--image-size": "--model.image-size",
    "--patch-size": "--model.patch-size",
    "--epochs": "--train.epochs",
    "--batch-size": "--train.batch-size",
    "--lr": "--train.lr",
    "--workers": "--data.workers",
}
TRAIN_ONLY = ("--out", "--recipe", "--resume", "--config", "--device")


def train(args: list[str]) -> None:
    """`vitrail train`: a new run, or the rest of one."""
    from vitrail.recipes import RECIPES, find_recipe
    from vitrail.train import loop

    special, rest = _take(args, TRAIN_ONLY)
    if "--help" in rest or "-h" in rest:
        _train_help(list(RECIPES))
    if "--resume" in special:
        if rest or special.keys() - {"--resume", "--device"}:
            raise UsageError("train --resume RUN: takes only --device; the run knows its settings")
        run = loop.resume(special["--resume"], special.get("--device"))
    else:
        rest = [_lengthen(arg) for arg in rest]
        if "--device" in special:
            rest += ["--device", special["--device"]]
        if "--config" in special:
            if "--recipe" in special:
                raise UsageError("train: --config and --recipe exclude each other; name one")
            base = _read_config(Path(special["--config"]))
        else:
            base = find_recipe(special.get("--recipe"), _value_of(rest, "--data.source"))
        config = parse(RunConfig, rest, "train", default=_adapt(base, rest))
        _require_data(special, rest)
        if "--out" not in special:
            raise UsageError(
                "train: --out is missing; name a new folder for the run, such as runs/mine"
            )
        run = loop.train(config, special["--out"])
    NOTE.print(printable(f"trained: {run.path}"))
    NOTE.print(printable(f"next: vitrail evaluate {run.path}"))


def _read_config(path: Path) -> RunConfig:
    """Read the settings of another run: its config.json, or its folder. Raises ConfigError."""
    if path.is_dir():
        path = path / "config.json"
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"--config {path}: cannot be read ({error})") from None
    return RunConfig.parse(values, str(path))


def _adapt(base: RunConfig, rest: list[str]) -> RunConfig:
    """Let what is asked for by name or length replace all that the base says of it.

    Another model brings its own sizes, not those that the base chose for its model; a shorter
    training gets a warm-up that fits, unless one is asked for too.
    """
    name, epochs = _value_of(rest, "--model.name"), _value_of(rest, "--train.epochs")
    if name and name != base.model.name:
        base = base.replace(model=ModelConfig(name=name))
    try:
        return base.replace(train=base.train.lasting(float(epochs))) if epochs else base
    except ValueError:  # not a number above 0: the parser says so
        return base


def _take(args: list[str], names: tuple[str, ...]) -> tuple[dict[str, str], list[str]]:
    """Take the flags that are not settings out of a command line."""
    taken, rest, waiting = {}, [], list(args)
    while waiting:
        flag, equals, value = waiting.pop(0).partition("=")
        if flag not in names:
            rest.append(flag + equals + value)
            continue
        if not equals:
            if not waiting:
                raise UsageError(f"train: {flag} needs a value")
            value = waiting.pop(0)
        taken[flag] = value
    return taken, rest


def _lengthen(arg: str) -> str:
    flag, equals, value = arg.partition("=")
    return SHORT_FLAGS.get(flag, flag) + equals + value


def _require_data(special: dict[str, str], rest: list[str]) -> None:
    """Refuse to train on what nobody named. Raises UsageError."""
    named = "--config" in special or special.get("--recipe") in SOURCES  # they say it themselves
    if not named and not _value_of(rest, "--data.source"):
        raise UsageError(
            f"train: --data is missing; name a folder of images, or {' or '.join(SOURCES)}"
        )


def _value_of(args: list[str], flag: str) -> str:
    """Find the value of a flag, or give nothing."""
    for i, arg in enumerate(args):
        if arg == flag and i + 1 < len(args):
            return args[i + 1]
        if arg.startswith(f"{flag}="):
            return arg.partition("=")[2]
    return ""


def _train_help(recipes: list[str]) -> None:
    """Print what tyro does not know, before it prints all settings."""
    OUT.print("usage: vitrail train --data DATA --out RUN [settings]")
    OUT.print("       vitrail train --resume RUN\n")
    OUT.print("  --out RUN         a new folder for the run")
    OUT.print(f"  --recipe NAME     settings to start from: {', '.join(recipes)}")
    OUT.print("  --config FILE     settings to start from: the config.json of another run")
    OUT.print("  --resume RUN      go on with a run that was stopped\n")
    OUT.print("short flags: " + ", ".join(SHORT_FLAGS) + "\n")
