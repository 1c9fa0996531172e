"""A section of docs/results.md for each study: table, figure and what was found, from its JSON lines."""

from __future__ import annotations

import importlib
import pathlib
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.pairs import pairs_table
from experiments.study_extras import FIGURES, STARRED, commit_of, extras, found, growth
from experiments.study_figures import draw, recalls
from experiments.tuned import ROWS, names_of, protocol
from textfuse_jax.evaluation import figures
from textfuse_jax.evaluation.records import read_results
from textfuse_jax.evaluation.report import markdown_table

HERE = pathlib.Path(__file__).parent
Line = Mapping[str, Any]


TITLES = {
    "baselines": "Main table: baselines and both papers' models",
    "ablation": "What each part of Pyramid-GNN adds",
    "learning_rate": "Learning rate and stability over seeds",
    "pooling_share": "Mean, attention, or how much of each",
    "graph_construction": "Which nodes, which edges",
    "hidden_size": "Hidden size: scarcity or redundancy?",
    "imbalance": "Class imbalance and its remedies",
    "data_efficiency": "How many labels are needed",
    "graph_benchmarks": "R8, MR, TREC, Ohsumed, 20 Newsgroups",
    "text_length": "Short, medium and long texts",
    "backbone": "Which encoder",
    "domain_transfer": "From one domain to others",
}


def section(name: str, path: pathlib.Path) -> str:
    """Heading, what was done, table, figure and findings of one study."""
    module = importlib.import_module(f"experiments.{name}")
    order = {setting: i for i, setting in enumerate([s.name for s in module.SETTINGS] + names_of(name))}
    published = {s.name: s.published for s in module.SETTINGS} | {row.name: row.published for row in ROWS if row.study == name}
    known, times = {line["setting"]: line for line in newest(path) if line["setting"] in order}, latencies(name)
    keys = {r.name: protocol(r) for r in ROWS if r.study == name}
    for s in (s for s in module.SETTINGS if s.name in known):  # weights of an encoder need not be here to make a table
        keys[s.name] = module.STUDY.protocol(s, {k: v for k, v in known[s.name].items() if k == "encoder_fingerprint"})
    lines = [
        line
        | {"published": published[setting], "latency": times.get(setting)}
        | {"older": line["protocol"] != keys[setting], "unpaired": not paired_with(line, known.get(line["reference"]), keys)}
        for setting, line in known.items()
    ]
    lines.sort(key=lambda line: order[line["setting"]])
    hardware = machines(lines)
    missing = {setting: published[setting] for setting in order if setting not in known}
    about = module.__doc__.split("\n\n")
    figure = FIGURES / f"study_{name}.png"
    figures.save(draw(name, lines), figure)
    parts = [f"### {TITLES[name]}", " ".join(" ".join([about[0], *about[2:]]).split())]  # the second is the command
    parts += [table(lines, missing), f"![{TITLES[name]}](figures/{figure.name})"]
    parts += pairs_table(name, lines)
    parts += extras(name, lines)
    parts += found(name)
    commits = ", ".join(sorted({commit_of(line) for line in lines}))
    most = max(line["seeds"] for line in lines)
    own_rows = [line["rows_of_each_seed_differ"] for line in lines]
    varies = ["initial weights and dropout"] * any(line["trials_together"] > 1 or line["regime"] == "tuned" for line in lines)
    varies = [f"their training rows{'' if all(own_rows) else ' (not of all settings)'}"] * any(own_rows) + varies
    timing = (
        "ms a text: from text to probabilities, frozen encoder included, one by one and 64 at a time; median of rounds in which "
        f"all rows take turns, load average {loads(list(times.values()))} (`python -m experiments.latency`). "
        if times
        else ""
    )
    before = sum(line.get("read_before", 0) > 0 for line in lines)
    unlogged = sum("read_before" not in line for line in lines)  # of a time when earlier readings weren't counted
    again = f"The test split had been read before under earlier settings of {before} of {len(lines)} rows. " * (before > 0)
    again += f"Of {unlogged} older rows it isn't logged how often it had been read. " * (unlogged > 0)
    size = f"{most} seed{'s' * (most > 1)} (numbers 0 to {most - 1}) where nothing else is said"
    where = "; letters: on which machine" * (": " in hardware)
    stale = "† measured with settings or a way of choosing that have changed since. " * any(line["older"] for line in lines)
    parts.append(
        f"{stale}{again}{size}, which differ in {', '.join(varies)}; intervals and p draw seeds "
        f"and documents, not what was chosen. `chosen`: {chooses(lines)} Training: a seed's share of trials side by side, their "
        "evaluations included, without compilation and without the features of a frozen encoder, which are extracted once; of a "
        f"tuned encoder's run the steps alone{where}. {timing}{precision(lines)}Load average {loads(lines)} on {hardware}. "
        f"Commit {commits}{STARRED * ('*' in commits)}; `python -m experiments.{name}`."
    )
    return "\n\n".join(parts)


