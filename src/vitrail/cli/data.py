"""`vitrail data WHAT`: what is done with data sets beside training on them."""

from collections.abc import Callable

from vitrail.cli.consoles import OUT
from vitrail.cli.packing import pack
from vitrail.cli.showing import show
from vitrail.errors import UsageError, did_you_mean

PARTS: dict[str, Callable[[list[str]], None]] = {"pack": pack, "show": show}


def data(args: list[str]) -> None:
    """`vitrail data pack …` and `vitrail data show …`."""
    if not args or args[0] in ("-h", "--help"):
        OUT.print(f"usage: vitrail data {{{','.join(PARTS)}}} [flags]")
        OUT.print("  pack SRC DST   copy a data set into a few large files, proved equal")
        OUT.print("  show DATA      draw what the model will really see")
        OUT.print("`vitrail data WHAT --help` lists the flags.")
        return
    name, rest = args[0], args[1:]
    if name not in PARTS:
        near = did_you_mean(name, PARTS)
        raise UsageError(f"data {name!r}: no such command{near}; there is {', '.join(PARTS)}")
    PARTS[name](rest)
