"""`vitrail data show`: a contact sheet of what the model will really see."""

from pathlib import Path

from vitrail.cli.consoles import NOTE, OUT
from vitrail.cli.flags import parse
from vitrail.cli.settings import adapt, lengthen, take, vary
from vitrail.errors import UsageError, printable
from vitrail.train.config import RunConfig

HELP = """usage: vitrail data show DATA [settings]

  Draws the first training images, plain and as the training varies them.

  --out FILE.png    the picture; sheet.png if it is not given
  --images N        rows, 8
  --epochs N        varied columns, 5
  --recipe NAME     settings to start from; every setting of `vitrail train` can be given too
  --augreg LEVEL    augmentation to start from, as of `vitrail train`
"""


def show(args: list[str]) -> None:
    """Draw the sheet."""
    from vitrail.data.sources import absolute_source, quarantined
    from vitrail.explain.render import save_png
    from vitrail.recipes import find_recipe
    from vitrail.report.sheet import contact_sheet
    from vitrail.train.data import open_training

    if not args or "--help" in args or "-h" in args:
        OUT.print(HELP)
        return
    source, own = args[0], args[1:]
    if source.startswith("-"):
        raise UsageError(f"data show: {source}: name the data first: vitrail data show DATA")
    special, rest = take(
        own, ("--out", "--images", "--epochs", "--recipe", "--augreg"), "data show"
    )
    rest = [*map(lengthen, rest), "--data.source", source]
    path = Path(special.get("--out", "sheet.png"))
    if path.suffix.lower() != ".png":
        raise UsageError(f"data show: --out={path}: the sheet is a picture; its name ends in .png")
    base = find_recipe(special.get("--recipe"), source)
    config = parse(
        RunConfig, rest, "data show", default=vary(adapt(base, rest), special.get("--augreg"))
    )
    place = absolute_source(source)
    config = config.replace(data=config.data.replace(source=place))
    data = open_training(config, quarantined(place, config.data.quarantine))
    picture = contact_sheet(
        config, data, images=_number(special, "--images", 8), epochs=_number(special, "--epochs", 5)
    )
    save_png(path, picture)
    for line in data.notes:
        NOTE.print(printable(f"data: {line}"))
    OUT.print(printable(str(path)))


def _number(special: dict[str, str], flag: str, otherwise: int) -> int:
    """Read a whole number from 1 to 100."""
    text = special.get(flag, str(otherwise))
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise UsageError(f"data show: {flag}={text}: must be a whole number from 1 to 100")
    return int(text)
