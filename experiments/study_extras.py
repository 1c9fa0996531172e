"""What some studies show beside their table: sample graphs, accuracy by length, what length costs, calibration."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from textfuse_jax.evaluation import figures
from textfuse_jax.evaluation.graph_drawing import DocumentGraph, draw_document_graph
from textfuse_jax.evaluation.records import read_results
from textfuse_jax.evaluation.report import markdown_table

HERE = pathlib.Path(__file__).parent
FIGURES = HERE.parent / "docs" / "figures"
Line = Mapping[str, Any]
ATTENTION = {
    "pooling_share": ("alpha = 0", "alpha = 0.5", "self-attention, alpha = 0.5"),
    "baselines": ("attention-hybrid pooling",),
}
"""Settings whose sample shows the attention of pooling rather than edges."""


def extras(name: str, lines: Sequence[Line]) -> list[str]:
    """Further blocks of a study's section."""
    blocks = samples(name, lines)
    if name == "text_length":
        blocks += [strata_table(lines), *growth()]
    if name == "baselines":
        blocks += calibration(name, lines)
    return blocks


def samples(name: str, lines: Sequence[Line]) -> list[str]:
    """The sample graphs of a study's lines, drawn: the first setting of each kind of edges and nodes."""
    found, seen = [], set()
    for line in lines:
        graph, kinds = line.get("sample_graph"), (str(line["fields"].get("model.edges")), str(line["fields"].get("model.nodes")))
        attends = name in ATTENTION
        if attends:
            kinds = (line["setting"],)
        wanted = line["setting"] in ATTENTION[name] if attends else bool(graph and graph["senders"])
        if not graph or kinds in seen or not wanted:
            continue
        seen.add(kinds)
        parts = {field: np.array(graph[field]) if field in graph else None for field in DocumentGraph._fields}
        none = np.zeros(0, int)
        cut = DocumentGraph(**parts | ({"senders": none, "receivers": none, "weight": none} if attends else {"beta": None}))
        drawn = draw_document_graph(
            graph["texts"], cut, title=line["setting"], label=graph["label"], level_names=tuple(graph["scales"])
        )
        path = FIGURES / f"study_{name}_graph_{len(seen)}.png"
        figures.save(drawn, path)
        what = "Where attention looks in one text" if attends else "Graph of one text"
        found.append(f"![{what}: {line['setting']}](figures/{path.name})")
    return found


def strata_table(lines: Sequence[Line]) -> str:
    """Accuracy on the three thirds of each set's test documents, by words."""
    rows = []
    for line in lines:
        low, *cuts, high = line["strata"]["words"]
        accuracy = [f"{np.mean(v):.4f} ± {np.std(v, ddof=1) if len(v) > 1 else 0:.4f}" for v in line["strata"]["accuracy"] if v]
        rows.append([line["setting"], f"{low} to {cuts[0]}, to {cuts[1]}, to {high}", *accuracy, *["–"] * (3 - len(accuracy))])
    return markdown_table(["setting", "words of the thirds", "short", "medium", "long"], rows)


def growth() -> list[str]:
    """Time and memory of one document as it grows (``length_growth``), and the curves."""
    path = HERE / "results" / "length_growth.jsonl"
    lines = list({line["model"]: line for line in read_results(path)}.values()) if path.exists() else []
    if not lines:
        return ["What length costs: not measured (`python -m experiments.length_growth`)."]
    rows = [
        [line["model"], *(f"{ms:.0f} / {mb:.0f}" for ms, mb in zip(line["ms"], line["memory_mb"]))]
        + [f"{line['slope']:.2f} / {line['slope_memory']:.2f}", f"{line['load_average']}"]
        for line in lines
    ]
    header = ["ms / MB of one document", *(f"{n:,} tokens" for n in lines[0]["tokens"]), "slope", "load"]
    figure = FIGURES / "study_text_length_growth.png"
    series = {line["model"]: [(n, [ms]) for n, ms in zip(line["tokens"], line["ms"])] for line in lines}
    figures.save(figures.setting_lines(series, "length of the document (tokens)", "forward pass (ms)", log=True), figure)
    return [markdown_table(header, rows), f"![Time against length](figures/{figure.name})"]


def calibration(name: str, lines: Sequence[Line]) -> list[str]:
    """Expected calibration error before and after temperature scaling, drawn."""
    known = [line for line in lines if "ece_after_temperature" in line]
    if not known:
        return []
    figure = FIGURES / f"study_{name}_calibration.png"
    values = [(line["test"]["ece"], line["ece_after_temperature"]) for line in known]
    figures.save(figures.before_after([line["setting"] for line in known], values, "expected calibration error on test"), figure)
    return [f"![Calibration before and after temperature scaling](figures/{figure.name})"]
