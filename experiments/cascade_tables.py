"""Sections of docs/results.md for the studies of cascades, from their JSON lines."""

from __future__ import annotations

import importlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.cascade_study import protocol
from experiments.study_tables import found
from textfuse_jax.evaluation import figures
from textfuse_jax.evaluation.records import read_results
from textfuse_jax.evaluation.report import markdown_table

HERE = pathlib.Path(__file__).parent
FIGURES = HERE.parent / "docs" / "figures"
TITLES = {
    "rumor_protocols": "Rumour cascades: all sets, all protocols",
    "rumor_fusion": "Rumour cascades: fusion, selection, graph",
    "rumor_early": "Rumour cascades: early detection",
}
ABSENT = (
    "Mean of the folds: the macro-F1 of an event that has one class only (ebola has rumours alone) counts the class that it "
    "lacks as 0. "
)
Line = Mapping[str, Any]


def sections() -> list[str]:
    """A section for each study that was run; the others say that they were not."""
    found = []
    for name, title in TITLES.items():
        path = HERE / "results" / f"{name}.jsonl"
        if path.exists():
            found.append(section(name, path))
        else:
            found.append(f"### {title}\n\nNot measured (`python -m experiments.{name}`).")
    return found


def section(name: str, path: pathlib.Path) -> str:
    """Heading, what was done, table, figure and findings of one study."""
    module = importlib.import_module(f"experiments.{name}")
    newest = {line["setting"]: line for line in read_results(path)}
    there = [s for s in module.SETTINGS if s.name in newest]
    keys = {s.name: protocol(s.built(), s, newest[s.name]["seeds"]) for s in there}
    lines = [newest[s.name] | {"published": s.published, "older": older(newest[s.name], keys)} for s in there]
    missing = [s.name for s in module.SETTINGS if s.name not in newest]
    about = module.__doc__.split("\n\n")
    parts = [f"### {TITLES[name]}", about[0].strip().replace("\n", " ") + " " + about[-1].strip().replace("\n", " ")]
    parts.append(table(lines, missing))
    parts += [f"![Early detection](figures/{early(lines).name})"] if name == "rumor_early" else []
    parts += found(name)
    told = {
        key: ", ".join(sorted({str(line[key])[: 12 if key == "commit" else None] for line in lines}))
        for key in ("hardware", "commit")
    }
    seeds = sorted({line["seeds"] for line in lines})
    stale = "† measured with settings or a model that have changed since. " if any(line["older"] for line in lines) else ""
    events = ABSENT if any(line.get("folds_of") == "events" for line in lines) else ""
    parts.append(
        f"{stale}Seeds: {', '.join(map(str, seeds))}. "
        "Accuracy and macro-F1: of all folds' test cascades together, mean over seeds; sd: "
        f"over folds and seeds, each with a test part of its own. {events}Intervals and p draw seeds and cascades. "
        "min: training of a setting's folds and seeds together, without reading its posts, in part beside other work. "
        f"{told['hardware']}, commit {told['commit']}; `python -m experiments.{name}`."
    )
    return "\n\n".join(parts)


def older(line: Line, keys: Mapping[str, str]) -> bool:
    """Whether a line, or one that it was compared with, is of other settings than ``keys`` are digests of."""
    of = {one["reference"]: one.get("reference_protocol") for one in (line, *line.get("others", ())) if "reference" in one}
    return line["protocol"] != keys[line["setting"]] or any(key and key != keys.get(name) for name, key in of.items())


def table(lines: Sequence[Line], missing: Sequence[str]) -> str:
    """A row a setting; columns that no line has are left out."""
    columns = {
        "setting": lambda line: line["setting"] + (" †" if line.get("older") else ""),
        "classes": lambda line: str(len(line["classes"])),
        "cascades / posts": lambda line: f"{line['data']['cascades']:,} / {line['data']['posts']:,}",
        "source of augmentation": lambda line: (line.get("augmentation") or {}).get("source", "–"),
        "posts selected": lambda line: f"{line['selection']['selected']:,}" if "selection" in line else "–",
        "accuracy ± sd": lambda line: pooled(line, "accuracy"),
        "macro-F1 ± sd": lambda line: pooled(line, "f1_macro"),
        "seeds": lambda line: str(line["seeds"]),
        "mean of the folds": lambda line: " / ".join(f"{np.mean(line['folds'][m]):.4f}" for m in ("accuracy", "f1_macro")),
        "F1 of rumours": lambda line: f"{np.mean(line['f1']['rumour']):.4f}" if "rumour" in line["f1"] else "–",
        "difference, points [95 %]": difference,
        "p": lambda line: "; ".join(f"{one['p']:.3f}" for one in comparisons(line)) or "–",
        "eps, clusters, outliers": clustered,
        "constant answer": constant,
        "id alone": lambda line: both(line.get("id_probe")),
        "time alone": lambda line: both(line.get("time_probe")),
        "source's words alone": lambda line: both(line.get("words_probe")),
        "parameters": lambda line: f"{line['parameters']:,}",
        "min": lambda line: f"{line['minutes']:.1f}",
        "published": lambda line: told(line.get("published")),
        "commit": lambda line: line["commit"][:9] if len({one["commit"] for one in lines}) > 1 else "–",
    }
    optional = (
        "source of augmentation",
        "posts selected",
        "F1 of rumours",
        "difference, points [95 %]",
        "p",
        "eps, clusters, outliers",
        "id alone",
        "time alone",
        "source's words alone",
    )
    optional += ("published", "commit")
    rows = {name: [of(line) for line in lines] for name, of in columns.items()}
    shown = [name for name in columns if name not in optional or any(value != "–" for value in rows[name])]
    body = [list(row) for row in zip(*(rows[name] for name in shown))]
    body += [[name, "not measured", *["–"] * (len(shown) - 2)] for name in missing]
    return markdown_table(shown, body)


