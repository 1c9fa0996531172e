"""The figure of each study, from its JSON lines."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments import data_efficiency, graph_benchmarks
from textfuse_jax.evaluation.setting_figures import Dots, Points, setting_dots, setting_lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Line = Mapping[str, Any]
Panels = dict[str, dict[str, Points]]
ACCURACY = "test accuracy (share of documents)"
SPREAD = f"{ACCURACY},\nmean and sd over seeds"
SETS = {"mr": "MR", "r8": "R8", "trec": "TREC", "ohsumed": "Ohsumed", "20newsgroups": "20 Newsgroups", "imdb_8k": "IMDb"}
THIRDS = {0: "short", 1: "medium", 2: "long"}


@dataclasses.dataclass(frozen=True)
class Curve:
    """How a study is drawn as lines; studies without one are drawn as rows of dots.

    Attributes:
      x: the place of a line on the x axis.
      xlabel: its name and unit.
      series: name of the line that a setting belongs to.
      panel: title of the panel that it belongs to.
      ticks: what stands at each x; None: the numbers, on a logarithmic axis.
      published: x -> a published accuracy.
      share: whether the panels share the y axis.
      left_out: series that the table alone shows.
      floor: where the y axis begins; None: below all points.
    """

    x: Callable[[Line], float]
    xlabel: str
    series: Callable[[Line], str]
    panel: Callable[[Line], str] = lambda line: ""
    ticks: Mapping[float, str] | None = None
    published: Mapping[float, float] | None = None
    share: bool = True
    left_out: Collection[str] = ()
    floor: float | None = None


def part(number: int, pieces: int = 1) -> Callable[[Line], str]:
    """A part of a setting's name: of its pieces between commas, the last of which keeps further commas."""
    return lambda line: line["setting"].split(", ", pieces)[number]


def shots(line: Line) -> float:
    """How much of a domain was labelled: nothing, some rows a class, all."""
    return ["zero-shot", "8 rows a class", "2,000 rows"].index(part(1, 2)(line))


CURVES = {
    "data_efficiency": Curve(
        lambda line: line["data"]["train"],
        "training rows",
        lambda line: line["setting"].rsplit(", ", 1)[0].replace(", tuned", ""),
        lambda line: "frozen encoder" if line["regime"] == "cached" else "tuned encoder",
        published={rows: accuracy for rows, (accuracy, _) in data_efficiency.PUBLISHED.items()},
        left_out=data_efficiency.CONTROLS,
        floor=0.72,  # TF-IDF has 0.39 to 0.71 up to 256 rows
    ),
    "domain_transfer": Curve(
        shots,
        "labelled rows of the new domain",
        part(2, 2),
        lambda line: SETS[part(0, 2)(line)],
        ticks={0: "none", 1: "8 a class", 2: "2,000"},
        share=False,
    ),
}


def draw(name: str, lines: Sequence[Line]) -> Figure:
    """The study's figure."""
    if name == "imbalance":
        return imbalance(lines)
    if name == "hidden_size":
        return widths(lines)
    if name == "learning_rate":
        return stability(lines)
    if name == "text_length":
        return thirds(lines)
    if name in CURVES:
        return curves(CURVES[name], lines)
    if name == "graph_benchmarks":
        return setting_dots(benchmarks(lines), ACCURACY)
    usual = lines[0]["data"]["train"]
    sizes = {line["setting"]: line["data"]["train"] for line in lines}
    named = {name: name + f" ({rows:,} rows)" * (rows != usual) for name, rows in sizes.items()}
    rows = [dots(line, named[line["setting"]], named.get(line["reference"], "")) for line in lines]
    return setting_dots({"": rows}, ACCURACY)


def dots(line: Line, name: str, beside: str) -> Dots:
    """A setting as a row of dots, and the row that it is compared with."""
    return Dots(name, line["test"]["accuracy"], line["accuracy_ci95"], beside="" if beside == name else beside)


