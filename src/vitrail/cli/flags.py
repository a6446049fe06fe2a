"""Flags from typed signatures, and one clear line for a wrong one."""

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, get_args

import tyro
from pydantic import BaseModel, ValidationError
from tyro import _errors as events  # documented there as the way to take over error messages

from vitrail.config import describe
from vitrail.errors import UsageError, VitrailError, did_you_mean

Result = TypeVar("Result")


def parse(
    target: Callable[..., Result], args: Sequence[str], command: str, default: Any = None
) -> Result:
    """Read flags into the arguments of `target`, a function or settings, and call it.

    Raises:
        UsageError: a flag is unknown, or a value is not allowed.
        SystemExit: help was asked for.
    """
    known = list(known_flags(target))

    def refuse(event: events.ParseErrorEvent) -> None:
        raise UsageError(f"{command}: {_reason(event, known, target)}")

    extra = {} if default is None else {"default": default}
    with events.on_parse_error(refuse):
        result: Result = tyro.cli(target, args=list(args), prog=command, **extra)
    return result


def known_flags(target: Any, prefix: str = "") -> Iterator[str]:
    """List every flag of a function's signature or of nested settings."""
    for name, annotation in _fields(target):
        group = _settings(annotation)
        if group is not None:
            yield from known_flags(group, f"{prefix}{name}.")
        else:
            yield f"--{prefix}{name}".replace("_", "-")


def _fields(target: Any) -> list[tuple[str, Any]]:
    if isinstance(target, type) and issubclass(target, BaseModel):
        return [(name, field.annotation) for name, field in target.model_fields.items()]
    parameters = inspect.signature(target).parameters.values()
    return [(_renamed(each.annotation) or each.name, each.annotation) for each in parameters]


def _renamed(annotation: Any) -> str:
    """Give the name that `tyro.conf.arg` sets, if it sets one."""
    given = (getattr(each, "name", None) for each in getattr(annotation, "__metadata__", ()))
    return next((name for name in given if isinstance(name, str)), "")


def _settings(annotation: Any) -> type[BaseModel] | None:
    for each in (annotation, *get_args(annotation)):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
    return None


def _reason(event: events.ParseErrorEvent, known: list[str], target: Any) -> str:
    """Say in one line what is wrong and what is allowed."""
    if isinstance(event, events.UnrecognizedArgs):
        token = event.tokens[0]
        if not token.startswith("-"):
            return f"{token!r} is one argument too many; see --help"
        flag = token.partition("=")[0]
        near = did_you_mean(flag, known) or "; see --help"
        return f"{flag}: unknown setting{near}"
    if isinstance(event, events.MissingArgs):
        names = [_flag(each.arg) for each in event.missing_arguments]
        return f"{', '.join(names)} is missing; see --help"
    if isinstance(event, events.InvalidChoice):
        allowed = ", ".join(event.choices)
        return f"{_flag(event.argument)}={event.value}: must be one of {allowed}"
    if isinstance(event, events.BadValue):
        return f"{_flag(event.argument)}: a value is missing; see --help"
    if isinstance(event, events.InstantiationFailure):
        return _failure(event, target)
    return "the command line cannot be understood; see --help"


def _failure(event: events.InstantiationFailure, target: Any) -> str:
    """Explain a value that could not be taken: by the settings' own check, or by its type."""
    error: BaseException | None = sys.exc_info()[1]
    while error is not None:
        if isinstance(error, VitrailError):
            return str(error)
        if isinstance(error, ValidationError):
            prefix, group = _place(error.title, target)
            return prefix + describe(error, group)
        error = error.__context__
    reason = event.message.splitlines()[0]
    if reason.startswith("no type matching"):  # a list of types, in words that nobody knows
        reason = "the value is not of the kind that --help shows"
    return f"{_flag(event.argument)}: {reason}" if event.argument else reason


def _place(title: str, target: Any, prefix: str = "--") -> tuple[str, type[BaseModel]]:
    """Find the group of settings that an error is titled with, and its prefix."""
    for name, annotation in _fields(target):
        group = _settings(annotation)
        if group is None:
            continue
        if group.__name__ == title:
            return f"{prefix}{name}.", group
        found = _place(title, group, f"{prefix}{name}.")
        if found[1] is not BaseModel:
            return found
    return "", BaseModel


def _flag(argument: Any) -> str:
    """Name an argument as the user writes it."""
    names = getattr(argument.lowered, "name_or_flags", None)
    return str(names[-1] if names else argument.field.extern_name)
