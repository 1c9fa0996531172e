"""Sections of docs/results.md for LabelFusion, from the JSON lines of ``labelfusion`` and ``labelfusion_goemotions``."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.study_tables import found
from textfuse_jax.evaluation import figures
from textfuse_jax.evaluation.records import read_results
from textfuse_jax.evaluation.report import markdown_table

HERE = pathlib.Path(__file__).parent
FIGURES = HERE.parent / "docs" / "figures"
FULL, PAPERS, HARD = 4000, 0.844, 0.5
"""The paper's training rows (100 %), its LLM's accuracy, and the correlation of mistakes that the curves are drawn at."""
ASKED = 0.2
PUBLISHED = {0.2: "RoBERTa 0.898, fused 0.922", 0.4: "0.910, 0.922", 1.0: "0.922, 0.924"}
"""LabelFusion's own figures by share of the training rows; 500 test rows."""
Line = Mapping[str, Any]


def sections() -> list[str]:
    """Both studies; what wasn't run is said to be not measured."""
    return [agnews(), goemotions()]


def lines_of(name: str) -> list[Line]:
    """Lines of a study, [] where it wasn't run."""
    path = HERE / "results" / f"{name}.jsonl"
    return read_results(path) if path.exists() else []


def agnews() -> str:
    """Accuracy at every number of training rows and every quality of the LLM; combiners; routing."""
    title = "### LabelFusion on AG News"
    newest = {(line["rows"], line["llm"], line["correlation"]): line for line in lines_of("labelfusion")}
    simulated = {key: line for key, line in newest.items() if line["simulated"]}
    if not simulated:
        return f"{title}\n\nNot measured (`python -m experiments.labelfusion`)."
    levels = sorted({key[1] for key in simulated})
    sizes = sorted({key[0] for key in simulated if all((key[0], level, HARD) in simulated for level in levels)})
    papers = [line for (_, level, _), line in sorted(simulated.items()) if level == PAPERS]
    one = next(iter(simulated.values()))
    parts = [
        title,
        "Tuned MiniLM and an LLM that is **simulated** (answers drawn at a level of accuracy, labelled so in every line). "
        f"{FULL:,} training rows are the paper's 100 %; {one['data']['validation']:,} validation and "
        f"{one['data']['test']:,} test documents. *Correlation* 0.5: its mistakes meet on texts that are hard for a TF-IDF model "
        "as well; 0: they fall anywhere. The encoder's opinion of training rows is out of fold; nothing is chosen on test.",
        f"The LLM at the paper's {PAPERS:.1%}:",
        markdown_table(
            [
                *("training rows", "correlation", "encoder", "LLM", "fused [95 %]", "points over the better one"),
                *("p, over encoder", "p, over LLM", "fused, LLM missing", "published"),
            ],
            [paper_row(line) for line in papers],
        ),
        "Points of the fusion over its better member, at every quality of the LLM (wanted: -0.3 or more everywhere; "
        f"the smallest here: {100 * min(line['difference_from_best'] for line in simulated.values()):+.2f}):",
        markdown_table(
            ["training rows", "correlation", *(f"LLM {level:.1%}" for level in levels)],
            [
                [
                    f"{rows:,}",
                    f"{rho:g}",
                    *(f"{100 * simulated[rows, level, rho]['difference_from_best']:+.2f}" for level in levels),
                ]
                for rows in sizes
                for rho in sorted({key[2] for key in simulated}, reverse=True)
                if all((rows, level, rho) in simulated for level in levels)
            ],
        ),
        f"Ways to join the two, the LLM at {PAPERS:.1%}, accuracy:",
        markdown_table(
            ["training rows", "correlation", "fused (committed)", *papers[0]["combiners"]],
            [
                [f"{x['rows']:,}", f"{x['correlation']:g}", f"{x['fused']['accuracy']:.4f}"]
                + [f"{value:.4f}" for value in x["combiners"].values()]
                for x in papers
            ],
        ),
        f"Share of the full gain that {ASKED:.0%} of the calls bring, by expected gain (by plain uncertainty), where the LLM is "
        f"the stronger member (wanted: 80 %; random: {ASKED:.0%}):",
        routing_table(simulated),
        f"![LabelFusion on AG News](figures/{curves(simulated, sizes, levels).name})",
        f"![Routing](figures/{routing_figure(simulated, sizes).name})",
    ]
    stored = [line for line in newest.values() if not line["simulated"]]
    if not stored:
        parts.append("A real LLM's answers: not measured (`--answers FILE` reads stored ones).")
    return "\n\n".join([*parts, *found("labelfusion"), made(list(simulated.values()), "labelfusion")])