def pooled(line: Line, metric: str) -> str:
    """Mean over seeds of what all folds' test cascades give together, and the sd over folds and seeds."""
    folds = line["folds"][metric]
    sd = f" ± {np.std(folds, ddof=1):.4f}" if len(folds) > 1 else ""
    return f"{np.mean(line['test'][metric]):.4f}{sd}"


def both(found: Mapping[str, float] | None) -> str:
    """Accuracy and macro-F1 of a probe."""
    return "–" if not found else f"{found['accuracy']:.3f} / {found['f1_macro']:.3f}"


def constant(line: Line) -> str:
    """Accuracy and macro-F1 of the constant answer, and its F1 of rumours, which older lines don't have."""
    told = line["constant"].get("f1") if line["classes"][1:] == ["rumour"] else None
    return both(line["constant"]) + ("" if told is None else f", F1 of rumours {told:.3f}")


def difference(line: Line) -> str:
    """Points of accuracy from the setting it is compared with."""
    found = []
    for one in comparisons(line):
        low, high = (100 * x for x in one["difference_ci95"])
        found.append(f"{100 * one['difference']:+.2f} [{low:+.2f}, {high:+.2f}] from {one['reference']}")
    return "; ".join(found) or "–"


def comparisons(line: Line) -> list[Line]:
    """The settings that one is compared with; none for an older line, whose reference isn't that of the table."""
    return [line, *line.get("others", ())] if "difference" in line and not line.get("older") else []


def clustered(line: Line) -> str:
    """What DBSCAN found: the median eps of the cascades, how many clusters and outliers."""
    found = line.get("selection") or {}
    return f"{found['eps']:.3f}, {found['clusters']:,}, {found['outliers']:,}" if "clusters" in found else "–"


def told(published: Mapping[str, Any] | None) -> str:
    """The published numbers and where they are from."""
    if not published:
        return "–"
    names = {"f1_macro": "macro-F1", "f1": "F1"}
    said = ", ".join(f"{names.get(m, m)} {v:g}" for m, v in published.items() if m not in ("source", "best"))
    return f"{said} ({published['source']})" + (f"; {published['best']}" if "best" in published else "")


def early(lines: Sequence[Line]) -> pathlib.Path:
    """Accuracy against what was known, drawn: posts and minutes beside each other."""
    figure = figures.new_figure(8.4, 3.6)
    whole = next((line for line in lines if not line["group"]), None)
    for ax, (group, label) in zip(
        figure.subplots(1, 2, sharey=True), (("first_posts", "posts known"), ("first_minutes", "minutes since the source"))
    ):
        found = sorted((line["fields"][f"cascades.{group}"], line) for line in lines if line["group"] == group)
        for metric, name, colour, marker in (
            ("accuracy", "accuracy", figures.BLUE, "o"),
            ("f1_macro", "macro-F1", figures.GREEN, "s"),
        ):
            ax.plot(
                [n for n, _ in found],
                [np.mean(line["test"][metric]) for _, line in found],
                color=colour,
                marker=marker,
                label=name,
            )
            if whole:
                ax.axhline(np.mean(whole["test"][metric]), color=colour, linestyle="--", linewidth=1)
        probe = [(n, line["time_probe"]["accuracy"]) for n, line in found if line.get("time_probe")]
        if probe:
            ax.plot(*zip(*probe), color=figures.GREY, marker="^", linestyle=":", label="accuracy of times alone")
        ax.set_xscale("log")
        ax.set_xticks([n for n, _ in found], [f"{n:g}" for n, _ in found])
        ax.minorticks_off()
        ax.set_xlabel(label)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(True, color="#E6E6E6", linewidth=0.8)
    ax.legend(frameon=False, fontsize=8)
    figure.axes[0].set_ylabel("score on the test folds, one seed")
    figure.suptitle("PHEME, 5 folds; dashed: whole threads", fontsize=10)
    return figures.save(figure, FIGURES / "study_rumor_early.png")
