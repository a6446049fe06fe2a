"""Whether a command that is given once more, to a run that is there, asks for that run."""

from collections.abc import Iterator
from typing import Any

from vitrail.errors import RunError
from vitrail.runs import Run
from vitrail.train.config import RunConfig

# What may differ: it decides where and how fast a run is computed, not what is computed.
FREE = ("device", "data.workers", "data.cache", "data.check", "team.", "keep_")


def require_same_settings(run: Run, asked: RunConfig) -> None:
    """Refuse to go on with a run of other settings than those asked for.

    Raises:
        RunError: names the first setting that differs.
    """
    recorded = RunConfig.parse(run.read_json("config.json"), str(run.path / "config.json"))
    before, now = dict(_leaves(recorded.to_json())), dict(_leaves(asked.to_json()))
    for name, value in now.items():
        if (
            before.get(name) == value
            or name.startswith(FREE)
            or _resolved(name, before.get(name), asked)
        ):
            continue
        raise RunError(
            f"{run.path}: a run with {name}={before.get(name)} is there, and {name}={value} is "
            f"asked for; go on with it by --resume {run.path}, or choose another --out"
        )


def _resolved(name: str, before: Any, asked: RunConfig) -> bool:
    """Whether a run writes down something else than what was asked for."""
    if name == "precision":
        return asked.precision == "auto"
    if name.startswith("input."):
        return asked.input.normalise == "data"
    return name.startswith("augment.flip") and before is False  # it would make another class


def _leaves(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(values, dict):
        yield prefix.removesuffix("."), values
        return
    for name, value in values.items():
        yield from _leaves(value, f"{prefix}{name}.")
