"""Frozen, strictly checked settings that go to JSON and come back."""

import json
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from vitrail.errors import ConfigError, did_you_mean

C = TypeVar("C", bound="Config")  # not Self, which the shape checker of the tests cannot read


class Config(BaseModel):
    """Base of every group of settings: immutable, unknown keys refused, finite numbers only."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )

    @classmethod
    def parse(cls: type[C], values: Any, where: str) -> C:
        """Check `values` (what JSON gave) and build the settings.

        Raises:
            ConfigError: a key is unknown or a value is out of range; the line begins with `where`.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(f"{where}: {describe(error, cls)}") from None

    def replace(self: C, **changes: Any) -> C:
        """Copy with some settings changed, and checked again."""
        return type(self)(**(dict(self) | changes))

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON values; `parse` takes them back."""
        values: dict[str, Any] = json.loads(self.model_dump_json())
        return values


def describe(error: ValidationError, cls: type[BaseModel]) -> str:
    """Say in one line what is wrong with the first faulty setting: its name, what came, why not."""
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    name = ".".join(path)
    if first["type"] == "extra_forbidden":
        return f"{name}: unknown setting{did_you_mean(path[-1], _known(cls, path[:-1]))}"
    if first["type"] == "missing":
        return f"{name}: this setting is missing"
    reason = first["msg"].removeprefix("Value error, ")
    if not name:  # a check over several settings names them itself
        return reason
    return f"{name}={first['input']!r}: {reason[:1].lower()}{reason[1:]}"


def _known(cls: type[BaseModel], path: list[str]) -> list[str]:
    """List the settings of the group that `path` leads to."""
    groups = [cls]
    for part in path:
        fields = [group.model_fields[part] for group in groups if part in group.model_fields]
        # not a field: a place in a list, or the kind of one of several groups
        groups = [each for field in fields for each in _groups(field.annotation)] or groups
    return [name for group in groups for name in group.model_fields]


def _groups(annotation: Any) -> list[type[BaseModel]]:
    """Find the groups of settings in a type such as `Optim | None` or `list[Optim]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [each for part in get_args(annotation) for each in _groups(part)]