def curves(curve: Curve, lines: Sequence[Line]) -> Figure:
    """Accuracy along the curve's x, a panel for each of its panels."""
    panels: Panels = {}
    for line in lines:
        if curve.series(line) in curve.left_out:
            continue
        found = panels.setdefault(curve.panel(line), {}).setdefault(curve.series(line), [])
        found.append((curve.x(line), line["test"]["accuracy"]))
    looks = dict(ticks=curve.ticks, published=curve.published, share=curve.share, floor=curve.floor)
    looks["log"] = "" if curve.ticks else "x"
    return setting_lines(panels, curve.xlabel, SPREAD, **looks)


def widths(lines: Sequence[Line]) -> Figure:
    """Accuracy and AUC along the hidden size, a line a number of training rows."""
    panels: Panels = {}
    for line in lines:
        for title, metric in (("accuracy", "accuracy"), ("AUC, one vs rest", "auc_ovr")):
            found = panels.setdefault(title, {}).setdefault(f"{line['data']['train']:,} training rows", [])
            found.append((line["fields"]["model.width"], line["test"][metric]))
    return setting_lines(panels, "hidden size (units)", "on the test documents,\nmean and sd over seeds", log="x", share=False)


def stability(lines: Sequence[Line]) -> Figure:
    """Accuracy along the learning rate and how far its seeds lie apart, a line a model."""
    first, second = (
        "test accuracy (share of documents),\nmean and sd over seeds",
        "standard deviation over seeds\n(points of accuracy)",
    )
    panels: Panels = {first: {}, second: {}}
    for line in lines:
        model = "encoder alone" if "encoder alone" in line["setting"] else "Pyramid-GNN"
        rate, accuracy = line["fields"]["optimizer.learning_rate"], line["test"]["accuracy"]
        panels[first].setdefault(model, []).append((rate, accuracy))
        panels[second].setdefault(model, []).append((rate, [100 * float(np.std(accuracy, ddof=1))]))
    return setting_lines(panels, "learning rate", "", log={first: "x", second: "xy"}, share=False)


def imbalance(lines: Sequence[Line]) -> Figure:
    """Recall of the thinned classes and of the others, a line a remedy."""
    titles = ("minority: World, Sports", "majority: Business, Sci/Tech")
    panels: Panels = {title: {} for title in titles}
    for line in lines:
        for title, recall in zip(titles, recalls(line)):
            panels[title].setdefault(part(1)(line), []).append((line["fields"]["data.imbalance"], recall))
    ticks = {line["fields"]["data.imbalance"]: f"1:{line['fields']['data.imbalance']:g}" for line in lines}
    return setting_lines(panels, "minority : majority, training rows", "recall (share), mean and sd over seeds", ticks=ticks)


def recalls(line: Line) -> list[list[float]]:
    """Recall of each seed, of the first half of the classes and of the second."""
    values = np.array(list(line["recall"].values()))
    half = len(values) // 2
    return [list(values[:half].mean(0)), list(values[half:].mean(0))]


def thirds(lines: Sequence[Line]) -> Figure:
    """Accuracy on the short, the middle and the long third of the documents, a panel a set."""
    panels: Panels = {}
    for line in lines:
        points = [(k, accuracy) for k, accuracy in enumerate(line["strata"]["accuracy"]) if accuracy]
        panels.setdefault(part(0)(line), {})[part(1)(line)] = points
    return setting_lines(panels, "third of the test documents, by words", SPREAD, ticks=THIRDS, share=False)


def benchmarks(lines: Sequence[Line]) -> dict[str, list[Dots]]:
    """A panel a set: what was measured, then what is published; the table alone shows TREC with its labels in the texts."""
    panels: dict[str, list[Dots]] = {}
    for line in lines:
        if part(0)(line) in graph_benchmarks.PUBLISHED:
            panels.setdefault(part(0)(line), []).append(dots(line, part(1)(line), line["reference"].split(", ", 1)[1]))
    for name, rows in panels.items():
        rows += [Dots(who, [accuracy], published=True) for who, accuracy in graph_benchmarks.known(name).items()]
    return {SETS[name]: rows for name, rows in panels.items()}
