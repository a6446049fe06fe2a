"""`vitrail tune`: search for settings, over a base that is made as `vitrail train` makes it."""

from contextlib import redirect_stderr
from pathlib import Path

from vitrail.cli.consoles import NOTE, OUT
from vitrail.cli.settings import SHORT_FLAGS, take
from vitrail.cli.training import compose
from vitrail.cli.trials import watching
from vitrail.errors import UsageError, printable
from vitrail.report.tune_page import TuneContent, Tried, write_tune_page
from vitrail.train.config import RunConfig
from vitrail.train.team import ranks_here
from vitrail.tune.search import Search, begin, reopen
from vitrail.tune.space import Range, SearchConfig

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
    if ranks_here()[1] > 1:
        raise UsageError("tune: searches in one process; run it without torchrun")
    special, rest = take(args, TUNE_ONLY, "tune")
    if "--help" in rest or "-h" in rest:
        _tune_help()
    search = _reopened(special, rest) if "--resume" in special else _begun(special, rest)
    NOTE.print(printable(f"what the trainings say: {search.path / 'log.txt'}"))
    with (
        watching(search) as view,
        open(search.path / "log.txt", "a", encoding="utf-8", errors="backslashreplace") as log,
        redirect_stderr(log),
    ):
        for trial in search.run():
            view.show(trial)
    _conclude(search)


def _begun(special: dict[str, str], rest: list[str]) -> Search:
    """Begin a new search."""
    rest = [_lengthened(arg) for arg in rest]
    both = compose(special, rest, "tune", TuneConfig)
    if "--out" not in special:
        raise UsageError(
            "tune: --out is missing; name a new folder for the search, such as runs/search"
        )
    base = RunConfig(**{name: value for name, value in both if name != "search"})
    return begin(base, both.search, special["--out"])


def _lengthened(arg: str) -> str:
    flag, equals, value = arg.partition("=")
    return SEARCH_FLAGS.get(flag, flag) + equals + value


def _reopened(special: dict[str, str], rest: list[str]) -> Search:
    """Open the search that was stopped. Raises UsageError."""
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
    return reopen(special["--resume"], trials, hours)


def _conclude(search: Search) -> None:
    """Say what was found, and write the page."""
    page, best = search.path / "tune.html", search.best()
    write_tune_page(page, _content(search))
    if best is None:
        NOTE.print("no trial was trained to its end; see the log")
    else:
        settings = "  ".join(f"{name} {value}" for name, value in best.settings.items())
        OUT.print(printable(f"best: trial {best.number:04d}, {best.score:.1%}: {settings}"))
        file = search.path / "best.json"
        NOTE.print(printable(f"next: vitrail train --config {file} --out runs/best"))
    NOTE.print(printable(f"page: {page}"))


def _content(search: Search) -> TuneContent:
    """Give the page what it shows."""
    best = search.best()
    tried = [
        Tried(
            number=trial.number,
            settings=trial.settings,
            steps=max(trial.scores, default=0),
            score=trial.score,
            end=trial.end or "under way",
        )
        for trial in search.journal.trials.values()
    ]
    return TuneContent(
        title=search.path.name,
        data=search.base.data.source,
        names=tuple(search.space),
        logarithmic=tuple(
            name for name, part in search.space.items() if isinstance(part, Range) and part.log
        ),
        steps=search.steps,
        trials=tried,
        best=None if best is None else best.number,
    )


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
