"""The tree of errors, and the hints in their messages."""

import inspect

import pytest

from vitrail import errors
from vitrail.errors import DataError, ImageError, VitrailError, did_you_mean

KINDS = [
    kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)
]
BLOCKS = "'blocks.0' or 'blocks.1' or 'blocks.2'"


def test_everything_that_a_user_can_cause_has_one_base() -> None:
    assert {kind.__name__ for kind in KINDS} == {
        "VitrailError",
        "UsageError",
        "ConfigError",
        "DataError",
        "ImageError",
        "ModelError",
        "WeightsError",
        "RunError",
        "StorageError",
        "DivergedError",
    }
    assert all(issubclass(kind, VitrailError) for kind in KINDS)
    assert issubclass(ImageError, DataError)
    assert not any(issubclass(kind, (ValueError, OSError)) for kind in KINDS)


def test_the_docstring_draws_every_kind() -> None:
    assert errors.__doc__ is not None
    assert [kind.__name__ for kind in KINDS if f" {kind.__name__}" not in errors.__doc__] == []


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("widht", ["width", "depth"], "; did you mean 'width'?"),
        ("dept", ["width", "depth"], "; did you mean 'depth'?"),
        ("w", ["width", "new"], "; did you mean 'width'?"),  # a short beginning, not any letter
        ("rate", ["learning_rate", "rated", "depth"], "; did you mean 'rated' or 'learning_rate'?"),
        ("WIDTH", ["classes", "width"], "; did you mean 'width'?"),
        ("sam", ["SAME", "some"], "; did you mean 'SAME'?"),
        ("block", [f"blocks.{i}" for i in range(9)], f"; did you mean {BLOCKS}?"),
        ("banana", ["width", "depth"], ""),
        ("", ["width", "depth"], ""),
        ("width", [], ""),
    ],
)  # fmt: skip
def test_did_you_mean(name: str, known: list[str], hint: str) -> None:
    assert did_you_mean(name, known) == hint


def test_did_you_mean_reads_any_iterable() -> None:
    assert did_you_mean("aple", iter({"apple": 1})) == "; did you mean 'apple'?"
