"""What a report says of a fusion: members and combiners side by side, paired tests, answers that were missing, routing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from textfuse_jax.evaluation import figures
from textfuse_jax.evaluation.report import markdown_table, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POLICIES = {"expected_gain": "by expected gain", "max_confidence": "by the encoder's uncertainty", "random": "at random"}


def section(fusion: Mapping[str, Any]) -> list[str]:
    """Markdown blocks of a run's ``result["fusion"]``."""
    metric = fusion["facts"]["with_llm"]["metric"]
    rows = []
    for one in fusion["members"]:
        c = one["comparison"]
        key = "f1_macro" if metric == "f1_macro" else "accuracy"
        low, high = (100 * x for x in c.get(f"{key}_difference_ci95", (0.0, 0.0)))
        told = f"{100 * c.get(f'{key}_difference', 0.0):+.2f} [{low:+.2f}, {high:+.2f}]"
        rows.append(
            [
                one["name"],
                one["kind"],
                number(one["validation"]),
                number(one["test"]),
                one["missing"],
                told,
                number(c["mcnemar"]["p"]),
            ]
        )
    header = [
        "member alone",
        "what it is",
        f"{metric}, validation",
        f"{metric}, test",
        "missing",
        "fused less member, points [95 %]",
        "McNemar p",
    ]
    parts = ["## Fusion", fusion["note"] + ".", markdown_table(header, rows, left=2)]
    combiners = [[name, number(value)] for name, value in fusion["combiners"].items()]
    parts += (
        []
        if not combiners
        else [
            "Combiners on validation (the test split is read by the chosen one alone):",
            markdown_table(["combiner", metric], combiners),
        ]
    )
    if fusion.get("asked"):
        asked = [
            [
                name,
                one["kind"],
                one["documents"],
                one.get("calls", "–"),
                one.get("from_cache", "–"),
                sum(one["missing"].values()),
                _reasons(one),
            ]
            for name, several in fusion["asked"].items()
            for one in several
        ]
        header = ["member", "what it is", "documents", "calls", "from cache", "missing", "why"]
        parts += ["### What was asked", markdown_table(header, asked, left=2)]
    if fusion.get("routing"):
        parts += [
            f"### Which documents are worth a call (llm.call_share = {fusion['call_share']:g})",
            routing_table(fusion["routing"]),
        ]
    return parts


def lines(fusion: Mapping[str, Any]) -> list[str]:
    """The same in a few lines for the console."""
    told = [f"fusion: {fusion['note']}"]
    for one in fusion["members"]:
        told.append(f"  {one['name']} ({one['kind']}) alone: {one['test']:.4f} on test, {one['missing']} missing")
    return told


def routing_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Quality by share of calls, for each policy, and the share of the whole gain."""
    header = ["share of calls", *(name for name in POLICIES.values()), "gain reached", "over random, points [95 %]"]
    body = []
    for row in rows:
        one = row["expected_gain"]
        low, high = (100 * x for x in one["over_random_ci95"])
        reached = "–" if one["gain_share"] is None else f"{100 * one['gain_share']:.0f} %"
        body.append(
            [f"{row['share']:.0%}", *(number(row[name]["value"]) for name in POLICIES), reached]
            + [f"{100 * one['over_random']:+.2f} [{low:+.2f}, {high:+.2f}]"]
        )
    return markdown_table(header, body)


def draw_routing(rows: Sequence[Mapping[str, Any]], title: str = "") -> Figure:
    """Quality against share of calls: a line a policy, with its 95 % interval."""
    figure = figures.new_figure(7.0, 4.2)
    ax = figure.subplots()
    for (name, label), (colour, marker, style) in zip(POLICIES.items(), figures.SERIES):
        x = [100 * row["share"] for row in rows]
        ax.plot(x, [row[name]["value"] for row in rows], color=colour, marker=marker, linestyle=style, markersize=4, label=label)
        low, high = ([row[name]["ci95"][side] for row in rows] for side in (0, 1))
        ax.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
    ax.set(xlabel="documents of which the LLM is asked (%)", ylabel="quality", title=title)
    ax.grid(True, color="#E6E6E6")
    ax.legend(frameon=False, fontsize=9)
    return figure


def _reasons(one: Mapping[str, Any]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in one["missing"].items()) or "–"