def precision(lines: Sequence[Line]) -> str:
    """What the encoder's products took, where it isn't bfloat16 in all rows."""
    taken = {line["setting"]: line.get("products", line["fields"].get("encoder.dtype", "bfloat16")) for line in lines}
    others = {name: dtype for name, dtype in taken.items() if dtype != "bfloat16"}
    if not others:
        return ""
    rows = "all rows" if len(others) == len(taken) else f"{len(others)} of {len(taken)} rows"
    told = " or ".join(sorted({one for dtype in others.values() for one in dtype.split(", ")}))
    return f"Products of the encoder in {told} in {rows}, else in bfloat16. "


def machines(lines: Sequence[dict[str, Any]]) -> str:
    """Where the lines were measured; of several machines each has a letter, which the lines take as ``on``."""
    names = sorted({machine for line in lines for machine in line["hardware"].split("; ")})
    if len(names) == 1:
        return names[0]
    letters = dict(zip(names, string.ascii_uppercase))
    for line in lines:
        line["on"] = f" ({', '.join(letters[machine] for machine in line['hardware'].split('; '))})"
    return "; ".join(f"{letter}: {name}" for name, letter in letters.items())


def paired_with(line: Line, other: Line | None, keys: Mapping[str, str]) -> bool:
    """Whether a line was compared with the line of its reference that the table shows."""
    if other is None:
        return False
    if "reference_protocol" in line:
        return line["reference_protocol"] == other["protocol"]
    current = [one["protocol"] == keys[one["setting"]] for one in (line, other)]
    return current[0] == current[1]  # of a time when lines didn't tell


def chooses(lines: Sequence[Line]) -> str:
    """How the column ``chosen`` came about."""
    chose = [line for line in lines if any(line["chosen"])]
    if not chose:
        return "nothing, settings and configs say it all."
    by = "each seed on rows of its own" if chose[0]["rows_of_each_seed_differ"] else "one seed for all"
    if len({line["rows_of_each_seed_differ"] for line in chose}) > 1:
        by = "each seed on rows of its own where these differ, else one seed for all"
    rows = sorted({line["data"]["validation"] for line in chose})
    size = " to ".join(f"{n:,}" for n in dict.fromkeys((rows[0], rows[-1])))
    edge = " (`^`: at an edge of it)" * any("^" in choice(line) for line in chose)
    return (
        f"the point of the setting's grid{edge} with the least nll on validation ({size} rows), by {by}; C of "
        "a logistic regression on the encoder by accuracy where the study doesn't choose by nll, of TF-IDF always by nll; –: "
        "fixed beforehand."
    )


def latencies(study: str) -> dict[str, Line]:
    """Newest line of ``experiments.latency`` of each row of a study."""
    path = HERE / "results" / "latency.jsonl"
    return {line["setting"]: line for line in (read_results(path) if path.exists() else []) if line["of"] == study}


def loads(lines: list[Line]) -> str:
    """The range of the machine's load averages."""
    found = [line["load_average"] for line in lines]
    return f"{min(found):.1f} to {max(found):.1f}"


def newest(path: pathlib.Path) -> list[dict[str, Any]]:
    """The last line of each setting; lines of older protocols, without a choice on validation, are left out."""
    return list({line["setting"]: line for line in read_results(path) if "chosen" in line}.values())


def table(lines: list[Line], missing: Mapping[str, Any] | None = None) -> str:
    """Two tables of the same rows: accuracy, difference from the reference, published; then other metrics and costs.

    ``missing``: rows that weren't measured -> what is published of them.
    """
    graphs, topics = (any(fact in line for line in lines) for fact in ("edges_a_node", "same_topic"))
    uneven = any(line["fields"].get("data.imbalance", 1) > 1 for line in lines)
    several = len({line["reference"] for line in lines}) > 1
    first: dict[str, Callable[[Line], str]] = {
        "setting": lambda line: named(line) + (f" ({line['diverged']} of {line['seeds']} diverged)" if line["diverged"] else ""),
        "regime": lambda line: "words alone" if "TF-IDF +" in line["setting"] else line["regime"],
        "train / test rows": lambda line: f"{line['data']['train']:,} / {line['data']['test']:,}",
        "accuracy on validation": lambda line: spread(line["validation"]["accuracy"]),
        "accuracy, mean ± sd": lambda line: spread(line["test"]["accuracy"]),
        "95 %": lambda line: "[{:.3f}, {:.3f}]".format(*line["accuracy_ci95"]),
        "macro-F1": lambda line: spread(line["test"]["f1_macro"]),
        "difference, points [95 %]": lambda line: difference(line, several)[0],
        "p": lambda line: difference(line)[1],
        "published": lambda line: told(line["published"]),
    }
    second: dict[str, Callable[[Line], str]] = {"setting": named}
    for name, metric in {
        "macro-precision": "precision_macro",
        "macro-recall": "recall_macro",
        "AUC": "auc_ovr",
    }.items():
        second[name] = lambda line, metric=metric: spread(line["test"].get(metric, []))
    for name, metric in {"NLL": "nll", "Brier": "brier"}.items():
        second[name] = lambda line, metric=metric: mean(line["test"].get(metric))
    second["ECE, after temperature"] = lambda line: (
        f"{mean(line['test'].get('ece'), 3)}, {mean(line.get('ece_after_temperature'), 3)}"
    )
    if uneven:
        second["recall, minority"] = lambda line: spread(recalls(line)[0])
        second["recall, majority"] = lambda line: spread(recalls(line)[1])
    if graphs:
        second["edges a node"] = lambda line: mean(line.get("edges_a_node"), 1)
        second["cosine of nodes"] = lambda line: mean(line.get("cosine_of_nodes"), 3)
    if topics:
        second["edges in one topic / all pairs"] = lambda line: (
            f"{mean(line.get('same_topic'), 3)} / {mean(line.get('same_topic_of_all_pairs'), 3)}"
        )
    second["chosen"] = choice
    if any(line["regime"] == "scratch" for line in lines):
        second["best step"] = lambda line: mean(line.get("best_step"), 0)
    second |= {
        "trained parameters": lambda line: f"{line['parameters']:,}",
        "training, s a seed": lambda line: f"{line['seconds_a_trial']:.1f}{line.get('on', '')}",
    }
    if any(line.get("latency") for line in lines):
        second["ms a text, 1 / 64"] = speed
    unmeasured = [[setting, "not measured", *["–"] * (len(first) - 3), told(known)] for setting, known in (missing or {}).items()]
    return "\n\n".join(
        markdown_table(list(columns), [[of(line) for of in columns.values()] for line in lines] + more, left=left)
        for columns, more, left in ((first, unmeasured, 2), (second, [], 1))
    )


