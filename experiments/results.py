"""Tables from the record: ``docs/results.md``, and the block between the result marks of README.md.

    python -m experiments.results        (or: make results)

Reads ``experiments/results/*.jsonl`` alone; nothing is typed by hand.
"""

from __future__ import annotations

import pathlib
import re

from textfuse_jax.evaluation.records import read_results
from textfuse_jax.evaluation.report import markdown_table

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments" / "results"
METRICS = (("accuracy", "accuracy"), ("f1_macro", "macro-F1"), ("precision_macro", "precision"), ("auc_ovr", "AUC"))


def score(value: float | None, interval: list[float] | None = None) -> str:
    """A share with four digits, and its 95 % interval."""
    if value is None:
        return "–"
    return f"{value:.4f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")


def letters(runs: list[dict]) -> list[str]:
    """A letter for each run, by which the lists below a table refer to it."""
    return [f"({chr(ord('a') + i)})" for i in range(len(runs))]


def runs_table(runs: list[dict]) -> str:
    """Test scores of recorded runs, each with its reference and published line."""
    rows, published = [], {}
    references: set[int] = set()
    for label, run in zip(letters(runs), runs):
        rows.append(
            [f"{run['config']} {label}", f"{run['data']['train']:,}", f"{run['test']['n']:,}", str(run["seed"])]
            + [score(run["validation"]["accuracy"])]
            + [score(run["test"][key], run["test"]["ci95"].get(key)) for key, _ in METRICS]
            + [f"{run['training']['seconds'] / 60:.1f} min"]
        )
        for scores in run["reference"].values():
            if run["data"]["train"] in references:
                continue  # runs on the same rows share their reference
            references.add(run["data"]["train"])
            rows.append(
                ["TF-IDF + logistic regression", f"{run['data']['train']:,}", f"{scores['n']:,}", "–", "–"]
                + [score(scores[key]) for key, _ in METRICS]
                + [f"{scores['seconds'] / 60:.2f} min"]
            )
        if "published" in run:
            published[run["published"]["source"].split(" (")[0]] = run["published"]
    for source, scores in published.items():
        rows.append([f"published, {source}", "–", "–", "–", "–"] + [score(scores.get(key)) for key, _ in METRICS] + ["–"])
    header = [
        "run",
        "train rows",
        "test rows",
        "seed",
        "validation accuracy",
        *(f"{name} [95 %]" for _, name in METRICS),
        "training",
    ]
    return markdown_table(header, rows)


def comparisons(runs: list[dict]) -> str:
    """One line a run: difference from the reference with its interval, McNemar's p, and where it ran."""
    lines = []
    for label, run in zip(letters(runs), runs):
        c = run["comparison"]
        if "accuracy_difference" not in c:
            continue
        low, high = (100 * x for x in c["accuracy_difference_ci95"])
        lines.append(
            f"- {label} {run['data']['train']:,} rows: {100 * c['accuracy_difference']:+.2f} points over TF-IDF + "
            f"logistic regression (95 % {low:+.2f} to {high:+.2f}), McNemar p = {c['mcnemar_p_vs_tfidf_logreg']:.2g}; "
            f"{run['training']['documents_per_second']:.0f} documents/s, {run['hardware']}"
        )
    return "\n".join(lines)


def benchmark_table(records: list[dict]) -> str:
    """Speed beside what a user would pick instead; the newest line of each comparison."""
    newest = {record["name"]: record for record in records}
    header = ["comparison", "ours", "theirs", "ratio", "unit", "padding waste", "hardware"]
    rows = [
        [
            r["name"],
            f"{r['ours']:,}",
            f"{r['theirs']:,}",
            f"{r['ratio']:.2f}",
            r["unit"],
            f"{r['padding_waste']:.1%}",
            r["hardware"],
        ]
        for r in newest.values()
    ]
    return markdown_table(header, rows)


def build() -> tuple[str, str]:
    """The text of docs/results.md, and the block of the README."""
    runs = read_results(RESULTS / "runs.jsonl") if (RESULTS / "runs.jsonl").exists() else []
    speed = RESULTS / "benchmark_training.jsonl"
    groups: dict[str, list[dict]] = {}
    for run in runs:
        groups.setdefault(run["data"]["name"], []).append(run)
    parts = ["# Results", "Made by `python -m experiments.results` from `experiments/results/*.jsonl`; 95 % bootstrap intervals."]
    block = []
    for name, group in groups.items():
        parts += [f"## {name}", runs_table(group), comparisons(group)]
        block += [f"**{name}**", runs_table(group)]
        changed = [
            f"- {label} commit `{(run['commit'] or 'none')[:9]}`: {fields(run['changed'])}"
            for label, run in zip(letters(group), group)
        ]
        parts += ["Fields that differ from the defaults:", "\n".join(changed)]
    if speed.exists():
        parts += ["## Training speed", benchmark_table(read_results(speed))]
        block.append(benchmark_table(read_results(speed)))
    hardware = sorted({record["hardware"] for record in runs})
    parts.append(f"Hardware of the recorded runs: {'; '.join(hardware)}. On any other hardware: not measured.")
    return "\n\n".join(parts) + "\n", "\n\n".join(block)


def fields(changed: dict[str, str]) -> str:
    """``field = value`` of each changed field."""
    return ", ".join(f"`{field} = {value}`" for field, value in sorted(changed.items()) if field != "name") or "none"


def main() -> None:
    """Writes both files."""
    page, block = build()
    (ROOT / "docs" / "results.md").write_text(page)
    readme = ROOT / "README.md"
    marks = r"(<!-- results -->\n).*?(<!-- end of results -->)"
    text, found = re.subn(marks, lambda m: f"{m[1]}\n{block}\n\n{m[2]}", readme.read_text(), flags=re.S)
    if found != 1:
        raise SystemExit("README.md must hold <!-- results --> and <!-- end of results --> once")
    readme.write_text(text)
    print("docs/results.md and README.md written")


if __name__ == "__main__":
    main()
