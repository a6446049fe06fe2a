import json

import pytest
from pydantic import ValidationError

from vitrail.data.preprocess import Preprocess
from vitrail.errors import ConfigError


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"size": (0, 8)}, r"size=\(0, 8\) must be at least 1 pixel"),
        ({"mean": (0.5,)}, r"mean=\(0\.5,\) must have channels=3 values"),
        ({"std": (0.5, 0.5)}, r"std=\(0\.5, 0\.5\) must have channels=3 values"),
        ({"channels": 1}, r"mean=.* must have channels=1 values"),
        ({"std": (0.5, 0.0, 0.5)}, r"std=.* must be above 0"),
        ({"resize": "pad", "crop_fraction": 0.9}, r"crop_fraction=0\.9 must be 1"),
        ({"crop_fraction": 0}, "greater than 0"),
        ({"crop_fraction": 1.1}, "less than or equal to 1"),
        ({"channels": 2}, "mean=.* must have channels=2 values"),
        ({"channels": 0}, "greater than or equal to 1"),
        ({"channels": 1025}, "less than or equal to 1024"),
        ({"depth": 12}, "Input should be 8 or 16"),
        ({"resize": "fill"}, "'crop', 'squash' or 'pad'"),
        ({"pad_fill": 256}, "less than or equal to 255"),
        ({"max_pixels": 90_000_000}, "less than or equal to 89478485"),
        ({"version": 2}, "Input should be 1"),
        ({"sice": (1, 1)}, "sice"),
    ],
)
def test_impossible_contracts_are_refused(changes: dict[str, object], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        Preprocess(**{"size": (8, 8)} | changes)


GOLDEN = Preprocess(
    size=(224, 192),
    crop_fraction=0.875,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
OTHER: dict[str, object] = {
    "version": None,  # one version so far
    "size": (192, 224),
    "channels": None,  # needs other statistics as well: below
    "depth": 16,
    "resize": "squash",
    "crop_fraction": 0.9,
    "interpolation": "bilinear",
    "pad_fill": 0,
    "shrink_on_load": False,
    "mean": (0.485, 0.456, 0.407),
    "std": (0.229, 0.224, 0.226),
    "max_pixels": 1000,
}


def test_hash_is_stable() -> None:
    assert GOLDEN.hash == "42326b9bf9ee8a1e"
    assert Preprocess.parse(json.loads(json.dumps(GOLDEN.to_json())), "x").hash == GOLDEN.hash


@pytest.mark.parametrize(
    ("changes", "name"),
    [  # recorded before there was a depth, and when there were only 1 and 3 channels
        ({}, "cb1c7ee471013707"),
        ({"channels": 1, "mean": (0.5,), "std": (0.25,)}, "d8b628e4328fe22e"),
        ({"resize": "pad", "pad_fill": 0}, "9729f1c2ae7d6896"),
        ({"resize": "squash", "interpolation": "nearest"}, "bc0ba8d62c919635"),
        ({"size": (7, 1), "shrink_on_load": False, "max_pixels": 5}, "f93521ad121b91dc"),
        (
            {"crop_fraction": 0.9, "mean": (0.1, 0.2, 0.3), "interpolation": "bilinear"},
            "29e6a650e34100f9",
        ),
    ],
)
def test_hashes_of_older_contracts_stay(changes: dict[str, object], name: str) -> None:
    contract = Preprocess(**{"size": (32, 48)} | changes)
    assert contract.hash == name
    older = contract.to_json()
    del older["depth"]
    assert Preprocess.parse(older, "x") == contract


def test_any_setting_changes_the_hash_and_is_named() -> None:
    assert set(OTHER) == set(Preprocess.model_fields)
    for name, value in OTHER.items():
        if value is None:
            continue
        other = GOLDEN.replace(**{name: value})
        assert other.hash != GOLDEN.hash
        with pytest.raises(ConfigError) as caught:
            GOLDEN.require_equal(other, "runs/a")
        message = f"runs/a: preprocessing differs: {name} is {getattr(GOLDEN, name)} here and"
        assert str(caught.value) == f"{message} {getattr(other, name)} there"
    grey = GOLDEN.replace(channels=1, mean=(0.5,), std=(0.5,))
    assert grey.hash != GOLDEN.hash
    with pytest.raises(ConfigError, match=r"channels is 3 here and 1 there, mean is .*, std is"):
        GOLDEN.require_equal(grey, "x")


def test_equal_contracts_are_accepted() -> None:
    GOLDEN.require_equal(GOLDEN.replace(), "x")
