"""`vitrail tune`: search for settings, over a base that is made as `vitrail train` makes it."""

from vitrail.cli.consoles import OUT
from vitrail.cli.settings import SHORT_FLAGS, take
from vitrail.cli.training import compose
from vitrail.errors import UsageError
from vitrail.train.config import RunConfig
from vitrail.tune.space import SearchConfig

TUNE_ONLY = ("--out", "--recipe", "--resume", "--config", "--device", "--augreg")
SEARCH_FLAGS = {
    "--trials": "--search.trials",
    "--hours": "--search.hours",
    "--epochs-each": "--search.epochs-each",
}


class TuneConfig(RunConfig):
    """A base, and how to search over it."""

    search: SearchConfig = SearchConfig()


def tune(args: list[str]) -> None:
    """`vitrail tune`: a new search, or the rest of one."""
    from vitrail.cli.trials import run_search
    from vitrail.train.team import ranks_here
    from vitrail.tune.search import begin, reopen

    if ranks_here()[1] > 1:
        raise UsageError("tune: searches in one process; run it without torchrun")
    special, rest = take(args, TUNE_ONLY, "tune")
    if "--help" in rest or "-h" in rest:
        _tune_help()
    if "--resume" in special:
        search = reopen(special["--resume"], *_changes(special, rest))
    else:
        base, how = _composed(special, rest)
        search = begin(base, how, special["--out"])
    run_search(search)


def _composed(special: dict[str, str], rest: list[str]) -> tuple[RunConfig, SearchConfig]:
    """Put base and search together. Raises ConfigError, UsageError."""
    both = compose(special, [_lengthened(arg) for arg in rest], "tune", TuneConfig)
    if "--out" not in special:
        raise UsageError(
            "tune: --out is missing; name a new folder for the search, such as runs/search"
        )
    base = RunConfig(**{name: value for name, value in both if name != "search"})
    return base, both.search


def _lengthened(arg: str) -> str:
    flag, equals, value = arg.partition("=")
    return SEARCH_FLAGS.get(flag, flag) + equals + value


def _changes(special: dict[str, str], rest: list[str]) -> tuple[int | None, float | None]:
    """Give the number of trials and hours that a search goes on with. Raises UsageError."""
    more, others = take(rest, ("--trials", "--hours"), "tune")
    if others or special.keys() - {"--resume"}:
        raise UsageError(
            "tune --resume DIR: takes only --trials and --hours; the search knows its settings"
        )
    try:
        trials = int(more["--trials"]) if "--trials" in more else None
        hours = float(more["--hours"]) if "--hours" in more else None
    except ValueError as error:
        raise UsageError(f"tune --resume: {error}") from None
    return trials, hours


def _tune_help() -> None:
    """Print what tyro does not know, before it prints all settings."""
    OUT.print("usage: vitrail tune --data DATA --out DIR [settings]")
    OUT.print("       vitrail tune --resume DIR [--trials N] [--hours H]\n")
    OUT.print("  --out DIR         a new folder for the search")
    OUT.print("  --trials N        trainings in all; 20")
    OUT.print("  --hours H         no further one begins after so many hours")
    OUT.print("  --epochs-each E   passes of each; as many as the settings say")
    OUT.print("  --resume DIR      go on with a search that was stopped")
    OUT.print("--recipe, --config, --augreg and all settings are those of `vitrail train`;")
    OUT.print("--search.… says what is searched, and in which ranges\n")
    OUT.print("short flags: " + ", ".join((*SEARCH_FLAGS, *SHORT_FLAGS)) + "\n")
