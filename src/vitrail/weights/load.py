"""Loading a model from any known format, and saving it in one."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Column, Table

from vitrail.errors import UsageError, WeightsError, did_you_mean, printable
from vitrail.models import Backbone
from vitrail.models.loaded import LoadReport, Row
from vitrail.weights.adapt import Wanted, adapt
from vitrail.weights.foreign import Foreign
from vitrail.weights.formats import FORMATS, recognise
from vitrail.weights.hub import fetch
from vitrail.weights.lora import is_adapter
from vitrail.weights.native import is_native, read_native, write_native
from vitrail.weights.source import open_source

MOST_ROWS = 40  # of a printed table


def load_model(
    path: str | Path,
    *,
    num_classes: int | None = None,
    image_size: tuple[int, int] | None = None,
    classes: Sequence[str] | None = None,
    head: Literal["keep", "new"] | None = None,
    trained_size: tuple[int, int] | None = None,
    format: str | None = None,
    quiet: bool = False,
    **sizes: Any,
) -> Backbone:
    """Load a model from a run directory or any known format, recognised by its tensors.

    The model is in eval mode and carries its `classes` and `preprocess`; `model.loaded` says what
    became of every tensor, and the same is printed to stderr.

    Args:
        path: a folder, a `.safetensors` or `.npz` file, or `hf://owner/name[@revision]`.
        num_classes: how many logits. The file's head is kept where it has as many, else it is new:
            zeros.
        image_size: (height, width) in pixels that the model shall take; positions are resampled.
        classes: names. Those rows of the file's head are kept, in this order; with `head="new"` a
            new head gets these names.
        head: `"keep"` or `"new"`, to be sure; None: as said above.
        trained_size: (height, width) that the weights were made for, where the file does not say.
        format: whose reader to take, where the names of the tensors leave it open: `"mae"` or
            `"dino"` for a backbone alone, which has timm's names.
        quiet: print nothing.
        sizes: other sizes to change: `in_channels` (the stem is inflated), `patch_size` and
            `window_size` (kernels and tables are resampled), `drop_path`, …
    Raises:
        WeightsError: nothing known lies there, it is damaged, or it does not fit what is wanted.
        ModelError: the wanted sizes are impossible.
        ConfigError: a description beside the weights is wrong.
    """
    where = fetch(path)
    if image_size is not None:
        sizes["image_size"] = image_size
    names = None if classes is None else tuple(classes)
    wanted = Wanted(num_classes=num_classes, classes=names, head=head, sizes=sizes)
    foreign, found = read_any(where, trained_size=trained_size, format=format)
    model = adapt(foreign, wanted, str(path), found)
    if not quiet and model.loaded is not None:
        show(model.loaded)
    return model


def read_any(
    path: Path,
    *,
    trained_size: tuple[int, int] | None = None,
    pickles: bool = False,
    format: str | None = None,
) -> tuple[Foreign, str]:
    """Read weights of any known format, or of the given one; give the name of the format too.

    Raises:
        WeightsError, ConfigError: as `load_model`.
    """
    if format is not None:
        require_format(format)
    if is_native(path) and format not in (None, "vitrail"):
        raise WeightsError(f"{path}: is of format vitrail (model.json); leave format out")
    if format == "vitrail" or is_native(path):
        return read_native(path), "vitrail"
    if path.is_dir() and not any(path.glob("*.safetensors*")) and not any(path.glob("*.bin")):
        return read_native(path), "vitrail"  # says what is missing
    if is_adapter(path):
        raise WeightsError(
            f"{path}: only what LoRA added to other weights; load those, then load_adapter"
        )
    source = open_source(path, pickles=pickles, trained_size=trained_size)
    name, source = recognise(source, format)
    foreign = FORMATS[name].read(source)
    dropped, notes = {**foreign.dropped, **source.dropped}, (*source.notes, *foreign.notes)
    return replace(foreign, dropped=dropped, notes=notes), name


def save_model(
    model: Backbone, path: str | Path, *, format: str = "vitrail", quiet: bool = False
) -> tuple[str, ...]:
    """Write a model with its class names and its preprocessing.

    Args:
        path: a folder; for google a `.npz` file, for timm and torchvision also a `.safetensors`
            file.
        format: `vitrail`, `timm`, `huggingface`, `google` or `torchvision`.
        quiet: print nothing.
    Returns:
        What the format cannot say, one line each; also printed to stderr.
    Raises:
        UsageError: there is no such format, or it is only read.
        WeightsError: the model does not know its classes or preprocessing, or the format has no
            place for this architecture.
        StorageError: it cannot be written.
    """
    writers = {"vitrail": write_native} | {n: f.write for n, f in FORMATS.items() if f.write}
    if format not in writers:
        only_read = " is only read;" if format in FORMATS else " is not a format;"
        raise UsageError(
            f"format={format!r}{only_read} there is {', '.join(writers)}"
            f"{did_you_mean(format, writers)}"
        )
    notes = writers[format](model, Path(path))
    if not quiet:
        for note in notes:
            _console().print(printable(f"{format}: {note}"), markup=False, highlight=False)
    return notes


def show(report: LoadReport) -> None:
    """Print what became of each tensor: one line where all came as they were, else a table."""
    console = _console()
    console.print(printable(report.summary()), markup=False, highlight=False)
    lines = [_line(row) for row in report.rows if row.fate not in ("loaded", "dropped")]
    lines += _dropped_lines(report.of("dropped"))
    if lines:
        table = Table(Column("tensor", overflow="fold"), "fate", "from", "to", "why")
        for line in lines[:MOST_ROWS]:
            table.add_row(*map(printable, line))
        if len(lines) > MOST_ROWS:
            table.add_row(f"… and {len(lines) - MOST_ROWS} more")
        console.print(table, markup=False)
    for note in report.notes:
        console.print(printable(f"note: {note}"), markup=False, highlight=False)


def _line(row: Row) -> list[str]:
    shapes = ["x".join(map(str, shape)) for shape in (row.source or (), row.shape)]
    return [row.name, row.fate, *shapes, row.why]


def _dropped_lines(rows: Sequence[Row]) -> list[list[str]]:
    """Give one line a reason: an optimiser alone has hundreds of tensors."""
    reasons: dict[str, list[Row]] = {}
    for row in rows:
        reasons.setdefault(row.why, []).append(row)
    lines = []
    for same in reasons.values():
        name, fate, _, shape, why = _line(same[0])
        more = f" and {len(same) - 1} more" if len(same) > 1 else ""
        lines.append([name + more, fate, shape, "", why])
    return lines


def _console() -> Console:
    return Console(stderr=True, soft_wrap=True)


def require_format(name: str) -> None:
    """Refuse what is no format. Raises WeightsError."""
    if name != "vitrail" and name not in FORMATS:
        raise WeightsError(f"{name!r} is not a format; there is vitrail, {', '.join(FORMATS)}")
