"""The figures of a report: plain arrays in, a matplotlib Figure out.

Figures are made without pyplot, so that there is no global state and no display is looked for. Colours are Okabe and
Ito's (2008), which colour-blind readers tell apart; markers and line styles differ too, so that grey prints read as well.
"""

from __future__ import annotations

import os
import pathlib
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from textfuse_jax.evaluation.calibration import BINS, ReliabilityBins, expected_calibration_error, reliability_bins
from textfuse_jax.evaluation.statistics import wilson_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#7F7F7F"
DPI = 140
DETAILED_CLASSES, SHARE_CLASSES = 10, 33  # up to which a cell of a confusion matrix has room for two lines, for a number


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of ``width`` x ``height`` inches whose parts make room for each other."""
    from matplotlib.figure import Figure  # 0.4 s that importing the package doesn't pay

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def save(figure: Figure, path: str | os.PathLike) -> pathlib.Path:
    """Write a figure; the ending of ``path`` names the format (.png, .pdf, .svg). Folders are made."""
    target = pathlib.Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, facecolor="white")
    return target


def tidy(ax: Axes) -> None:
    """Two spines instead of four, a pale grid behind what is drawn."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(True, color="#E6E6E6", linewidth=0.8)
    ax.set_axisbelow(True)


def moving_average(values: Float[np.ndarray, "n"], reach: int) -> Float[np.ndarray, "n"]:
    """Mean of each value and its ``reach`` neighbours on either side; centred, so that it doesn't lag; NaNs are skipped."""
    values = np.asarray(values, np.float64)
    known = np.isfinite(values)
    total, count = np.r_[0, np.cumsum(np.where(known, values, 0))], np.r_[0, np.cumsum(known)]
    at = np.arange(len(values))
    low, high = np.maximum(at - reach, 0), np.minimum(at + reach + 1, len(values))
    n = count[high] - count[low]
    return np.divide(total[high] - total[low], n, out=np.full(len(values), np.nan), where=n > 0)


