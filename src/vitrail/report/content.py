"""What a report is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vitrail.evaluate.summary import Summary

Picture = NDArray[np.uint8]  # [h, w, 3], RGB


@dataclass(frozen=True, kw_only=True)
class Example:
    """One image, what was said of it, and what the model looked at."""

    key: str
    true: str  # class name
    predicted: str  # class name
    probability: float  # of the predicted class, in [0, 1]
    picture: Picture
    overlays: Sequence[tuple[str, Picture]] = ()  # caption, picture
    kind: Literal["right", "wrong"]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One more picture with a text, such as a grid of attention heads."""

    title: str
    text: str
    image: Picture | str  # a str is a whole SVG document; it is shown as an image, so it cannot act


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """Everything that a report shows. Empty parts are left out of it."""

    title: str  # name of the run
    summary: Summary
    history: Sequence[Mapping[str, Any]] = ()  # lines of metrics.jsonl
    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    model_facts: Mapping[str, Any] = field(default_factory=dict)  # name, parameters, FLOPs, ...
    examples: Sequence[Example] = ()
    figures: Sequence[Figure] = ()
    repeat_commands: Sequence[str] = ()
    seconds: float | None = None  # of training
