"""The model that a training begins with, and how a run finds it again when it goes on."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from rich.console import Console

from vitrail.checkpoints import Checkpoint
from vitrail.data.dataset import Data
from vitrail.data.preprocess import Preprocess
from vitrail.errors import ConfigError, RunError, printable
from vitrail.models import ALIASES, Backbone, build_model
from vitrail.models.lora import add_lora
from vitrail.runs import Run
from vitrail.train.config import RunConfig
from vitrail.train.fine_tuning import changed_sizes, contract, read_weights
from vitrail.train.team import ranks_here
from vitrail.weights.adapt import Wanted, adapt
from vitrail.weights.description import describe, parse_description
from vitrail.weights.digest import file_digests
from vitrail.weights.foreign import Foreign
from vitrail.weights.hub import fetch
from vitrail.weights.load import show


def start_model(
    config: RunConfig, data: Data, recorded: Mapping[str, Any] | None = None
) -> Backbone:
    """Build the model on the CPU: from `config.weights`, else with weights that the seed draws.

    What became of each tensor of the file is printed once. With `config.lora` the weights are
    frozen and have low-rank matrices beside them.

    Args:
        recorded: what `describe_start` gave when the run began, where it begins once more.
    Raises:
        ConfigError, ModelError: the settings do not fit each other, the data or the weights.
        WeightsError: the weights cannot be read, or do not fit.
        RunError: they are not those that the run began with.
    """
    if not config.weights.source:
        return _at_random(config, data)
    if recorded is not None:
        _require_same_files(config, recorded)
    model, trained = _from_weights(config, data)
    _add_lora(model, config)
    if ranks_here()[0] == 0:
        _tell(model, trained)
    return model


def describe_start(model: Backbone, config: RunConfig) -> dict[str, Any]:
    """Give what a run must know to go on without its source, as JSON: RUN/start.json.

    The architecture, class names and preprocessing, as in model.json; of weights that came from
    files, their SHA-256 and what became of them.

    Raises:
        WeightsError: the files are no longer there.
    """
    weights: dict[str, Any] | None = None
    if config.weights.source:
        assert model.loaded is not None
        weights = {
            "source": config.weights.source,
            "format": model.loaded.format,
            "sha256": file_digests(fetch(config.weights.source)),
            "report": model.loaded.summary(),
            "notes": list(model.loaded.notes),
        }
    return {"model": describe(model), "weights": weights}


def rebuild(recorded: Mapping[str, Any], config: RunConfig, data: Data) -> Backbone:
    """Build the model that a run began with, for a checkpoint to fill; its weights mean nothing.

    No file of weights is read.

    Raises:
        RunError: start.json is damaged, or the classes of the data have changed.
    """
    model_values = recorded.get("model")
    if not isinstance(model_values, Mapping):
        raise RunError("start.json: has no model; it is damaged")
    about = parse_description(model_values, "start.json")
    if about.classes != data.classes:
        raise RunError("start.json: the classes of the data have changed since the run began")
    model = build_model(about.config)
    model.name, model.classes, model.preprocess = about.name, about.classes, about.preprocess
    model.multi_label = about.multi_label
    _add_lora(model, config)
    return model


def _at_random(config: RunConfig, data: Data) -> Backbone:
    """Build the model with random weights that depend on the seed alone."""
    if config.lora.rank:
        raise ConfigError(
            f"lora.rank={config.lora.rank} needs weights.source: it leaves the weights as they are"
        )
    sizes = config.model.resolve(len(data.classes), config.input.channels)
    torch.manual_seed(config.seed)
    model = build_model(sizes)
    model.name = ALIASES.get(config.model.name, config.model.name)
    model.classes = data.classes
    model.multi_label = data.multi_label
    model.preprocess = config.input.preprocess(model.config.image_size)
    return model


def _from_weights(config: RunConfig, data: Data) -> tuple[Backbone, Preprocess | None]:
    """Load the weights into a model for these images and classes, in training mode.

    Returns:
        the model, and how images became the input that the weights were trained with.
    """
    foreign, found = read_weights(config.weights)
    wanted = Wanted(
        classes=data.classes,
        head=_choose_head(config, data, foreign),
        sizes=changed_sizes(config, foreign),
    )
    model = adapt(foreign, wanted, config.weights.source, found)
    trained = model.preprocess
    assert trained is None or isinstance(trained, Preprocess)
    model.multi_label = data.multi_label
    model.preprocess = contract(config.input, trained, model.config.image_size)
    return model.train(), trained


def _choose_head(config: RunConfig, data: Data, foreign: Foreign) -> Literal["keep", "new"]:
    """Say whether the head of the file is kept: where it knows all classes by name."""
    if config.weights.head != "auto":
        return config.weights.head
    known = set(data.classes) <= set(foreign.classes)
    return "keep" if known and data.multi_label == foreign.multi_label else "new"


def _add_lora(model: Backbone, config: RunConfig) -> None:
    lora = config.lora
    if lora.rank:
        add_lora(model, lora.rank, lora.alpha, lora.targets, seed=config.seed)


def _tell(model: Backbone, trained: Preprocess | None) -> None:
    """Print what became of the weights, and where the images come in another way than before."""
    assert model.loaded is not None
    show(model.loaded)
    if trained is None:
        return
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
    for name in ("mean", "std", "resize", "interpolation"):
        given, before = getattr(model.preprocess, name), getattr(trained, name)
        if given != before:
            console.print(
                printable(f"note: input.{name}={given}, but the weights were trained with {before}")
            )


def _require_same_files(config: RunConfig, recorded: Mapping[str, Any]) -> None:
    """Refuse to begin again from other weights. Raises RunError, WeightsError."""
    source, weights = config.weights.source, recorded.get("weights")
    before = weights.get("sha256") if isinstance(weights, Mapping) else None
    if not isinstance(before, Mapping):
        raise RunError(
            "start.json: does not say the weights that the run began with; it is damaged"
        )
    now = file_digests(fetch(source))
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            raise RunError(
                f"{source}: {name} is not what the run began with (sha256 "
                f"{str(before.get(name))[:12]} then, {str(now.get(name))[:12]} now); "
                f"restore it or train anew"
            )


def start_again(run: Run, config: RunConfig, data: Data, begun: Checkpoint | None) -> Backbone:
    """Build the model that a run began with; with a checkpoint, no source of weights is needed."""
    if not (run.path / "start.json").exists():  # killed before it was written
        return start_model(config, data)
    recorded = run.read_json("start.json")
    if begun is not None:
        return rebuild(recorded, config, data)
    return start_model(config, data, recorded)