def paper_row(line: Line) -> list[str]:
    """A row of the first table."""
    low, high = line["fused_ci95"]
    p = [f"{line['comparison'][name][f'mcnemar_p_vs_{name}']:.1g}" for name in ("encoder", "llm")]
    return [
        *(f"{line['rows']:,} ({line['rows'] / FULL:.0%})", f"{line['correlation']:g}"),
        *(f"{line['members'][name]:.4f}" for name in ("encoder", "llm")),
        f"{line['fused']['accuracy']:.4f} [{low:.3f}, {high:.3f}]",
        f"{100 * line['difference_from_best']:+.2f}",
        *p,
        f"{line['without_llm']:.4f}",
        PUBLISHED.get(line["rows"] / FULL, "–"),
    ]


def at(line: Line, share: float) -> Mapping[str, Any]:
    """The point of a routing curve."""
    return next(row for row in line["routing"] if row["share"] == share)


def routing_table(simulated: Mapping[tuple, Line]) -> str:
    """Gain at a fifth of the calls."""
    strong = {key: line for key, line in simulated.items() if line["members"]["llm"] > line["members"]["encoder"]}
    levels = sorted({key[1] for key in strong})
    rows = []
    for size, rho in sorted({(key[0], key[2]) for key in strong}):
        cells = []
        for level in levels:
            point = at(strong[size, level, rho], ASKED) if (size, level, rho) in strong else None
            shares = [point[name]["gain_share"] for name in ("expected_gain", "max_confidence")] if point else [None]
            cells.append("–" if None in shares else f"{shares[0]:.0%} ({shares[1]:.0%})")
        rows.append([f"{size:,}", f"{rho:g}", *cells])
    return markdown_table(["training rows", "correlation", *(f"LLM {level:.1%}" for level in levels)], rows)


def curves(simulated: Mapping[tuple, Line], sizes: Sequence[int], levels: Sequence[float]) -> pathlib.Path:
    """Accuracy against training rows with the paper's LLM, and against the quality of the LLM at the most rows."""
    figure = figures.new_figure(9.2, 3.8)
    left, right = figure.subplots(1, 2, sharey=True)
    most = max(sizes)
    sides = (
        (left, sizes, [simulated[rows, PAPERS, HARD] for rows in sizes], f"LLM simulated at {PAPERS:.1%}", "training rows"),
        (
            right,
            levels,
            [simulated[most, x, HARD] for x in levels],
            f"{most:,} training rows",
            "accuracy of the simulated LLM (%)",
        ),
    )
    for ax, x, lines, title, label in sides:
        x = [100 * value for value in x] if ax is right else list(x)
        low, high = zip(*(line["fused_ci95"] for line in lines))
        for name, colour, marker, style in (
            ("encoder", figures.BLUE, "s", "--"),
            ("llm", figures.ORANGE, "^", ":"),
        ):
            values = [100 * line["members"][name] for line in lines]
            ax.plot(x, values, color=colour, marker=marker, linestyle=style, label={"llm": "LLM (simulated)"}.get(name, name))
        ax.plot(x, [100 * line["fused"]["accuracy"] for line in lines], color=figures.GREEN, marker="o", label="fused, 95 %")
        ax.fill_between(x, [100 * v for v in low], [100 * v for v in high], color=figures.GREEN, alpha=0.2, linewidth=0)
        ax.set_title(title, fontsize=10)
        ax.set_xlabel(label)
        ax.grid(True, color="#E6E6E6", linewidth=0.8)
        ax.spines[["top", "right"]].set_visible(False)
    left.set_xscale("log")
    left.set_xticks(list(sizes), [f"{n:,}" for n in sizes])
    left.minorticks_off()
    left.set_ylabel("test accuracy (%)")
    left.set_ylim(75, 100)
    left.legend(frameon=False, fontsize=8)
    return figures.save(figure, FIGURES / "study_labelfusion.png")


