"""Any two rows of a study beside each other, from its recorded lines: what stands in docs/results.md as further pairs.

    python -m experiments.pairs STUDY                     # the pairs that the study's findings speak of
    python -m experiments.pairs STUDY "ROW" "OTHER ROW"   # these two

The difference of accuracy, its 95 % interval and p, as in the tables (``paired.compared``); nothing is trained.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from experiments import paired
from experiments.study import RESULTS
from textfuse_jax.evaluation.records import read_results
from textfuse_jax.evaluation.report import markdown_table

Line = Mapping[str, Any]
TFIDF, LOGREG = "TF-IDF + logistic regression", "frozen encoder + logistic regression"
JOINED, MIXED = "Pyramid-GNN, taps and words", "TF-IDF and frozen encoder, mixed"
ROWS = ("4,000 rows", "8,000 rows", "all rows")
SETS = ("mr", "r8", "trec", "ohsumed", "20newsgroups")
PAIRS: dict[str, list[tuple[str, str]]] = {
    "ablation": [
        ("without pyramid", "without pyramid and graph"),
        ("without pyramid", "encoder alone"),
        ("without pyramid and graph", "encoder alone"),
    ],
    "baselines": [("attention-hybrid pooling", "encoder alone, last layer"), ("Pyramid-GNN", LOGREG), (JOINED, MIXED)],
    "pooling_share": [
        ("without self-attention, alpha = 0", "without self-attention, alpha = 1"),
        ("without self-attention, alpha = 0", "maximum, without self-attention"),
    ],
    "graph_construction": [(f"{kind}, static", "no edges") for kind in ("kNN, k = 4", "union")],
    "data_efficiency": [
        *((f"{JOINED}, {rows}", f"{LOGREG}, {rows}") for rows in ROWS),
        *((f"Pyramid-GNN, {rows}", f"{LOGREG}, {rows}") for rows in ROWS),
        ("Pyramid-GNN, all rows", f"{TFIDF}, all rows"),
    ],
    "graph_benchmarks": [
        *((f"{name}, {JOINED}", f"{name}, {MIXED}") for name in SETS),
        *((f"{name}, {JOINED}", f"{name}, {LOGREG}") for name in SETS),
        *((f"{name}, {JOINED}", f"{name}, {TFIDF}") for name in SETS),
        *((f"{name}, Pyramid-GNN", f"{name}, {LOGREG}") for name in SETS),
    ],
    "text_length": [
        *((f"{name}, encoder alone, windows", f"{name}, encoder alone") for name in ("20 Newsgroups", "IMDb")),
        *((f"{name}, Pyramid-GNN, windows", f"{name}, Pyramid-GNN") for name in ("20 Newsgroups", "IMDb")),
    ],
}
"""Study -> rows (row, beside which) that its findings speak of and that its table doesn't compare."""


def differences(lines: Sequence[Line], pairs: Sequence[tuple[str, str]]) -> list[list[str]]:
    """A row of the table for each pair of which both are among the lines: row, beside, points [95 %], p."""
    known = {line["setting"]: line for line in lines if "right" in line}
    found = []
    for row, beside in pairs:
        if row in known and beside in known:
            told = paired.compared(known[row], known[beside])
            low, high = (100 * x for x in told["difference_ci95"])
            found.append([row, beside, f"{100 * told['difference']:+.2f} [{low:+.2f}, {high:+.2f}]", f"{told['p']:.3f}"])
    return found


def pairs_table(study: str, lines: Sequence[Line]) -> list[str]:
    """The block of a study's section; none where it has no pairs."""
    found = differences(lines, PAIRS.get(study, ()))
    return [markdown_table(["row", "beside", "difference, points [95 %]", "p"], found, left=2)] if found else []


def main(arguments: Sequence[str]) -> int:
    """Prints; returns the exit code."""
    if len(arguments) not in (1, 3):
        print('usage: python -m experiments.pairs STUDY ["ROW" "OTHER ROW"]', file=sys.stderr)
        return 2
    study, *rows = arguments
    path = RESULTS / f"{study}.jsonl"
    lines = [line for line in read_results(path) if "right" in line] if path.exists() else []
    known = dict.fromkeys(line["setting"] for line in lines)
    if not known:
        print(f"error: {path} has no rows to compare; run python -m experiments.{study} first", file=sys.stderr)
        return 2
    for row in rows:
        if row not in known:
            near = difflib.get_close_matches(row, known, 3) or list(known)
            print(f"error: {study} has no recorded row {row!r}; there are {', '.join(map(repr, near))}", file=sys.stderr)
            return 2
    try:
        found = differences(lines, [tuple(rows)] if rows else PAIRS.get(study, ()))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for row, beside, points, p in found:
        print(f"{row} beside {beside}: {points} points, p {p}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
