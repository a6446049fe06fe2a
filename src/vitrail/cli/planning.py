"""`vitrail plan`: the flags of `vitrail train`, and what such a training will take."""

import json as json_module
import math
import shlex

from vitrail.cli.consoles import NOTE, OUT
from vitrail.cli.settings import SHORT_FLAGS, lengthen, take, take_switch
from vitrail.cli.training import TRAIN_ONLY, compose
from vitrail.errors import UsageError, printable
from vitrail.train.config import RunConfig
from vitrail.train.team import ranks_here

OUR_FLAGS = ("--hours",)


def plan(args: list[str]) -> None:
    """`vitrail plan`: predict a training; nothing is written."""
    if ranks_here()[1] > 1:
        raise UsageError("plan: rehearses one process; run it without torchrun")
    json, settings = take_switch(args, "--json")
    special, rest = take(settings, (*TRAIN_ONLY, *OUR_FLAGS), "plan")
    if "--help" in rest or "-h" in rest:
        _plan_help()
    if "--resume" in special:
        raise UsageError("plan --resume: plans a new training; --config RUN takes a run's settings")
    hours = _hours(special.get("--hours"))
    config = compose(special, rest, "plan", RunConfig)
    from vitrail.plan.make import make_plan
    from vitrail.plan.words import describe

    NOTE.print("a few steps are measured ...")
    made = make_plan(config, hours=hours, out=special.get("--out", "."))
    if json:
        OUT.print_json(json_module.dumps(made.to_json()))
        return
    for line in describe(made):
        OUT.print(printable(line))
    command = suggested_command(settings, special, made.suggestion.settings)
    OUT.print(printable(f"{'command':<12}{command}"))


def suggested_command(args: list[str], special: dict[str, str], settings: dict[str, str]) -> str:
    """Give the training that was asked for, with the settings that are suggested."""
    _, words = take(args, OUR_FLAGS, "plan")
    flags = {f"--{name.replace('_', '-')}": value for name, value in settings.items()}
    short = {long: name for name, long in SHORT_FLAGS.items()}
    kept, replaced = [], False
    for word in words:
        if word.startswith("--"):
            replaced = lengthen(word).partition("=")[0].replace("_", "-") in flags
        if not replaced:
            kept.append(word)
    kept += [each for flag, value in flags.items() for each in (short.get(flag, flag), value)]
    if "--out" not in special:
        kept += ["--out", "runs/mine"]
    return f"vitrail train {shlex.join(kept)}"


def _hours(text: str | None) -> float | None:
    """Read --hours. Raises UsageError."""
    if text is None:
        return None
    try:
        hours = float(text)
    except ValueError:
        hours = math.nan
    if not 0 < hours < math.inf:
        raise UsageError(f"plan: --hours={text} must be a number above 0")
    return hours


def _plan_help() -> None:
    """Print what tyro does not know, before it prints all settings."""
    OUT.print("usage: vitrail plan --data DATA [--hours H] [--json] [settings]\n")
    OUT.print("  --hours H         time that there is for the training")
    OUT.print("  --json            print all figures as JSON")
    OUT.print("  --out RUN         where the run will lie: whose disk is asked for its room")
    OUT.print("--recipe, --weights, --config, --augreg and all settings are those of")
    OUT.print("`vitrail train`; nothing is written\n")
    OUT.print("short flags: " + ", ".join(SHORT_FLAGS) + "\n")
