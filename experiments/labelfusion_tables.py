"""Tables and figures of docs/labelfusion.md, between its marks, from the studies' lines.

python -m experiments.labelfusion_tables
"""

from __future__ import annotations

import pathlib

from textfuse_jax.evaluation import figures
from textfuse_jax.evaluation.records import read_results
from textfuse_jax.evaluation.report import markdown_table
from textfuse_jax.fusion.reporting import draw_routing, routing_table

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS, FIGURES = ROOT / "experiments" / "results", ROOT / "docs" / "figures"
PAPER = 0.844
"""Accuracy of the LLM in the paper."""


def lines_of(name: str) -> list[dict]:
    """The last line of each setting."""
    path = RESULTS / f"{name}.jsonl"
    held = read_results(path) if path.exists() else []
    keys = ("rows", "llm", "correlation", "setting")
    return list({tuple(str(line.get(key)) for key in keys): line for line in held}.values())


def agnews_table(lines: list[dict]) -> str:
    """Encoder, simulated LLM and fusion at every number of rows and quality of the LLM."""
    header = [
        "training rows",
        "LLM (simulated), correlation",
        "encoder",
        "LLM",
        "fused [95 %]",
        "less best member, points [95 %]",
    ]
    header += ["McNemar p", "gain at 20 % of the calls: learned, uncertainty"]
    rows = []
    for line in sorted(lines, key=lambda r: (r["rows"], r["correlation"], r["llm"])):
        test, fifth = line["comparison"][line["best_member"]], next(r for r in line["routing"] if r["share"] == 0.2)
        low, high = (100 * x for x in test["accuracy_difference_ci95"])
        reached = [fifth[name]["gain_share"] for name in ("expected_gain", "max_confidence")]
        rows.append(
            [f"{line['rows']:,}", f"{line['llm']:.1%}, {line['correlation']:g}"]
            + [f"{100 * line['members'][name]:.2f}" for name in ("encoder", "llm")]
            + ["{:.2f} [{:.1f}, {:.1f}]".format(*(100 * x for x in (line["fused"]["accuracy"], *line["fused_ci95"])))]
            + [f"{100 * line['difference_from_best']:+.2f} [{low:+.2f}, {high:+.2f}]", f"{test['mcnemar']['p']:.2g}"]
            + [", ".join("no gain" if x is None else f"{x:.0%}" for x in reached)]
        )
    return markdown_table(header, rows, left=2)


def draw_quality(lines: list[dict], by: str, label: str, keep: dict):
    """Accuracy of encoder, LLM and fusion with intervals against one field, the others as ``keep`` says."""
    chosen = sorted((r for r in lines if all(r[k] == v for k, v in keep.items())), key=lambda r: r[by])
    figure = figures.new_figure(6.4, 4.2)
    ax = figure.subplots()
    x = [100 * r[by] if by == "llm" else r[by] for r in chosen]
    series = {
        "encoder": [r["members"]["encoder"] for r in chosen],
        "LLM, simulated": [r["members"]["llm"] for r in chosen],
        "fused": [r["fused"]["accuracy"] for r in chosen],
    }
    for (name, y), (colour, marker, style) in zip(series.items(), figures.SERIES):
        ax.plot(x, [100 * v for v in y], color=colour, marker=marker, linestyle=style, label=name)
        if name == "fused":
            ax.fill_between(
                x, *([100 * r["fused_ci95"][k] for r in chosen] for k in (0, 1)), color=colour, alpha=0.15, linewidth=0
            )
    ax.set(xlabel=label, ylabel="test accuracy (%)")
    if by == "rows":
        ax.set_xscale("log")
        ax.set_xticks(x, [f"{r:,}" for r in x])
        ax.minorticks_off()
    ax.grid(True, color="#E6E6E6")
    ax.legend(frameon=False)
    return figure


def goemotions_table(lines: list[dict]) -> str:
    """Per label: the encoder with tuned thresholds, and fused with the simulated LLM."""
    alone, fused = (next(r for r in lines if r["setting"].startswith(name)) for name in ("tuned", "fused"))
    rows = [
        [label, str(one["support"]), f"{alone['thresholds'][label]:.3f}"]
        + [f"{one[key]:.3f}" for key in ("precision", "recall", "f1")]
        + [f"{fused['test']['per_class'][label]['f1']:.3f}"]
        for label, one in alone["test"]["per_class"].items()
    ]
    low, high = alone["test"]["ci95"]["f1_macro"]
    mean = [f"{alone['test']['f1_macro']:.3f} [{low:.3f}, {high:.3f}]"]
    rows.append(["**macro**", "", "", "", "", *mean, f"{fused['test']['f1_macro']:.3f}"])
    return markdown_table(
        ["label", "test documents", "threshold", "precision", "recall", "F1", "F1, fused with the simulated LLM"], rows
    )


def fill(path: pathlib.Path, mark: str, block: str) -> None:
    """Puts the block between ``<!-- mark -->`` and ``<!-- end of mark -->``."""
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(f"<!-- {mark} -->\n")
    _, found, after = rest.partition(f"<!-- end of {mark} -->")
    if not found:
        raise SystemExit(f"{path} must hold <!-- {mark} --> and <!-- end of {mark} -->")
    path.write_text(f"{before}<!-- {mark} -->\n\n{block}\n\n<!-- end of {mark} -->{after}", encoding="utf-8")


def main() -> None:
    """Writes the blocks of docs/labelfusion.md and its figures."""
    page = ROOT / "docs" / "labelfusion.md"
    agnews = [line for line in lines_of("labelfusion") if line["simulated"]]
    if agnews:
        most = max(line["rows"] for line in agnews)
        shape = {"llm": PAPER, "correlation": 0.0}
        figures.save(
            draw_quality(agnews, "rows", "training rows (4,000 = the paper's 100 %)", shape), FIGURES / "labelfusion_rows.png"
        )
        at = {"rows": most, "correlation": 0.0}
        figures.save(draw_quality(agnews, "llm", "accuracy of the simulated LLM (%)", at), FIGURES / "labelfusion_quality.png")
        routed = next(r for r in agnews if (r["rows"], r["llm"], r["correlation"]) == (most, 0.9, 0.0))["routing"]
        figures.save(draw_routing(routed, f"{most:,} rows, simulated LLM of 90 %"), FIGURES / "labelfusion_routing.png")
        pictures = [
            f"![Accuracy against training rows, simulated LLM of {PAPER:.1%}](figures/labelfusion_rows.png)",
            f"![Accuracy against the quality of the simulated LLM, {most:,} rows](figures/labelfusion_quality.png)",
            f"![Routing on test, {most:,} rows, simulated LLM of 90 %](figures/labelfusion_routing.png)",
        ]
        fill(page, "agnews", "\n\n".join([agnews_table(agnews), *pictures, routing_table(routed)]))
    goemotions = lines_of("labelfusion_goemotions")
    if goemotions:
        fill(page, "goemotions", goemotions_table(goemotions))
    print(f"{page} written")


if __name__ == "__main__":
    main()