def learning_curve(
    train_steps: Int[np.ndarray, "n"],
    train_loss: Float[np.ndarray, "n"],
    eval_steps: Int[np.ndarray, "m"],
    eval_loss: Float[np.ndarray, "m"],
    eval_accuracy: Float[np.ndarray, "m"],
    best_step: int | None = None,
) -> Figure:
    """Loss (above) and validation accuracy (below) over the steps; the best step, whose weights were kept, is marked.

    The training loss is drawn as logged (pale) and as a centred moving average over a twentieth of the curve.
    """
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(7.0, 5.6)
    loss_axes, accuracy_axes = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    train_loss, eval_accuracy = np.asarray(train_loss, np.float64), np.asarray(eval_accuracy, np.float64)
    if len(train_loss):
        loss_axes.plot(train_steps, train_loss, color=BLUE, alpha=0.25, linewidth=0.8)
        averaged = moving_average(train_loss, len(train_loss) // 40)
        loss_axes.plot(train_steps, averaged, color=BLUE, linewidth=1.8, label="training (moving average)")
    if len(eval_steps):
        loss_axes.plot(eval_steps, eval_loss, "o--", color=VERMILION, linewidth=1.4, markersize=4.5, label="validation")
        accuracy_axes.plot(eval_steps, 100 * eval_accuracy, "o-", color=VERMILION, linewidth=1.4, markersize=4.5)
    if best_step is not None:
        for ax in (loss_axes, accuracy_axes):
            ax.axvline(best_step, color=GREEN, linewidth=1.4, linestyle=":")
        at_best = eval_accuracy[np.asarray(eval_steps) == best_step]
        score = f", accuracy {100 * at_best[0]:.2f} %" if len(at_best) else ""
        loss_axes.plot([], [], color=GREEN, linewidth=1.4, linestyle=":", label=f"best step {best_step}{score}")
    loss_axes.set(ylabel="loss (nats per document)", title="Learning curve")
    accuracy_axes.set(ylabel="validation accuracy (%)", xlabel="training step")
    accuracy_axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for ax in (loss_axes, accuracy_axes):
        tidy(ax)
    if loss_axes.get_legend_handles_labels()[0]:
        loss_axes.legend(frameon=False)
    figure.align_ylabels()
    return figure


def confusion_matrix(confusion: Int[np.ndarray, "c c"], class_names: Sequence[str]) -> Figure:
    """Counts, coloured by their share of the true class (row); rows are true classes, columns predicted ones.

    A cell holds its count and share with up to 10 classes, its share in percent where that is at least 1 with up to 33.
    """
    counts, c = np.asarray(confusion), len(class_names)
    if counts.shape != (c, c):
        raise ValueError(f"confusion must be [c, c] for the {c} class names, got {counts.shape}")
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    detailed = c <= DETAILED_CLASSES
    side = min(14.0, max(3.6, (0.95 if detailed else 0.42) * c))
    names = [textwrap.shorten(str(name), 28, placeholder="…").replace("$", r"\$") for name in class_names]  # no mathematics
    turned = max(map(len, names)) > (12 if detailed else 2)
    figure = new_figure(side + 1.3 + 0.07 * max(map(len, names)), side + 0.8 + (1.0 if turned else 0.0))
    ax = figure.subplots()
    image = ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    turn = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if turned else {}
    ax.set_xticks(range(c), names, **turn)
    ax.set_yticks(range(c), names)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    for (i, j), value in np.ndenumerate(share):
        colour = "white" if value > 0.55 else "black"
        if detailed:
            ax.text(j, i - 0.10, f"{counts[i, j]:,}", ha="center", va="center", color=colour, fontsize=11)
            ax.text(j, i + 0.20, f"{100 * value:.1f} %", ha="center", va="center", color=colour, fontsize=8)
        elif c <= SHARE_CLASSES and value >= 0.01:
            ax.text(j, i, f"{100 * value:.0f}", ha="center", va="center", color=colour, fontsize=8)
    bar = figure.colorbar(image, ax=ax, shrink=0.75, pad=0.02)
    bar.set_label("share of the true class" + (" (cells: percent)" if not detailed and c <= SHARE_CLASSES else ""))
    bar.outline.set_visible(False)
    ax.set(xlabel="predicted class", ylabel="true class")
    right = 100 * np.trace(counts) / max(counts.sum(), 1)
    ax.set_title(f"Confusion matrix\n{counts.sum():,} documents, {right:.2f} % right", fontsize=11)
    return figure


def reliability_diagram(
    confidence: Float[np.ndarray, "n"],
    correct: Bool[np.ndarray, "n"],
    scaled_confidence: Float[np.ndarray, "n"] | None = None,
    temperature: float | None = None,
    bins: int = BINS,
) -> Figure:
    """Share of right predictions against stated probability in ``bins`` equal bins, with 95 % Wilson intervals, and how many
    predictions each bin holds (below, log scale).

    Args:
      confidence: probability the model gave each of its predictions.
      correct: whether the prediction was right.
      scaled_confidence: the same after temperature scaling, drawn beside it if given.
      temperature: the T of the scaling, for the legend.
    """
    figure = new_figure(5.8, 6.4)
    ax, below = figure.subplots(2, 1, sharex=True, height_ratios=[3.4, 1])
    ax.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1.2, label="perfect calibration")
    drawn = [(np.asarray(confidence), "as trained", BLUE, "o", -0.004)]
    if scaled_confidence is not None:
        scale = "temperature scaled" if temperature is None else f"scaled, T = {temperature:.2f}"
        drawn.append((np.asarray(scaled_confidence), scale, ORANGE, "s", 0.004))
    width = 0.84 / bins / len(drawn)
    for k, (stated, name, colour, marker, shift) in enumerate(drawn):
        table = reliability_bins(stated, correct, bins)
        ece = expected_calibration_error(stated, correct, bins)
        draw_bins(ax, table, f"{name}, ECE {100 * ece:.2f} %", colour, marker, shift)
        centres = (table.edges[:-1] + table.edges[1:]) / 2 + (k - (len(drawn) - 1) / 2) * width
        below.bar(centres, table.count, width, color=colour)
    ax.set(ylabel="share of predictions that are right", title="Reliability: is a stated 80 % right 80 % of the time?")
    ax.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    ax.legend(frameon=False, loc="upper left")
    below.set(yscale="log", ylabel="documents", xlabel="stated probability of the prediction")
    below.set_ylim(bottom=0.8)
    below.yaxis.set_major_formatter("{x:,.0f}")
    for axes in (ax, below):
        tidy(axes)
    return figure


def draw_bins(ax: Axes, table: ReliabilityBins, label: str, colour: str, marker: str, shift: float) -> None:
    """Accuracy of the filled bins at their mean confidence, moved by ``shift``, with 95 % Wilson intervals."""
    filled = table.count > 0
    x, y = table.confidence[filled] + shift, table.accuracy[filled]
    hits = np.rint(table.accuracy * table.count).astype(int)[filled]
    interval = np.array([wilson_interval(int(h), int(n)) for h, n in zip(hits, table.count[filled])]).reshape(-1, 2)
    spread = np.maximum([y - interval[:, 0], interval[:, 1] - y], 0)
    ax.errorbar(x, y, spread, color=colour, marker=marker, markersize=5.5, linewidth=1.6, elinewidth=1, capsize=2, label=label)


