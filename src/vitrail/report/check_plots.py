"""The plots of a check: how many images each class has, and what shapes they have."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import NDArray

from vitrail.report.plots import Draw, Theme

BARS = 80  # classes up to which each has a bar of its own
WIDE = 30.0  # largest in units of the smallest from which on an axis is logarithmic
CELLS = 24  # steps of the grid that sizes are counted on, along an axis
POINT = (5.0, 160.0)  # smallest and largest area of a point, in square points
INK = 4000.0  # area of all points together, where none is cut to these

Counts = NDArray[np.int64]


def balance_plot(counts: Counts) -> Draw:
    """Draw the images of each class, the largest first, as stacked bars of the splits.

    Args:
        counts: splits x classes.
    """
    order = np.argsort(-counts.sum(0), kind="stable")
    ranked = counts[:, order]
    total = ranked.sum(0)

    def draw(axes: Axes, theme: Theme) -> None:
        places = np.arange(1, ranked.shape[1] + 1)
        colours = (theme.first, theme.second, theme.wrong)
        if len(places) <= BARS:
            base = np.zeros_like(total)
            for part, each in enumerate(ranked):
                axes.bar(places, each, 0.8, base, color=colours[part % 3], alpha=0.8)
                base = base + each
        else:
            axes.fill_between(places, total, step="mid", color=theme.first, alpha=0.25)
            axes.step(places, total, where="mid", color=theme.first)
            if total.max() > WIDE * max(1, total.min()):
                axes.set_yscale("log")
                axes.yaxis.set_minor_locator(NullLocator())
        axes.set(xlabel="classes, the largest first", ylabel="images")
        axes.set_xlim(0.4, ranked.shape[1] + 0.6)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.grid(visible=False, axis="x")

    return draw


def size_plot(heights: Counts, widths: Counts) -> Draw:
    """Draw width against height in pixels; the larger a point, the more images are near it."""
    x, y, share = _cells(widths, heights)

    def draw(axes: Axes, theme: Theme) -> None:
        low, high = min(x.min(), y.min()), max(x.max(), y.max())
        axes.plot([low / 2, high * 2], [low / 2, high * 2], color=theme.line, linewidth=1)
        axes.scatter(x, y, s=np.clip(INK * share, *POINT), color=theme.first, alpha=0.5)
        if high > 4 * low:
            axes.set(xscale="log", yscale="log")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_minor_locator(NullLocator())
        margin = 1.12
        axes.set(xlabel="width, pixels", ylabel="height, pixels")
        axes.set(xlim=(low / margin, high * margin), ylim=(low / margin, high * margin))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_aspect("equal")

    return draw


def _cells(
    x: Counts, y: Counts
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Count points on a logarithmic grid: mean x, mean y and share of each filled cell."""
    logs = np.log(np.stack([x, y]).astype(np.float64))
    low, high = logs.min(), logs.max()
    step = max((high - low) / CELLS, 0.02)  # 2 %: the same size in two cameras' rounding
    cell = ((logs - low) / step).astype(np.int64)
    _, inverse = np.unique(cell, axis=1, return_inverse=True)
    inverse = inverse.ravel()
    count = np.bincount(inverse)
    return (
        np.bincount(inverse, x) / count,
        np.bincount(inverse, y) / count,
        count / len(x),
    )


def aspect_plot(heights: Counts, widths: Counts) -> Draw:
    """Draw how many images have which width / height, on a logarithmic axis."""
    aspects = np.log2(widths / heights)
    reach = max(0.5, float(np.abs(aspects).max()) * 1.05)
    counts, edges = np.histogram(aspects, bins=41, range=(-reach, reach))

    def draw(axes: Axes, theme: Theme) -> None:
        axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=theme.first, alpha=0.75)
        axes.axvline(0, color=theme.muted, linewidth=1, linestyle="--")
        if reach < 1:
            axes.set_xticks([-0.415, 0, 0.415], ["3:4", "1:1", "4:3"])
        else:
            step = 1 + int(reach) // 4
            ticks = range(-int(reach) // step * step, int(reach) + 1, step)
            axes.set_xticks(
                ticks, [f"1:{2**-tick}" if tick < 0 else f"{2**tick}:1" for tick in ticks]
            )
            axes.set_xlim(-reach, reach)
        axes.set(xlabel="width : height", ylabel="images", xlim=(-reach, reach))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")

    return draw