def routing_figure(simulated: Mapping[tuple, Line], sizes: Sequence[int]) -> pathlib.Path:
    """Accuracy against the share of documents an LLM is asked about."""
    levels = [level for level in (PAPERS, 0.95) if (max(sizes), level, HARD) in simulated]
    figure = figures.new_figure(9.2, 3.6)
    for ax, level in zip(figure.subplots(1, len(levels), squeeze=False)[0], levels):
        rows = simulated[max(sizes), level, HARD]["routing"]
        share = [100 * row["share"] for row in rows]
        for name, label, colour, style in (
            ("expected_gain", "expected gain", figures.GREEN, "-"),
            ("max_confidence", "uncertainty", figures.BLUE, "--"),
            ("random", "random", figures.GREY, ":"),
        ):
            ax.plot(share, [100 * row[name]["value"] for row in rows], color=colour, linestyle=style, label=label)
            band = [[100 * row[name]["ci95"][k] for row in rows] for k in (0, 1)]
            ax.fill_between(share, *band, color=colour, alpha=0.12, linewidth=0)
        ax.set_title(f"{max(sizes):,} training rows, LLM simulated at {level:.1%}", fontsize=10)
        ax.set_xlabel("documents the LLM is asked about (%)")
        ax.set_ylabel("test accuracy (%), 95 %")
        ax.grid(True, color="#E6E6E6", linewidth=0.8)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=8, loc="lower right")
    return figures.save(figure, FIGURES / "study_labelfusion_routing.png")


def goemotions() -> str:
    """Macro-F1 with thresholds from validation, and every label."""
    title = "### GoEmotions, 28 labels, any number a text"
    newest = {line["setting"]: line for line in lines_of("labelfusion_goemotions")}
    if not newest:
        return f"{title}\n\nNot measured (`python -m experiments.labelfusion_goemotions`)."
    rows = [
        [name, *(f"{line['test'][m]:.4f} [{line['test']['ci95'][m][0]:.3f}, {line['test']['ci95'][m][1]:.3f}]" for m in SCORES)]
        + [f"{line['f1_macro_at_half']:.4f}" if "f1_macro_at_half" in line else "–"]
        for name, line in newest.items()
    ]
    rows.append(["published: BERT-base (Demszky et al. 2020)", "0.46", "–", "–", "–"])
    alone, *others = newest.values()
    labels = [
        [label, str(told["support"]), f"{alone['thresholds'][label]:.2f}"]
        + [f"{line['test']['per_class'][label]['f1']:.3f}" for line in (alone, *others)]
        for label, told in alone["test"]["per_class"].items()
    ]
    data = alone["data"]
    parts = [
        title,
        f"{data['train']:,} training texts, {data['test']:,} test texts. A threshold a label, tuned on validation alone and "
        "stored with the model. The LLM of the second row is **simulated** at recall and precision 0.4.",
        markdown_table(["setting", "macro-F1 [95 %]", "micro-F1 [95 %]", "exact match [95 %]", "macro-F1, all at 0.5"], rows),
        markdown_table(["label", "test texts", "threshold", *(f"F1, {name}" for name in newest)], labels),
    ]
    return "\n\n".join([*parts, *found("labelfusion_goemotions"), made(list(newest.values()), "labelfusion_goemotions")])


SCORES = ("f1_macro", "f1_micro", "accuracy")


def made(lines: Sequence[Line], name: str) -> str:
    """How the lines were made."""
    commits = ", ".join(sorted({line["commit"][:9] for line in lines}))
    return f"One seed. {lines[0]['hardware']}, commit {commits}; `python -m experiments.{name}`."
