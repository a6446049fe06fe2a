"""Settings: frozen, checked, and the same after JSON."""

import json
import math
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError, model_validator

from vitrail.config import Config
from vitrail.errors import ConfigError


class Optim(Config):
    lr: Annotated[float, Field(gt=0)] = 1e-3
    warmup_steps: int = 0


class Square(Config):
    kind: Literal["square"] = "square"
    side: int = 1


class Circle(Config):
    kind: Literal["circle"] = "circle"
    radius: int = 1


class Whole(Config):
    name: str
    size: tuple[int, int] = (32, 48)
    optim: Optim = Optim()
    second: Optim | None = None
    several: tuple[Optim, ...] = ()
    shape: Annotated[Square | Circle, Field(discriminator="kind")] = Square()

    @model_validator(mode="after")
    def _check(self) -> "Whole":
        if self.size[0] > self.size[1]:
            raise ValueError(f"size={self.size} must be wide")
        return self


def test_parse_builds_nested_settings() -> None:
    whole = Whole.parse({"name": "a", "optim": {"lr": 0.5}, "size": [8, 16]}, where="config.json")
    assert whole == Whole(name="a", optim=Optim(lr=0.5), size=(8, 16))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "config.json: name: this setting is missing"),
        ({"name": 3}, "config.json: name=3: input should be a valid string"),
        ({"name": "a", "nmae": 3}, "config.json: nmae: unknown setting; did you mean 'name'?"),
        ({"name": "a", "zzz": 3}, "config.json: zzz: unknown setting"),
        (
            {"name": "a", "optim": {"lr": 0}},
            "config.json: optim.lr=0: input should be greater than 0",
        ),
        ({"name": "a", "optim": {"rl": 1}}, "config.json: optim.rl: unknown setting"),
        (
            {"name": "a", "optim": {"warmup": 1}},
            "config.json: optim.warmup: unknown setting; did you mean 'warmup_steps'?",
        ),
        (
            {"name": "a", "second": {"warmup": 1}},
            "config.json: second.warmup: unknown setting; did you mean 'warmup_steps'?",
        ),
        (
            {"name": "a", "several": [{}, {"warmup": 1}]},
            "config.json: several.1.warmup: unknown setting; did you mean 'warmup_steps'?",
        ),
        (
            {"name": "a", "shape": {"kind": "circle", "radios": 1}},
            "config.json: shape.circle.radios: unknown setting; did you mean 'radius'?",
        ),
        ({"name": "a", "size": [9, 8]}, "config.json: size=(9, 8) must be wide"),
        (
            {"name": "a", "size": [8, "x"]},
            "config.json: size.1='x': input should be a valid integer",
        ),
        ([], "config.json: input should be a valid dictionary"),
        (None, "config.json: input should be a valid dictionary"),
    ],
)
def test_faulty_values_give_one_line(values: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Whole.parse(values, where="config.json")
    assert str(caught.value).lower().startswith(message.lower())
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__  # no page of pydantic above it


def test_settings_are_frozen() -> None:
    optim = Optim()
    with pytest.raises(ValidationError, match="frozen"):
        optim.lr = 2.0  # type: ignore[misc]
    assert hash(optim) == hash(Optim(lr=1e-3))


@pytest.mark.parametrize("lr", [math.nan, math.inf])
def test_numbers_are_finite(lr: float) -> None:
    with pytest.raises(ConfigError, match=r"run: lr=.*finite number"):
        Optim.parse({"lr": lr}, where="run")


def test_defaults_are_checked_too() -> None:
    class Wrong(Config):
        share: Annotated[float, Field(le=1)] = 2.0

    with pytest.raises(
        ConfigError, match=r"here: share=2\.0: input should be less than or equal to 1"
    ):
        Wrong.parse({}, where="here")


def test_replace_copies_and_checks() -> None:
    whole = Whole(name="a", optim=Optim(lr=0.5))
    assert whole.replace(size=(1, 2)) == Whole(name="a", optim=Optim(lr=0.5), size=(1, 2))
    assert whole.size == (32, 48)
    with pytest.raises(ValidationError, match="must be wide"):
        whole.replace(size=(2, 1))
    with pytest.raises(ValidationError, match="extra"):
        whole.replace(sise=(1, 2))


@given(
    name=st.text(),
    lr=st.floats(min_value=0, exclude_min=True, allow_nan=False, allow_infinity=False),
    size=st.tuples(st.integers(0, 5), st.integers(5, 9)),
    second=st.none() | st.builds(Optim, warmup_steps=st.integers()),
    shape=st.builds(Square, side=st.integers()) | st.builds(Circle, radius=st.integers()),
)
def test_json_and_back(**values: Any) -> None:
    optim = Optim(lr=values.pop("lr"))
    whole = Whole(optim=optim, several=(optim, optim), **values)
    text = json.dumps(whole.to_json())
    assert Whole.parse(json.loads(text), where="text") == whole
