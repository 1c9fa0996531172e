"""Any two rows of a study beside each other, from its recorded lines: what stands in docs/results.md as further pairs.

    python -m experiments.pairs STUDY                     # the pairs that the study's findings speak of
    python -m experiments.pairs STUDY "ROW" "OTHER ROW"   # these two

The difference of accuracy, its 95 % interval and p, as in the tables (``paired.compared``); nothing is trained. The pairs of the
findings were chosen after the rows were measured, and p isn't adjusted for their number.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from experiments import paired
from experiments.graph_benchmarks import PUBLISHED
from experiments.study import LOGREG, MIXED, RESULTS, TFIDF
from experiments.tuned_rows import BOTH, WHOLE
from textfuse_jax.evaluation.records import read_results
from textfuse_jax.evaluation.report import markdown_table

Line = Mapping[str, Any]
JOINED, WITHOUT = "Pyramid-GNN, taps and words", "taps and words without graph"
ROWS = ("4,000 rows", "8,000 rows", "all rows")
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
    "imbalance": [("1:6, logit adjustment", "1:6, balanced weights")],
    "graph_construction": [(f"{kind}, static", "no edges") for kind in ("kNN, k = 4", "union")],
    "data_efficiency": [
        *((f"{JOINED}, {rows}", f"{LOGREG}, {rows}") for rows in ROWS),
        *((f"Pyramid-GNN, {rows}", f"{LOGREG}, {rows}") for rows in ROWS),
        ("Pyramid-GNN, all rows", f"{TFIDF}, all rows"),
    ],
    "graph_benchmarks": [
        *((f"{name}, {JOINED}", f"{name}, {beside}") for beside in (WITHOUT, MIXED, LOGREG, TFIDF) for name in PUBLISHED),
        *((f"{name}, Pyramid-GNN", f"{name}, {LOGREG}") for name in PUBLISHED),
        *((f"{name}, {WHOLE}", f"{name}, {beside}") for beside in (JOINED, LOGREG, TFIDF) for name in PUBLISHED),
        *((f"{name}, {BOTH}", f"{name}, {beside}") for beside in (MIXED, TFIDF) for name in PUBLISHED),
        ("20newsgroups, " + MIXED, "20newsgroups, " + TFIDF),
    ],
    "text_length": [(f"{name}, Pyramid-GNN, windows", f"{name}, Pyramid-GNN") for name in ("20 Newsgroups", "IMDb")],
}
"""Study -> rows (row, beside which) that its findings speak of and that its table doesn't compare."""


def differences(lines: Sequence[Line], pairs: Sequence[tuple[str, str]]) -> list[list[str]]:
    """A row of the table for each pair of which both are among the lines: row, beside, points [95 %], p.

    Args:
      lines: of a study; the last of each setting counts, and is marked † where it is told to be ``older``. Two that were
        tested on other documents can't be compared: –.
    """
    known = {line["setting"]: line for line in lines if "right" in line}
    found = []
    for row, beside in pairs:
        if row in known and beside in known:
            names = [f"{name}{' †' * known[name].get('older', False)}" for name in (row, beside)]
            try:
                told = paired.compared(known[row], known[beside])
            except ValueError:  # of other documents, or of other numbers of seeds
                found.append([*names, "–", "–"])
                continue
            low, high = (100 * x for x in told["difference_ci95"])
            found.append([*names, f"{100 * told['difference']:+.2f} [{low:+.2f}, {high:+.2f}]", f"{told['p']:.3f}"])
    return found


def pairs_table(study: str, lines: Sequence[Line]) -> list[str]:
    """The block of a study's section; none where it has no pairs."""
    found = differences(lines, PAIRS.get(study, ()))
    if not found:
        return []
    about = "Further pairs that the findings speak of, chosen after the rows were measured; p isn't adjusted for their number."
    return [about, markdown_table(["row", "beside", "difference, points [95 %]", "p"], found, left=2)]


def chosen(study: str, rows: Sequence[str]) -> tuple[list[Line], Sequence[tuple[str, str]]]:
    """A study's lines and the pairs that are asked for.

    Raises:
      ValueError: there are no such lines, or they don't tell which documents were right; says what to do.
    """
    path = RESULTS / f"{study}.jsonl"
    if not path.exists():
        near = difflib.get_close_matches(study, [one.stem for one in RESULTS.glob("*.jsonl")], 3)
        hint = f"did you mean {', '.join(near)}?" if near else f"run python -m experiments.{study} first"
        raise ValueError(f"no {path}; {hint}")
    lines = read_results(path)
    told = dict.fromkeys(line["setting"] for line in lines if "right" in line)
    for row in rows:
        if row not in told and any(line.get("setting") == row for line in lines):
            raise ValueError(
                f"{study}: {row!r} was recorded before lines told which documents were right; remove its lines and run "
                f"python -m experiments.{study} again"
            )
        if row not in told:
            near = difflib.get_close_matches(row, told, 3) or list(told)
            raise ValueError(f"{study} has no recorded row {row!r}; there are {', '.join(map(repr, near)) or 'none'}")
    pairs = [tuple(rows)] if rows else PAIRS.get(study, ())
    if not pairs:
        raise ValueError(f"the findings of {study} speak of no further pairs; name two of its rows: {', '.join(map(repr, told))}")
    return lines, pairs


def main(arguments: Sequence[str]) -> int:
    """Prints; returns the exit code."""
    if len(arguments) not in (1, 3):
        print('usage: python -m experiments.pairs STUDY ["ROW" "OTHER ROW"]', file=sys.stderr)
        return 2
    try:
        lines, pairs = chosen(arguments[0], arguments[1:])
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for row, beside, points, p in differences(lines, pairs):
        print(f"{row} beside {beside}: {points} points, p {p}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
