"""What some studies show beside their table: sample graphs, accuracy by length, what length costs, calibration."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments import length_growth
from textfuse_jax.evaluation import figures
from textfuse_jax.evaluation.calibration import ReliabilityBins
from textfuse_jax.evaluation.graph_drawing import DocumentGraph, draw_document_graph, draw_shares
from textfuse_jax.evaluation.records import read_results
from textfuse_jax.evaluation.report import markdown_table
from textfuse_jax.evaluation.setting_figures import before_after, reliability_panels, setting_lines

HERE = pathlib.Path(__file__).parent
FINDINGS = HERE / "findings"
FIGURES = HERE.parent / "docs" / "figures"
Line = Mapping[str, Any]
ATTENTION = {
    "pooling_share": ("alpha = 0", "alpha = 0.5", "without self-attention, alpha = 0"),
    "baselines": ("attention-hybrid pooling",),
}
"""Settings whose samples show what pooling looks at rather than edges."""
BEST_RATES = {"0.003": "Pyramid-GNN, rate 0.003", "encoder alone, 0.01": "encoder alone, rate 0.01"}
"""Of the learning-rate study: each model's best on validation, whose reliability is drawn."""
SCALED = ("before", "after")
"""Temperature scaling."""
ATTENDS = {
    "pool/beta": "Where attention looks in sample texts",
    "pool/looks": "Where attention looks in sample texts, through self-attention among their units",
}


def extras(name: str, lines: Sequence[Line]) -> list[str]:
    """Further blocks of a study's section."""
    blocks = samples(name, lines)
    if name == "text_length":
        blocks += [strata_table(lines)]
    if name == "ablation":
        blocks += smoothing(name, lines)
    if name == "baselines":
        blocks += calibration(name, lines)
    if name == "learning_rate":
        blocks += reliability(
            name, [{**line, "setting": BEST_RATES[line["setting"]]} for line in lines if line["setting"] in BEST_RATES]
        )
    if name == "hidden_size":
        blocks += one_rate(name, lines)
    return blocks


def smoothing(name: str, lines: Sequence[Line]) -> list[str]:
    """How alike the nodes of a document become with rounds of messages, and what accuracy they have then."""
    known = [line for line in lines if line["setting"] == "full" or line["setting"].startswith("K = ")]
    rounds = {line["fields"].get("model.propagate_args.rounds", 2): line for line in known if "cosine_of_nodes" in line}
    if len(rounds) < 2:
        return []
    panels = {
        "mean cosine of two nodes of a document": {"full": [(k, line["cosine_of_nodes"]) for k, line in rounds.items()]},
        "test accuracy (share of documents)": {"full": [(k, line["test"]["accuracy"]) for k, line in rounds.items()]},
    }
    figure = FIGURES / f"study_{name}_smoothing.png"
    ticks = {k: str(k) for k in rounds}
    figures.save(setting_lines(panels, "rounds of messages K", "mean and sd over seeds", ticks=ticks, share=False), figure)
    return [f"![Over-smoothing along the rounds of messages](figures/{figure.name})"]


