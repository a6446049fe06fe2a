"""Frozen, strictly checked settings that go to JSON and come back."""

import json
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from vitrail.errors import ConfigError, did_you_mean


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
    def parse(cls, values: Any, where: str) -> Self:
        """Check `values` (what JSON gave) and build the settings.

        Raises:
            ConfigError: a key is unknown or a value is out of range; one line that begins with `where`.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(f"{where}: {describe(error, cls)}") from None

    def replace(self, **changes: Any) -> Self:
        """Copy with some settings changed, and checked again."""
        return type(self)(**(dict(self) | changes))

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON values; `parse` takes them back."""
        values: dict[str, Any] = json.loads(self.model_dump_json())
        return values


def describe(error: ValidationError, cls: type[BaseModel]) -> str:
    """Say in one line what is wrong with the first faulty setting: its name, what came, what is allowed."""
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
    for part in path:
        field = cls.model_fields.get(part)
        nested = field.annotation if field else None
        if not (isinstance(nested, type) and issubclass(nested, BaseModel)):
            return []
        cls = nested
    return list(cls.model_fields)
