"""What a checkpoint format is, and what it gives."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from vitrail.data.preprocess import Preprocess
from vitrail.models import Backbone, BackboneConfig
from vitrail.weights.description import Description
from vitrail.weights.source import Source


@dataclass(frozen=True)
class Foreign:
    """A model as a file has it: its sizes, and its tensors under our names."""

    config: BackboneConfig
    tensors: Mapping[str, Tensor]
    name: str = ""  # one of MODELS, where that is known
    classes: tuple[str, ...] = ()  # empty where the file does not name them
    preprocess: Preprocess | None = None
    dropped: Mapping[str, str] = field(default_factory=dict)  # foreign name: why it is not needed
    notes: tuple[str, ...] = ()  # what the file left open, and what was assumed
    multi_label: bool = False  # whether an image may have several of the classes

    @classmethod
    def of(
        cls,
        about: Description,
        tensors: Mapping[str, Tensor],
        dropped: Mapping[str, str] | None = None,
        notes: tuple[str, ...] = (),
    ) -> "Foreign":
        """Join what a file says of a model with its tensors."""
        return cls(
            about.config,
            tensors,
            about.name,
            about.classes,
            about.preprocess,
            dropped or {},
            notes,
            about.multi_label,
        )


@dataclass(frozen=True)
class Format:
    """A checkpoint format. `write` is None for one that is only read."""

    about: str  # one line for lists
    matches: Callable[[Source], bool]  # by the names of the tensors
    read: Callable[[Source], Foreign]  # raises WeightsError
    # gives what the format cannot say, one line each; raises WeightsError, StorageError
    write: Callable[[Backbone, Path], tuple[str, ...]] | None = None
    # whether tensors without a name of its own may be of it, where the caller says so
    admits: Callable[[Source], bool] = lambda source: False
