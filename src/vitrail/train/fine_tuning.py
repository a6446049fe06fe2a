"""Settings of a training that begins from weights: the file says the model and its input."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitrail.data.preprocess import Preprocess
from vitrail.errors import ConfigError
from vitrail.models import ALIASES
from vitrail.train.config import InputConfig, ModelConfig, RunConfig, checked
from vitrail.train.learning import WeightsConfig
from vitrail.weights.foreign import Foreign
from vitrail.weights.hub import SCHEME, fetch
from vitrail.weights.load import read_any

HOW_TO_TRAIN = ("drop_path", "patch_dropout")  # sizes that no weight depends on
# What else may differ from the file: kernels and tables are resampled, the pooling has no weights.
CHANGEABLE = (*HOW_TO_TRAIN, "image_size", "patch_size", "window_size", "pool")


def with_weights(
    config: RunConfig, source: str | Path, *, channels: int | None = None
) -> RunConfig:
    """Let a file of weights say the model, its sizes and how images become its input.

    All else stays: how to train, on what, and `config.weights` beside its source. Of the model's
    settings that are drop path and patch dropout, and the image size where it is the only size that
    is set: the one to fine-tune at. What comes out may be changed further: the image and patch
    size, the pooling, every part of the input.

    Args:
        source: a run directory, a folder or file of weights in any known format, or
            hf://owner/name. It becomes absolute.
        channels: of the images, where they shall be others than the file's; mean and deviation of
            its channels are then averaged.
    Raises:
        WeightsError, ConfigError: nothing known lies there, or it is damaged.
    """
    weights = config.weights.replace(source=absolute_weights(str(source)))
    foreign, _ = read_weights(weights)
    inputs = _input_of(foreign, config.input, channels)
    augment = config.augment
    if inputs.resize == "pad":
        augment = augment.replace(crop_area=None)
    model = _model_of(foreign, config.model)
    return checked(config, weights=weights, model=model, input=inputs, augment=augment)


def absolute_weights(source: str) -> str:
    """Name weights so that they are found from any working folder; names of the hub stay."""
    if not source or source.startswith(SCHEME):
        return source
    return os.path.abspath(os.path.expanduser(source))


def read_weights(weights: WeightsConfig) -> tuple[Foreign, str]:
    """Read the source, and tell its format. Raises WeightsError, ConfigError."""
    return read_any(
        fetch(weights.source),
        trained_size=weights.trained_size,
        format=weights.format or None,
    )


def changed_sizes(config: RunConfig, foreign: Foreign) -> dict[str, Any]:
    """Give the sizes in which the model shall differ from the file.

    Raises:
        ConfigError: the settings are of another model than the weights.
    """
    where, asked = config.weights.source, dict(config.model)
    name = asked.pop("name")
    if ALIASES.get(name, name) != foreign.name:
        raise ConfigError(
            f"model.name={name!r}: {where} holds {foreign.name or 'a model without a name'}; "
            "leave model.name out, or name other weights"
        )
    sizes: dict[str, Any] = {"in_channels": config.input.channels}
    for key, value in asked.items():
        if value is None:
            continue
        if key in CHANGEABLE:
            sizes[key] = value
        elif value != (found := getattr(foreign.config, key, None)):
            raise ConfigError(
                f"model.{key}={value}: {where} has {key}={found}; only "
                f"{', '.join(CHANGEABLE)} may differ from the weights"
            )
    return sizes


def contract(inputs: InputConfig, given: Preprocess | None, size: tuple[int, int]) -> Preprocess:
    """Give the contract of the settings, with what they do not say taken from the file's."""
    mine = inputs.preprocess(size)
    if given is None:
        return mine
    return mine.replace(
        pad_fill=given.pad_fill, shrink_on_load=given.shrink_on_load, max_pixels=given.max_pixels
    )


def _model_of(foreign: Foreign, base: ModelConfig) -> ModelConfig:
    """Give the sizes of the file as settings, as far as there are settings for them."""
    given = {key for key, value in dict(base).items() if value is not None}
    sizes: dict[str, Any] = {"name": foreign.name}
    for key in ModelConfig.model_fields.keys() - {"name"}:
        value = getattr(foreign.config, key, None)
        if key in HOW_TO_TRAIN:
            value = getattr(base, key) if hasattr(foreign.config, key) else None
        if key == "heads" and not isinstance(value, int):
            value = None  # one number a stage, which has no setting
        sizes[key] = value
    if given - {"name", *HOW_TO_TRAIN} == {"image_size"}:
        sizes["image_size"] = base.image_size
    return ModelConfig.parse(sizes, f"{foreign.name or 'the weights'}")


def _input_of(foreign: Foreign, base: InputConfig, channels: int | None) -> InputConfig:
    """Give the file's contract as settings; what it does not know stays as in `base`."""
    count = channels or foreign.config.in_channels
    given = foreign.preprocess
    if given is None or (count != given.channels and count not in (1, 3)):
        plain = InputConfig()
        return base.replace(channels=count, mean=plain.mean, std=plain.std)
    known = given.interpolation
    return InputConfig(
        channels=count,
        depth=given.depth,
        resize=given.resize,
        interpolation=base.interpolation if known == "nearest" else known,
        crop_fraction=given.crop_fraction,
        mean=_each(given.mean, count),
        std=_each(given.std, count),
    )


def _each(values: Sequence[float], count: int) -> float | tuple[float, ...]:
    """Give one value for so many channels: one for all where they are alike or others."""
    if len(set(values)) == 1:
        return values[0]
    return tuple(values) if len(values) == count else sum(values) / len(values)