def named(line: Line) -> str:
    """Its setting; the seeds of a tuned one, which are fewer; † of an older line."""
    seeds = f" ({line['seeds']} seed{'s' * (line['seeds'] > 1)})" if line.get("regime") == "tuned" else ""
    return line["setting"] + seeds + " †" * line.get("older", False)


def difference(line: Line, named: bool = False) -> list[str]:
    """Points of accuracy over the reference, which is named where a table has several, and p."""
    if line["setting"] == line["reference"]:
        return ["reference", "–"]
    if "difference" not in line or line.get("unpaired"):
        return ["–", "–"]
    low, high = (100 * x for x in line["difference_ci95"])
    points = f"{100 * line['difference']:+.2f} [{low:+.2f}, {high:+.2f}]"
    return [points + f" from {line['reference']}" * named, f"{line['p']:.3f}"]


def choice(line: Line) -> str:
    """What validation chose for the setting, or for its seeds; ``^``: at an edge of its grid."""
    names = {"optimizer.learning_rate": "rate", "optimizer.encoder_learning_rate": "encoder's rate"}
    points = line.get("grid") or [one["fields"] for one in line.get("choices", ())]  # () where a fit chose
    tried = sorted(tuple(point.values()) for point in points)
    edges = (tried[0], tried[-1]) if len(tried) > 2 else ()
    told = [
        ", ".join(f"{names.get(field, field)} {value:g}" for field, value in point.items())
        + "^" * (tuple(point.values()) in edges)
        for point in line["chosen"]
    ]
    return "; ".join(dict.fromkeys(filter(None, told))) or "–"


def speed(line: Line) -> str:
    """Milliseconds a text, one by one and 64 at a time; the hardware where it isn't that of the training."""
    timed = line.get("latency")
    if not timed:
        return "not measured"
    where = f" ({timed['hardware']})" if timed["hardware"] != line["hardware"] else ""
    return " / ".join(f"{ms:.1f}" for ms in timed["latency_ms"].values()) + where


def spread(values: list[float]) -> str:
    """``mean ± sd`` of what is known."""
    values = [v for v in values if v is not None]
    if not values:
        return "–"
    sd = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{sd}"


def mean(values: list[float] | None, digits: int = 4) -> str:
    """The mean, or a dash."""
    values = [value for value in values or () if value is not None]
    return "–" if not values else f"{np.mean(values):.{digits}f}"


def told(published: Mapping[str, Any] | None) -> str:
    """The paper's numbers, or that there are none."""
    if not published:
        return "none"
    numbers = ", ".join(f"{m} {v:g}" for m, v in published.items() if m != "source")
    return f"{numbers} ({published['source']})" if numbers else published["source"]


def sections() -> list[str]:
    """A section for each study that was run; the others say that they were not."""
    parts, missing = ["## Studies"], []
    for name, title in TITLES.items():
        path = HERE / "results" / f"{name}.jsonl"
        if path.exists() and newest(path):
            parts.append(section(name, path))
        else:
            missing.append(f"`experiments.{name}` ({title})")
    parts += (cost := growth())
    if not cost:
        missing.append("`experiments.length_growth` (What length costs)")
    if not (HERE / "results" / "latency.jsonl").exists():
        missing.append("`experiments.latency` (milliseconds a text of the main table's and the ablation's rows)")
    if missing:
        parts.append(f"Not run: {'; '.join(missing)}.")
    return parts if len(parts) > 1 else []
