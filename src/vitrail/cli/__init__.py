"""The command line: `vitrail COMMAND`."""

import os
import sys
from collections.abc import Callable, Sequence

from rich.console import Console

from vitrail.errors import UsageError, VitrailError, did_you_mean, printable

COMMANDS = {
    "demo": "the whole way on the built-in letters; ends with a report",
    "models": "names, parameters, FLOPs, tokens",
    "check": "look at every image of a data set: broken, repeated, leaked, odd",
    "plan": "what a training will take, what limits it, what to change",
    "train": "train a classifier on a folder of images",
    "tune": "search for learning rate, decay, augmentation by short trainings",
    "replay": "take a step of a training that went wrong again",
    "evaluate": "measure a trained model and write its report",
    "predict": "labels for images",
    "explain": "pictures of what a model looks at",
    "convert": "weights from one ecosystem to another, proved equal",
    "data": "pack a data set into large files; show what the model will see",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; give the exit code: 0 done, 2 wrong input, 128 + n stopped by signal n.

    A bug of ours is not caught: Python prints its traceback and exits with 1.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    from vitrail.train.stopping import Stopped
    from vitrail.tune.stopped import SearchStopped

    try:
        _run(args)
    except VitrailError as error:
        _say(f"error: rank {_rank()}: {error}" if _rank() else f"error: {error}")
        return 2
    except Stopped as stopped:
        if _rank() in ("", "0"):
            more = f"go on with: vitrail train --resume {stopped.run}"
            _say(f"{stopped}; {more if stopped.run else 'give the command again, with --continue'}")
        return stopped.exit_code
    except SearchStopped as stopped:
        _say(f"{stopped}; go on with: vitrail tune --resume {stopped.search}")
        return stopped.exit_code
    except KeyboardInterrupt:
        _say("stopped")
        return 130
    return 0


def _run(args: list[str]) -> None:
    if not args or args[0] in ("-h", "--help"):
        _print_help()
        return
    if args[0] in ("-V", "--version"):
        from vitrail.version import __version__

        Console().print(__version__, highlight=False)
        return
    name, rest = args[0], args[1:]
    if name not in COMMANDS:
        near = did_you_mean(name, COMMANDS)
        raise UsageError(f"{name!r} is not a command{near}; there is {', '.join(COMMANDS)}")
    from vitrail.cli import commands

    command: Callable[[list[str]], None] = getattr(commands, name)
    try:
        command(rest)
    except SystemExit as leaving:  # help was printed
        if leaving.code:
            raise


def _print_help() -> None:
    console = Console()
    console.print("usage: vitrail COMMAND [flags]\n", highlight=False, markup=False)
    for name, what in COMMANDS.items():
        console.print(f"  {name:<10} {what}", highlight=False, markup=False)
    console.print("\n`vitrail COMMAND --help` lists the flags.", highlight=False, markup=False)


def _rank() -> str:
    """Give the number that torchrun gave this process, or nothing."""
    return os.environ.get("RANK", "")


def _say(line: str) -> None:
    """Print one line, whatever a file name in it holds."""
    Console(stderr=True, soft_wrap=True).print(
        printable(line), markup=False, highlight=False, emoji=False
    )
