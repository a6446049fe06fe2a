"""`vitrail replay`: a step of a training that went wrong, taken again."""

import json as json_module
import math
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from tyro.conf import Positional

from vitrail.cli.consoles import NOTE, OUT
from vitrail.cli.flags import parse
from vitrail.device import Precision
from vitrail.errors import printable

if TYPE_CHECKING:  # what trains is slow to import, and every command comes by here
    from vitrail.train.replay import Replay


def replay(args: list[str]) -> None:
    """`vitrail replay BUNDLE`."""
    parse(_replay, args, "replay")


def _replay(
    bundle: Positional[Path],
    /,
    *,
    device: str = "",
    precision: Precision | None = None,
    json: bool = False,
) -> None:
    """Take a step that went wrong again, and say in which module.

    Args:
        bundle: what the training kept, such as runs/mine/replays/step-00001234.
        device: auto, cpu, cuda or cuda:N; the one of then if it is not given.
        precision: float32, bf16, fp16 or auto; the one of then if it is not given.
        json: print everything as JSON.
    """
    from vitrail.train.replay import advise
    from vitrail.train.replay import replay as take_again

    found = take_again(bundle, device, precision)
    for line in found.differences:
        NOTE.print(printable(f"note: {line}"))
    if json:
        OUT.print_json(json_module.dumps(found.to_json()))
        return
    OUT.print(printable(found.event.line()))
    OUT.print(printable(headline(found)))
    if found.first:
        OUT.print(printable(f"first not finite: {found.first}"))
    OUT.print(table(found))
    OUT.print(printable(f"what to do: {advise(found)}"))


def headline(found: "Replay") -> str:
    """Say whether the same came out again."""
    word = "reproduced" if found.reproduced else "not reproduced"
    bits = ", to the bit" if found.to_the_bit else ""
    norm = "" if found.expected_norm is None else f" ({found.expected_norm:.6g} then)"
    return (
        f"{word}{bits}: loss {found.loss:.6g} ({found.expected_loss:.6g} then), "
        f"gradient {found.norm:.6g}{norm}"
    )


def table(found: "Replay") -> Table:
    """Show blocks and outer parts of the model, and what was first not finite, in their order."""
    shown = Table("module", caption="gradient: of the loss by what the module gives out")
    for column in ("largest activation", "length of gradient"):
        shown.add_column(column, justify="right")
    first = found.first.partition(" (")[0]
    for name, layer in found.layers.items():
        last = name.rpartition(".")[2]
        if last == name or last.isdecimal() or name == first:
            values = (layer.largest, layer.gradient)
            style = None if all(map(math.isfinite, values)) else "bold red"
            shown.add_row(printable(name), *(f"{value:.3g}" for value in values), style=style)
    return shown
