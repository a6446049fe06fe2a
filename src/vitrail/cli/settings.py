"""Settings on a command line: short names, and what one of them means for the others."""

from vitrail.cli.flags import parse
from vitrail.data.augmentation.policies import AUGREG
from vitrail.errors import UsageError, did_you_mean
from vitrail.train.config import ModelConfig, RunConfig
from vitrail.train.fine_tuning import with_weights

# What everybody uses has a short name; every other setting has its place in the tree.
SHORT_FLAGS = {
    "--data": "--data.source",
    "--weights": "--weights.source",
    "--model": "--model.name",
    "--image-size": "--model.image-size",
    "--patch-size": "--model.patch-size",
    "--epochs": "--train.epochs",
    "--batch-size": "--train.batch-size",
    "--lr": "--train.lr",
    "--workers": "--data.workers",
    "--cache": "--data.cache",
}


def take(args: list[str], names: tuple[str, ...], command: str) -> tuple[dict[str, str], list[str]]:
    """Take the flags that are not settings out of a command line. Raises UsageError."""
    taken, rest, waiting = {}, [], list(args)
    while waiting:
        flag, equals, value = waiting.pop(0).partition("=")
        if flag not in names:
            rest.append(flag + equals + value)
            continue
        if not equals:
            if not waiting:
                raise UsageError(f"{command}: {flag} needs a value")
            value = waiting.pop(0)
        taken[flag] = value
    return taken, rest


def take_switch(args: list[str], flag: str) -> tuple[bool, list[str]]:
    """Take a flag without a value out of a command line; say whether it was there."""
    return flag in args, [arg for arg in args if arg != flag]


def lengthen(arg: str) -> str:
    """Give a short flag its place in the tree."""
    flag, equals, value = arg.partition("=")
    return SHORT_FLAGS.get(flag, flag) + equals + value


def value_of(args: list[str], flag: str) -> str:
    """Find the value of a flag, or give nothing."""
    for i, arg in enumerate(args):
        if arg == flag and i + 1 < len(args):
            return args[i + 1]
        if arg.startswith(f"{flag}="):
            return arg.partition("=")[2]
    return ""


def adapt(base: RunConfig, rest: list[str]) -> RunConfig:
    """Let what is asked for by name or length replace all that the base says of it.

    Another model brings its own sizes, not those that the base chose for its model; a shorter
    training gets a warm-up that fits, unless one is asked for too.
    """
    name, epochs = value_of(rest, "--model.name"), value_of(rest, "--train.epochs")
    if name and name != base.model.name:
        base = base.replace(model=ModelConfig(name=name))
    try:
        return base.replace(train=base.train.lasting(float(epochs))) if epochs else base
    except ValueError:  # not a number above 0: the parser says so
        return base


def begin_from_weights(
    base: RunConfig, rest: list[str], command: str, kind: type[RunConfig]
) -> RunConfig:
    """Let the weights that are asked for say the model and its input, over which flags are given.

    Args:
        kind: RunConfig, or one that has more settings beside, which `rest` may set.
    Raises:
        UsageError: a flag is wrong.
        WeightsError, ConfigError: the weights cannot be read.
    """
    if not value_of(rest, "--weights.source"):
        return base
    asked = parse(kind, rest, command, default=kind(**dict(base)))
    channels = asked.input.channels if value_of(rest, "--input.channels") else None
    return with_weights(
        base.replace(weights=asked.weights), asked.weights.source, channels=channels
    )


def vary(base: RunConfig, level: str | None) -> RunConfig:
    """Take one of AugReg's levels of augmentation, over which single settings may still be given.

    Raises:
        UsageError: there is no such level.
    """
    if level is None:
        return base
    if level not in AUGREG:
        raise UsageError(
            f"--augreg={level}: no such level{did_you_mean(level, AUGREG)}; "
            f"there is {', '.join(AUGREG)}"
        )
    return base.replace(augment=base.augment.replace(**AUGREG[level]))