def one_rate(name: str, lines: Sequence[Line]) -> list[str]:
    """Accuracy on validation along the hidden size where all widths have one rate, of the trials that chose: a panel for the
    lowest rate, the middle one and the highest."""
    panels: dict[float, dict[str, list]] = {}
    for line in lines:
        for one in line.get("choices", ()):
            found = panels.setdefault(one["fields"]["optimizer.learning_rate"], {})
            rows = found.setdefault(f"{line['data']['train']:,} training rows", [])
            rows.append((line["fields"]["model.width"], [one["accuracy"]]))
    rates = sorted(panels)
    if len(rates) < 3:
        return []
    titled = {f"rate {rate:g} for all widths": panels[rate] for rate in (rates[0], rates[len(rates) // 2], rates[-1])}
    figure = FIGURES / f"study_{name}_one_rate.png"
    figures.save(setting_lines(titled, "hidden size (units)", "accuracy on validation (share), one seed", log="x"), figure)
    return [f"![Accuracy along the hidden size at one rate for all widths](figures/{figure.name})"]


def samples(name: str, lines: Sequence[Line]) -> list[str]:
    """The sample texts of a study's lines, drawn: where attention looks in all of them, else the graph of one, for the first
    setting of each kind of edges and nodes. Older lines of models with self-attention kept the share of its outputs, in which
    every unit is a mixture already: not drawn."""
    found, seen, record = [], set(), HERE / "results" / "sample_graphs.jsonl"
    known = read_results(record) if record.exists() else []
    drawn = {one["setting"]: graphs_of(one) for one in known if one["study"] == name}
    for line in lines:
        graphs, attends = drawn.get(line["setting"]) or graphs_of(line), name in ATTENTION
        kind = line["setting"] if attends else kind_of(line["fields"])
        mixtures = line["fields"].get("model.pooling_args.self_attention") and graphs and "share" not in graphs[0]
        wanted = line["setting"] in ATTENTION[name] and not mixtures if attends else bool(graphs and graphs[0]["senders"])
        if not graphs or kind in seen or not wanted:
            continue
        seen.add(kind)
        path = FIGURES / f"study_{name}_graph_{len(seen)}.png"
        if attends:
            share = graphs[0].get("share") or "pool/beta"
            documents = [(graph["label"], graph["texts"], np.array(graph["beta"])) for graph in graphs]
            figures.save(draw_shares(documents, title=line["setting"], share=share), path)
            found.append(f"![{ATTENDS[share]}: {line['setting']}](figures/{path.name})")
        else:
            parts = {field: np.array(graphs[0][field]) for field in DocumentGraph._fields if field != "beta"}
            looks = {"title": line["setting"], "label": graphs[0]["label"], "level_names": tuple(graphs[0]["scales"])}
            figures.save(draw_document_graph(graphs[0]["texts"], DocumentGraph(**parts, beta=None), **looks), path)
            found.append(f"![Graph of one text: {line['setting']}](figures/{path.name})")
    return found


def kind_of(fields: Mapping[str, Any]) -> str:
    """What a drawn graph shows: which nodes, where they aren't the study's own, else which edges, made from what."""
    edges, nodes, tap = (fields.get(f"model.{field}") for field in ("edges", "nodes", "edge_tap"))
    return str(list(nodes) if nodes else [list(edges or ()), tap])


def graphs_of(line: Line) -> list[dict[str, Any]]:
    """The graphs of sample texts that a line keeps; older lines and those of studies keep one."""
    one = line.get("sample_graph")
    return line.get("sample_graphs") or ([one] if one else [])


def strata_table(lines: Sequence[Line]) -> str:
    """Accuracy on the three thirds of each set's test documents, by words."""
    rows = []
    for line in lines:
        low, *cuts, high = line["strata"]["words"]
        accuracy = [f"{np.mean(v):.4f} ± {np.std(v, ddof=1) if len(v) > 1 else 0:.4f}" for v in line["strata"]["accuracy"] if v]
        rows.append([line["setting"], f"{low} to {cuts[0]}, to {cuts[1]}, to {high}", *accuracy, *["–"] * (3 - len(accuracy))])
    return markdown_table(["setting", "words of the thirds", "short", "medium", "long"], rows)


def growth() -> list[str]:
    """The section of ``length_growth``: time and memory of one document as it grows, and the curves; [] where it wasn't run."""
    path = HERE / "results" / "length_growth.jsonl"
    lines = list({line["model"]: line for line in read_results(path)}.values()) if path.exists() else []
    if not lines:
        return []
    rows = [
        [line["model"], *(f"{ms:.0f} / {mb:.0f}" for ms, mb in zip(line["ms"], line["memory_mb"]))]
        + [f"{line['slope']:.2f} / {line['slope_memory']:.2f}"]
        + [f"{line['doubling']:.2f} / {line['doubling_memory']:.2f}" if "doubling" in line else "–"]
        for line in lines
    ]
    header = ["ms / MB of one document", *(f"{n:,} tokens" for n in lines[0]["tokens"]), "slope", "last doubling"]
    panels = {
        title: {line["model"]: [(n, [value]) for n, value in zip(line["tokens"], line[field])] for line in lines}
        for title, field in (("time of a forward pass (ms)", "ms"), ("memory of intermediate results (MB)", "memory_mb"))
    }
    figure = FIGURES / "study_length_growth.png"
    figures.save(setting_lines(panels, "length of the document (tokens)", "", log="xy", share=False), figure)
    about = length_growth.__doc__.split("\n\n")
    where = [f"load average {line['load_average']:.1f} on {line['hardware']}, commit {commit_of(line)}" for line in lines]
    return [
        "### What length costs",
        " ".join(f"{about[0]}\n{about[-1]}".split()),
        markdown_table(header, rows),
        f"![Time and memory against length](figures/{figure.name})",
        *found("length_growth"),
        "Slope: of the line through the logarithms, 1 where cost grows as length; last doubling: cost at the longest document by "
        "that at half of it. "
        f"Measured with {'; '.join(dict.fromkeys(where))}{STARRED * ('*' in ''.join(where))}; "
        "`python -m experiments.length_growth`.",
    ]


STARRED = " (`*`: with uncommitted changes)"


def commit_of(line: Line) -> str:
    """The commit that a line was measured with; ``*``: and changes that weren't committed (``STARRED`` says so)."""
    return line["commit"][:12] + "*" * bool(line.get("uncommitted_changes"))


def found(name: str) -> list[str]:
    """The findings of a study, where they are written."""
    path = FINDINGS / f"{name}.md"
    return ["**Found.** " + path.read_text(encoding="utf-8").strip()] if path.exists() else []


def calibration(name: str, lines: Sequence[Line]) -> list[str]:
    """Expected calibration error before and after temperature scaling, drawn."""
    known = [line for line in lines if "ece_after_temperature" in line]
    if not known:
        return []
    figure = FIGURES / f"study_{name}_calibration.png"
    values = [(line["test"]["ece"], line["ece_after_temperature"]) for line in known]
    figures.save(before_after([line["setting"] for line in known], values, "expected calibration error on test"), figure)
    block = f"![Calibration before and after temperature scaling](figures/{figure.name})"
    return [block, *reliability(name, lines)]


def reliability(name: str, lines: Sequence[Line]) -> list[str]:
    """Reliability diagrams of the lines that keep their bins, of all seeds together."""
    known = [line for line in lines if line.get("reliability")]
    if not known:
        return []
    figure = FIGURES / f"study_{name}_reliability.png"
    tables = {line["setting"]: {told: pooled(line["reliability"], told) for told in SCALED} for line in known}
    figures.save(reliability_panels(tables), figure)
    told = "Reliability before and after temperature scaling, all seeds together, which its intervals take for other documents"
    return [f"![{told}](figures/{figure.name})"]


def pooled(seeds: Sequence[Mapping[str, Any]], told: str) -> ReliabilityBins:
    """The bins of several seeds as one."""
    count = np.sum([seed[told]["count"] for seed in seeds], 0)
    parts = {
        name: np.sum([np.multiply(seed[told]["count"], seed[told][name]) for seed in seeds], 0) / np.maximum(count, 1)
        for name in ("confidence", "accuracy")
    }
    return ReliabilityBins(edges=np.linspace(0, 1, len(count) + 1), count=count, **parts)
