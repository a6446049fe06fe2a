"""The plots of a search: what each setting did to the score, and how it rose."""

import itertools

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from vitrail.report.pictures import svg_uri
from vitrail.report.plots import Draw, Theme, both
from vitrail.report.text import percent
from vitrail.report.tune_page import TuneContent, words
from vitrail.report.views import Plot

SIZE = (4.2, 2.9)  # inches

Points = list[tuple[float | str, float, bool, bool]]  # value, score, finished, best


def drawings(content: TuneContent) -> list[Plot]:
    """Draw every setting against the score, then the best score by trial; none without scores."""
    scored = [trial for trial in content.trials if trial.score is not None]
    if not scored:
        return []
    plots = []
    for name in content.names:
        points: Points = [
            (
                each.settings[name],
                each.score or 0.0,
                each.end == "finished",
                each.number == content.best,
            )
            for each in scored
        ]
        alt = f"Score by {words(name)}, of {len(points)} trials."
        plots.append(_plot(words(name), alt, setting_plot(points, log=name in content.logarithmic)))
    finished = [(each.number, each.score or 0.0) for each in scored if each.end == "finished"]
    if finished:
        alt = f"Best score by trial, ending at {percent(max(score for _, score in finished))}."
        plots.append(_plot("best so far", alt, progress_plot(finished, len(content.trials))))
    return plots


def _plot(title: str, alt: str, draw: Draw) -> Plot:
    light, dark = both(draw, SIZE)
    return Plot(title[:1].upper() + title[1:], alt, svg_uri(light), svg_uri(dark))


def setting_plot(points: Points, *, log: bool) -> Draw:
    """Draw scores by one setting: full where the trial was trained to its end, else hollow."""

    def draw(axes: Axes, theme: Theme) -> None:
        if log:
            axes.set_xscale("log")
        names = sorted({value for value, *_ in points if isinstance(value, str)})
        for value, score, finished, best in points:
            x = names.index(value) if isinstance(value, str) else value
            colour = theme.second if best else theme.first
            face = colour if finished else "none"
            axes.scatter(x, score, s=60 if best else 26, facecolor=face, edgecolor=colour)
        if names:
            axes.set_xticks(range(len(names)), names)
            axes.set_xlim(-0.5, len(names) - 0.5)
        _scores(axes)

    return draw


def progress_plot(finished: list[tuple[int, float]], trials: int) -> Draw:
    """Draw the best score by the number of the trial."""

    def draw(axes: Axes, theme: Theme) -> None:
        numbers, scores = [number for number, _ in finished], [score for _, score in finished]
        best = list(itertools.accumulate(scores, max))
        axes.step([*numbers, trials - 1], [*best, best[-1]], where="post", color=theme.second)
        axes.scatter(numbers, scores, s=26, color=theme.first)
        axes.set_xlabel("trial")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        _scores(axes)

    return draw


def _scores(axes: Axes) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