def length_strata(lengths: Int[np.ndarray, "n"], strata: int = 5) -> list[tuple[int, int]]:
    """Ranges (shortest, longest) of text length that hold about equally many documents each; fewer where lengths tie."""
    values, counts = np.unique(lengths, return_counts=True)
    middle = np.cumsum(counts) - counts / 2  # the rank in the middle of those of one length, which stay together
    stratum = np.floor(middle / counts.sum() * strata)
    return [(int(values[stratum == k][0]), int(values[stratum == k][-1])) for k in np.unique(stratum)]


def length_accuracy(
    lengths: Int[np.ndarray, "n"], correct: Bool[np.ndarray, "n"], size: str = "text length (tokens)", strata: int = 5
) -> Figure:
    """Accuracy on small to large documents, with 95 % Wilson intervals and the number of documents of each stratum.

    Args:
      lengths: size of each document.
      size: what it is called, with its unit.
      correct: whether its prediction was right.
      strata: number of strata wanted, by quantiles of the length.
    """
    lengths, correct = np.asarray(lengths), np.asarray(correct, bool)
    if not len(lengths) or lengths.shape != correct.shape:
        raise ValueError(f"lengths and correct must be [n] with n >= 1, got {lengths.shape} and {correct.shape}")
    ranges = length_strata(lengths, strata)
    inside = [(lengths >= low) & (lengths <= high) for low, high in ranges]
    accuracy = np.array([100 * correct[i].mean() for i in inside])
    interval = 100 * np.array([wilson_interval(int(correct[i].sum()), int(i.sum())) for i in inside])
    figure = new_figure(6.6, 4.2)
    ax = figure.subplots()
    x = np.arange(len(ranges))
    overall = 100 * correct.mean()
    ax.axhline(overall, color=GREY, linestyle="--", linewidth=1.2, label=f"all documents, {overall:.2f} %")
    spread = np.maximum([accuracy - interval[:, 0], interval[:, 1] - accuracy], 0)
    ax.errorbar(x, accuracy, spread, fmt="o", color=BLUE, markersize=7, capsize=4, linewidth=1.6, label="stratum, 95 % interval")
    for i, value in enumerate(accuracy):
        ax.annotate(f"{value:.1f} %", (x[i], value), xytext=(9, 0), textcoords="offset points", va="center", fontsize=9)
    spans = [f"{low}" if low == high else f"{low} to {high}" for low, high in ranges]
    ax.set_xticks(x, [f"{span}\nn = {int(i.sum()):,}" for span, i in zip(spans, inside)])
    ax.set_xlim(-0.5, len(ranges) - 0.3)
    ax.set(xlabel=size, ylabel="accuracy (%)", title=f"Accuracy by {size.partition(' (')[0]}")
    tidy(ax)
    ax.grid(False, axis="x")
    ax.legend(frameon=False, loc="best")
    return figure


SERIES = (
    (BLUE, "o", "-"),
    (VERMILION, "s", "--"),
    (GREEN, "^", "-."),
    (ORANGE, "D", ":"),
    ("#56B4E9", "v", "-"),
    (GREY, "x", "--"),
    ("#CC79A7", "P", "-."),
    ("#000000", "*", ":"),
)
"""Colour, marker and line style of the lines of a figure, in this order."""


def sweep_dots(labels: Sequence[str], values: Sequence[Sequence[float]], metric: str, most: int = 25) -> Figure:
    """A row a setting, best first: a dot for each of its trials and a bar at their mean; the best ``most`` settings."""
    shown = [(textwrap.shorten(label, 60, placeholder=" ..."), v) for label, v in zip(labels, values) if len(v)][:most]
    figure = new_figure(8, 1.4 + 0.32 * len(shown))
    ax = figure.subplots()
    tidy(ax)
    for row, (_, found) in enumerate(shown):
        jitter = (np.arange(len(found)) % 5 - min(len(found) - 1, 4) / 2) * 0.08
        ax.plot(found, row + jitter, "o", color=BLUE, markersize=4, alpha=0.6, markeredgewidth=0)
        ax.plot([np.mean(found)] * 2, [row - 0.35, row + 0.35], color=VERMILION, linewidth=2)
    ax.set_yticks(range(len(shown)), [label for label, _ in shown], fontsize=8)
    ax.invert_yaxis()
    ax.set_xlabel(f"{metric} on validation: trials (dots) and their mean (bar)")
    hidden = len(labels) - len(shown)
    if hidden:
        ax.set_title(f"the best {len(shown)} settings; {hidden} more are in sweep.jsonl", fontsize=9)
    return figure
