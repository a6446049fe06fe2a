"""The report's plots, as SVG for a light and for a dark page. They hold no name of the user's."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter

from vitrail.metrics import Bin, Floats

POINTS = 400  # of a curve; longer ones are averaged in steps
BLOCKS = 100  # rows and columns of the confusion picture of many classes


@dataclass(frozen=True)
class Theme:
    """Colours of the page that a plot lies on."""

    ink: str
    muted: str
    line: str
    first: str
    second: str
    wrong: str


LIGHT = Theme("#1f2026", "#5f616c", "#dcdad3", "#2746a6", "#b8730a", "#b3243c")
DARK = Theme("#ecebe6", "#a6a8b3", "#3a3d48", "#93aaff", "#f0b35b", "#ff8a94")

Draw = Callable[[Axes, Theme], None]
Cell = tuple[int, int, int]  # true class, predicted class, images
Points = tuple[list[float], list[float]]  # x, y


def both(draw: Draw, size: tuple[float, float]) -> tuple[str, str]:
    """Draw a plot of (width, height) inches for a light and for a dark page."""
    return render(draw, LIGHT, size), render(draw, DARK, size)


def render(draw: Draw, theme: Theme, size: tuple[float, float]) -> str:
    """Draw a plot as SVG without a background. The same plot gives the same bytes."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's matplotlibrc must not change a report
        for name, value in _settings(theme).items():
            matplotlib.rcParams[name] = value
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes, theme)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return file.getvalue()


def _settings(theme: Theme) -> dict[Any, Any]:
    """Give the plot the colours of the page and thin lines."""
    muted = ("axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor")
    line = ("axes.edgecolor", "grid.color", "xtick.color", "ytick.color")
    return {
        **dict.fromkeys(muted, theme.muted),
        **dict.fromkeys(line, theme.line),
        "text.color": theme.ink,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.linewidth": 0.6,
        "font.size": 9,
        "legend.frameon": False,
        "lines.linewidth": 1.7,
        "svg.fonttype": "path",
        "svg.hashsalt": "vitrail",
    }


def curve(history: Sequence[Mapping[str, Any]], name: str) -> Points:
    """Take one figure from the history by step: the last of each step, finite ones only."""
    by_step = {
        line["step"]: line[name]
        for line in history
        if _finite(line, "step") and _finite(line, name)
    }
    steps = sorted(by_step)
    if len(steps) <= POINTS:
        return [float(step) for step in steps], [float(by_step[step]) for step in steps]
    parts = np.array_split(np.array([(step, by_step[step]) for step in steps], float), POINTS)
    means = np.array([part.mean(axis=0) for part in parts])
    return means[:, 0].tolist(), means[:, 1].tolist()


def _finite(line: Mapping[str, Any], name: str) -> bool:
    value = line.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)


def loss_plot(train: Points, val: Points) -> Draw:
    """Draw the loss of training and validation by step, on a log axis where it spans decades."""

    def draw(axes: Axes, theme: Theme) -> None:
        if train[0]:
            axes.plot(*train, color=theme.first, linewidth=0.8, alpha=0.35)
            axes.plot(train[0], _smooth(train[1]), color=theme.first, label="training")
        if val[0]:
            axes.plot(*val, color=theme.second, label="validation", marker="o", markersize=3)
        low, high = min(train[1] + val[1]), max(train[1] + val[1])
        if 0 < 20 * low < high:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(lambda loss, _: f"{loss:g}")
            axes.yaxis.set_minor_locator(NullLocator())
        _steps(axes)
        axes.legend(loc="upper right")

    return draw


def _smooth(values: list[float]) -> list[float]:
    """Average each value with its neighbours, a fortieth of the curve to each side."""
    reach = len(values) // 40
    window = np.ones(2 * reach + 1)
    count = np.convolve(np.ones(len(values)), window, "same")  # fewer at the ends
    smooth: list[float] = (np.convolve(values, window, "same") / count).tolist()
    return smooth


def accuracy_plot(val: Points) -> Draw:
    """Draw validation accuracy by step."""

    def draw(axes: Axes, theme: Theme) -> None:
        axes.plot(*val, color=theme.second, marker="o", markersize=3)
        axes.set_ylim(min(0.9 * min(val[1]), 0.9), 1)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        _steps(axes)

    return draw


def rate_plot(rate: Points) -> Draw:
    """Draw the learning rate by step."""

    def draw(axes: Axes, theme: Theme) -> None:
        axes.plot(*rate, color=theme.first)
        axes.set_ylim(0, 1.06 * max(rate[1]) or 1)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=False)
        _steps(axes)

    return draw


def _steps(axes: Axes) -> None:
    axes.set_xlabel("step")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(
        lambda step, _: f"{step / 1000:g}k" if step >= 10000 else f"{step:g}"
    )


def reliability_plot(bins: Sequence[Bin]) -> Draw:
    """Draw accuracy against confidence, the gap between both, and how many images each bin has."""
    filled = [
        (each, each.confidence, each.accuracy)
        for each in bins
        if each.confidence is not None and each.accuracy is not None
    ]

    def draw(axes: Axes, theme: Theme) -> None:
        axes.plot([0, 1], [0, 1], color=theme.muted, linewidth=1, linestyle="--", zorder=3)
        most = max(each.count for each, _, _ in filled)
        for each, confidence, accuracy in filled:
            width, left = each.high - each.low, each.low
            axes.bar(left, accuracy, 0.92 * width, align="edge", color=theme.first, alpha=0.75)
            gap = [confidence, accuracy]
            axes.plot([confidence, confidence], gap, color=theme.wrong, linewidth=2)
            height = 0.12 * each.count / most  # a small histogram under the axis
            axes.bar(left, -height, 0.92 * width, align="edge", color=theme.muted, alpha=0.6)
        axes.axhline(0, color=theme.line, linewidth=1)
        axes.set(xlim=(0, 1), ylim=(-0.14, 1.02), xlabel="confidence", ylabel="accuracy")
        axes.set_yticks(np.linspace(0, 1, 6))
        axes.set_aspect("equal")

    return draw


def matrix_plot(cells: Sequence[Cell], classes: int) -> Draw:
    """Draw the confusion of many classes: neighbours are summed into at most BLOCKS blocks."""
    shares = _blocks(cells, classes)

    def draw(axes: Axes, theme: Theme) -> None:
        inside = np.eye(len(shares), dtype=bool)
        colours = np.where(inside[..., None], _rgb(theme.first), _rgb(theme.wrong))
        strength = np.where(inside, shares, np.sqrt(shares))  # so that rare mistakes are seen
        image = np.concatenate([colours, strength[..., None]], axis=2)
        axes.imshow(image, extent=(0, classes, classes, 0), interpolation="none")
        axes.grid(visible=False)
        axes.set(xlabel="predicted class", ylabel="true class")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))

    return draw


def _blocks(cells: Sequence[Cell], classes: int) -> Floats:
    """Sum neighbouring classes and give each row as shares of its images."""
    size = min(classes, BLOCKS)
    sums = np.zeros((size, size))
    for true, predicted, count in cells:
        sums[true * size // classes, predicted * size // classes] += count
    shares: Floats = sums / np.maximum(sums.sum(axis=1, keepdims=True), 1)
    return shares


def _rgb(colour: str) -> Floats:
    return np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
