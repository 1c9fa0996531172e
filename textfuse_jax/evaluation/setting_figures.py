"""Settings of a study side by side, over seeds: as rows of dots or as lines, in one panel or one for each data set.

Colours, markers and line styles are those of ``figures.SERIES``; a series looks the same in every panel.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from textfuse_jax.evaluation.figures import BLUE, GREY, SERIES, VERMILION, draw_bins, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from textfuse_jax.evaluation.calibration import ReliabilityBins

COLUMNS = 3
Points = Sequence[tuple[float, Sequence[float]]]
"""x and the values of all seeds there."""


class Dots(NamedTuple):
    """A row of dots.

    Attributes:
      name: told beside it.
      values: one a seed.
      interval: 95 %, of their mean; None: not known.
      published: whether it is somebody else's number, drawn as a cross.
      beside: the row that it is compared with; "": none.
    """

    name: str
    values: Sequence[float]
    interval: Sequence[float] | None = None
    published: bool = False
    beside: str = ""


def setting_dots(panels: Mapping[str, Sequence[Dots]], label: str) -> Figure:
    """A row a setting, in the order of their first panels, what is published below: a dot a seed, their mean, its interval. A
    line goes from the mean of a row that others are compared with through all of these. A setting that a panel lacks is told to
    be not measured.

    Args:
      panels: title -> its rows; "" where there is one panel. They share the rows' names.
      label: of the x axis, with its unit.
    """
    every = sorted((row for rows in panels.values() for row in rows), key=lambda row: row.published)
    names = list(dict.fromkeys(row.name for row in every))
    ours = {row.name for row in every if not row.published}
    columns = min(COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    figure = new_figure(8 if columns == 1 else 2.4 + 3.1 * columns, lines * (1.6 + 0.34 * len(names)))
    axes = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel()
    for ax, (title, rows) in zip(axes, panels.items()):
        tidy(ax)
        ax.set_title(title, fontsize=10)
        ax.tick_params(labelsize=8)
        ax.locator_params(axis="x", nbins=5)
        for row in rows:
            _draw_dots(ax, names.index(row.name), row, [names.index(other.name) for other in rows if other.beside == row.name])
        for name in ours - {row.name for row in rows}:
            told = dict(color=GREY, fontsize=8, ha="center", va="center")
            ax.text(0.5, names.index(name), "not measured", transform=ax.get_yaxis_transform(), **told)
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    axes[0].set_yticks(range(len(names)), [textwrap.shorten(name, 60, placeholder=" ...") for name in names])
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    crosses = ", published (cross)" if any(row.published for row in every) else ""
    told = f"{label}: seeds (dots), mean and 95 % interval (diamond, bar){crosses}"
    if any(row.beside for row in every):
        told += "\ngrey, dashed: what others are compared with"
    figure.supxlabel(told, fontsize=10)
    return figure


def _draw_dots(ax: Axes, place: int, row: Dots, compared: Sequence[int]) -> None:
    """A row at its place, with a line to the places of those that are compared with it."""
    mean = float(np.mean(row.values))
    if row.published:
        ax.plot([mean], [place], "x", color=VERMILION, markersize=7, markeredgewidth=1.8)
        return
    colour = GREY if compared else BLUE
    ax.plot(row.values, np.full(len(row.values), place) + 0.18, "o", color=colour, markersize=4, alpha=0.55, markeredgewidth=0)
    reach = row.interval and [[max(mean - row.interval[0], 0)], [max(row.interval[1] - mean, 0)]]
    ax.errorbar(mean, place - 0.12, xerr=reach, fmt="D", color=colour, markersize=5, capsize=3, linewidth=1.4)
    if compared:
        ends = [min(place, *compared) - 0.5, max(place, *compared) + 0.5]
        ax.plot([mean, mean], ends, color=GREY, linestyle="--", linewidth=1)


def setting_lines(
    panels: Mapping[str, Mapping[str, Points]],
    xlabel: str,
    ylabel: str,
    *,
    log: str | Mapping[str, str] = "",
    ticks: Mapping[float, str] | None = None,
    share: bool = True,
    published: Mapping[float, float] | None = None,
    floor: float | None = None,
) -> Figure:
    """A line a series through the means over seeds at each x, a bar of one standard deviation either way.

    Args:
      panels: title -> series -> its points; "" where there is one panel.
      xlabel, ylabel: with their units.
      log: "x", "xy" or "": the logarithmic axes; title -> these, where panels differ.
      ticks: x -> what stands there; None: the numbers themselves on a logarithmic axis, any on a linear one.
      share: whether panels share the y axis; where what they show isn't of one unit, the titles tell the units.
      published: x -> somebody else's number, a cross in every panel.
      floor: where the y axis begins; what lies below is cut. None: below all points.
    """
    names = list(dict.fromkeys(name for series in panels.values() for name in series))
    looks = dict(zip(names, itertools.cycle(SERIES)))
    outside = (len(panels) > 1 and (len(names) > 1 or bool(published))) or len(names) > 4
    rows = -(-len(names) // COLUMNS) if outside else 0
    figure = new_figure(7.5 if len(panels) == 1 else 1 + 3.6 * len(panels), 4.2 + 0.22 * rows)
    axes = figure.subplots(1, len(panels), sharey=share, squeeze=False)[0]
    for ax, (title, series) in zip(axes, panels.items()):
        tidy(ax)
        ax.margins(x=0.08)
        ax.set_title(title, fontsize=10)
        for name, points in series.items():
            _draw_line(ax, name, sorted(points), looks[name])
        if published:
            ax.plot(*zip(*published.items()), "x", color="black", markersize=7, markeredgewidth=1.8, label="published")
        _scale(
            ax,
            log if isinstance(log, str) else log[title],
            ticks,
            sorted({x for points in series.values() for x, _ in points} | set(published or ())),
        )
        if len(panels) == 1:
            ax.set_xlabel(xlabel)
    for ax in axes:  # only now: a limit that is set ends the scaling of an axis that later panels share
        ax.set_ylim(bottom=floor)
    axes[0].set_ylabel(ylabel)
    if len(panels) > 1:
        figure.supxlabel(xlabel, fontsize=10)
    if outside:
        found = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels())}
        figure.legend(found.values(), found.keys(), loc="outside upper center", ncols=COLUMNS, fontsize=8, frameon=False)
    elif len(names) > 1:
        axes[0].legend(fontsize=8, frameon=False)
    return figure


def _draw_line(ax: Axes, name: str, points: Points, look: tuple[str, str, str]) -> None:
    colour, marker, style = look
    x, mean = [p[0] for p in points], [float(np.mean(p[1])) for p in points]
    spread = [float(np.std(p[1], ddof=1)) if len(p[1]) > 1 else 0.0 for p in points]
    ax.errorbar(x, mean, yerr=spread, color=colour, marker=marker, linestyle=style, capsize=3, markersize=5, label=name)


def _scale(ax: Axes, log: str, ticks: Mapping[float, str] | None, x: Sequence[float]) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    if "x" in log:
        ax.set_xscale("log")
        ticks = ticks or {value: f"{value:,g}" for value in x}
    if "y" in log:
        ax.set_yscale("log")
        ax.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_locator=NullLocator(), major_formatter="{x:,g}")
    if ticks:
        shown = {value: ticks[value] for value in x}
        crowded = len(shown) > 5
        ax.set_xticks(list(shown), list(shown.values()), fontsize=8, rotation=45 if crowded else 0)
        ax.xaxis.set_minor_locator(NullLocator())


def before_after(names: Sequence[str], values: Sequence[tuple[Sequence[float], Sequence[float]]], label: str) -> Figure:
    """A row a setting: means over seeds before (circle) and after (diamond) temperature scaling, bars of one sd."""
    figure = new_figure(8, 1.8 + 0.34 * len(names))
    ax = figure.subplots()
    tidy(ax)
    for column, (told, colour, marker) in enumerate((("before", VERMILION, "o"), ("after", BLUE, "D"))):
        means = [float(np.mean(pair[column])) for pair in values]
        spread = [float(np.std(pair[column], ddof=1)) if len(pair[column]) > 1 else 0.0 for pair in values]
        place = np.arange(len(names)) + 0.24 * (column - 0.5)
        ax.errorbar(means, place, xerr=spread, fmt=marker, color=colour, markersize=5, capsize=3, label=f"{told} scaling")
    ax.set_yticks(range(len(names)), [textwrap.shorten(name, 60, placeholder=" ...") for name in names], fontsize=8)
    ax.invert_yaxis()
    ax.set_xlim(left=0)
    ax.set_xlabel(f"{label}: mean and standard deviation over seeds")
    ax.legend(frameon=False, fontsize=8)
    return figure


def reliability_panels(panels: Mapping[str, Mapping[str, ReliabilityBins]]) -> Figure:
    """Share of right predictions against stated probability, before and after temperature scaling, with 95 % Wilson intervals.

    Args:
      panels: title -> "before" and "after" -> their bins.
    """
    columns = min(COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    figure = new_figure(1 + 3.4 * columns, 0.8 + 3.2 * lines)
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for ax, (title, tables) in zip(axes, panels.items()):
        tidy(ax)
        ax.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1.2, label="perfect calibration")
        for (told, table), (colour, marker, shift) in zip(tables.items(), ((VERMILION, "o", -0.004), (BLUE, "D", 0.004))):
            draw_bins(ax, table, f"{told} scaling", colour, marker, shift)
        ax.set_title(textwrap.fill(title, 44), fontsize=9)
        ax.set(xlim=(0.2, 1.02), ylim=(0, 1.02))
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    found = dict(zip(*reversed(axes[0].get_legend_handles_labels())))
    figure.legend(found.values(), found.keys(), loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    figure.supxlabel("stated probability of the prediction", fontsize=10)
    figure.supylabel("share of predictions that are right", fontsize=10)
    return figure
