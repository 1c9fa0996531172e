"""The report of a run: report.md for a reader, a table on the console for whoever waits for it.

Both are written from ``result.json``'s dict and nothing else is computed here, so that no number of a report differs from
the record it came from.
"""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

if TYPE_CHECKING:
    from rich.console import Console

HEADLINE = {
    "accuracy": "accuracy",
    "f1_macro": "F1, macro",
    "f1_micro": "F1, micro",
    "precision_macro": "precision, macro",
    "recall_macro": "recall, macro",
    "auc_ovr": "AUC, one vs rest",
    "nll": "NLL, nats ↓",
    "ece": "calibration, ECE ↓",
    "brier": "Brier score ↓",
}  # ↓ lower is better
REFERENCES = {
    "tfidf_logreg": "TF-IDF + logistic regression",
    "constant": "constant answer",
    "id_probe": "ids alone",
    "time_probe": "times alone",
}
TRAINING = {
    "documents": "documents",
    "epochs": "epochs",
    "steps": "steps",
    "best_step": "best step (weights kept)",
    "seconds": "wall time, s",
    "documents_per_second": "documents / s",
    "compilations": "compilations",
    "padding_waste": "padding waste (share of tokens)",
}
SELECTED = {
    "validation": "read once, after selection on validation",
    "test": "which also chose the epoch, as published figures of cascades do: no score of unseen ones",
}
TEXT_START = 120  # characters of a text that a table shows


def number(value: Any) -> str:
    """A number as a reader wants it: whole or large ones with thousands separated, shares with four decimals, tiny p values
    in powers of ten, a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int | np.integer) or abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.1e}" if 0 < abs(value) < 5e-5 else f"{value:.4f}"


def with_interval(value: Any, interval: Sequence[float] | None) -> str:
    """``0.9155 [0.9091, 0.9216]``; without the interval where there is none."""
    return number(value) + (f" [{number(interval[0])}, {number(interval[1])}]" if interval else "")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Any]], left: int = 1) -> str:
    """A markdown table; the first ``left`` columns are text, the rest numbers, set right. Cells can hold any character."""
    ruler = ["---" if k < left else "---:" for k in range(len(header))]
    return "\n".join("| " + " | ".join(map(_cell, row)) + " |" for row in (header, ruler, *rows))


def _cell(value: Any) -> str:
    text = " ".join(str(value).split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*|$~]|\](?=\())", r"\\\1", text)  # "](" would make a link of a text


def confident_mistakes(
    ids: Sequence[str],
    texts: Sequence[str],
    labels: Int[np.ndarray, "n"],
    probabilities: Float[np.ndarray, "n c"],
    class_names: Sequence[str],
    count: int = 15,
) -> list[dict[str, Any]]:
    """The wrong multi-class predictions that the model was surest of, the surest first: where to look for wrong labels.

    Returns:
      At most ``count`` of {"id", "text", "label", "predicted", "probability"}.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    predicted, sure = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(predicted != labels)
    return [
        {
            "id": ids[i],
            "text": texts[i],
            "label": class_names[labels[i]],
            "predicted": class_names[predicted[i]],
            "probability": float(sure[i]),
        }
        for i in wrong[np.argsort(-sure[wrong], kind="stable")][:count].tolist()
    ]


def headline(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the main table: each metric of this run beside the references and the published numbers."""
    test, references = result["test"], result.get("reference") or {}
    published = result.get("published") or {}
    header = ["metric (test)", "this run [95 %]", *(REFERENCES.get(name, name) for name in references)]
    header += ["published"] if published else []
    rows = []
    for key, name in HEADLINE.items():
        if key not in test:
            continue
        row = [name, with_interval(test[key], (test.get("ci95") or {}).get(key))]
        row += [number(reference.get(key)) for reference in references.values()]
        rows.append(row + ([number(published.get(key))] if published else []))
    return header, rows


def comparison_lines(result: Mapping[str, Any]) -> list[str]:
    """What the paired tests say, in words."""
    comparison, lines = result.get("comparison") or {}, []
    if "accuracy_difference_ci95" in comparison:
        low, high = comparison["accuracy_difference_ci95"]
        point = comparison.get("accuracy_difference")
        said = f"{100 * point:+.2f} points, " if point is not None else ""
        interval = f"95 % interval {100 * low:+.2f} to {100 * high:+.2f} (paired bootstrap)"
        lines.append(f"Accuracy against the reference: {said}{interval}.")
    for key, p in comparison.items():
        if key.startswith("mcnemar_p_vs_"):
            name = key.removeprefix("mcnemar_p_vs_")
            verdict = "errors differ in number" if p < 0.05 else "no difference shown at 5 %"
            lines.append(f"McNemar's test against {REFERENCES.get(name, name)}: p = {number(p)} ({verdict}).")
    calibration = result.get("calibration")
    if calibration:
        before, after = number(result["test"]["ece"]), number(calibration["test_ece_after"])
        fitted = f"T = {calibration['temperature']:.2f}, fitted on validation"
        lines.append(f"Calibration error: {before}, after temperature scaling ({fitted}) {after}.")
    if (result.get("published") or {}).get("source"):
        lines.append(f"Published numbers: {result['published']['source']}.")
    if result["test"].get("auc_ovr_reason"):
        lines.append(f"AUC: {result['test']['auc_ovr_reason']}.")
    return lines


def write_report(
    workdir: str | os.PathLike,
    result: Mapping[str, Any],
    config: Mapping[str, Any],
    environment: Mapping[str, Any],
    figures: Mapping[str, str | os.PathLike],
    warnings: Sequence[str],
    mistakes: Sequence[Mapping[str, Any]] = (),
    further: Sequence[str] = (),
) -> pathlib.Path:
    """Write ``workdir/report.md``.

    Args:
      workdir: the run folder.
      result: what result.json holds; ``result["data"]`` may give counts (``{"train": n, ...}``) and
        ``result["calibration"]`` {"temperature", "test_ece_after"}.
      config: the run's configuration, listed at the end.
      environment: of ``records.environment()``.
      figures: caption -> path; paths inside workdir are written relative to it.
      warnings: what the data checks found, one line each.
      mistakes: of ``confident_mistakes``.
      further: Markdown blocks that follow the results.

    Returns:
      The path of the report.
    """
    folder = pathlib.Path(workdir)
    folder.mkdir(parents=True, exist_ok=True)
    parts = [f"# {_cell(result['config'])}, seed {result['seed']}", *_results_section(result), *further]
    parts += _figures_section(folder, figures)
    if mistakes:
        parts += ["## Most confident mistakes", "Wrong predictions that the model was surest of; some may be wrong labels."]
        rows = [[m["id"], _start(m["text"]), m["label"], m["predicted"], f"{m['probability']:.4f}"] for m in mistakes]
        parts.append(markdown_table(["id", "text", "label", "predicted", "probability"], rows, left=4))
    parts += _data_section(result, warnings)
    parts += _training_section(result, environment)
    parts += ["## Configuration", _config_block(config)]
    path = folder / "report.md"
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def _start(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= TEXT_START else text[: TEXT_START - 2].rstrip() + " …"


def _results_section(result: Mapping[str, Any]) -> list[str]:
    test = result["test"]
    header, rows = headline(result)
    read = SELECTED[(result.get("training") or {}).get("chosen_on", "validation")]
    parts = [f"Test split: {test['n']:,} documents, {read}; 95 % bootstrap intervals.", markdown_table(header, rows)]
    parts += rewritten(result.get("training") or {})
    parts += ["\n".join(f"- {_cell(line)}" for line in comparison_lines(result))] if comparison_lines(result) else []
    validation = result.get("validation")
    if validation:
        known = [[HEADLINE[k], number(validation[k])] for k in HEADLINE if k in validation]
        parts += [f"### Validation ({validation['n']:,} documents)" if "n" in validation else "### Validation"]
        parts.append(markdown_table(["metric", "value"], known))
    if test.get("per_class"):
        each = [
            [name, number(row["precision"]), number(row["recall"]), number(row["f1"]), number(row["support"])]
            for name, row in test["per_class"].items()
        ]
        parts += ["## Per class", markdown_table(["class", "precision", "recall", "F1", "documents"], each)]
    return parts


def rewritten(facts: Mapping[str, Any]) -> list[str]:
    """Which posts of cascades were selected, and by whom they were rewritten; [] where none were."""
    if "augmentation" not in facts:
        return []
    told, selection = facts["augmentation"], facts["selection"]
    missing = ", ".join(f"{reason} {count:,}" for reason, count in (told.get("missing") or {}).items())
    lacking = f", {missing} without a text" if missing else ""
    return [f"Posts selected ({selection['rule']}): {selection['selected']:,}, rewritten by: {told['source']}{lacking}."]


def _figures_section(folder: pathlib.Path, figures: Mapping[str, str | os.PathLike]) -> list[str]:
    parts = ["## Figures"] if figures else []
    for caption, path in figures.items():
        target, base = pathlib.Path(path).resolve(), folder.resolve()
        shown = target.relative_to(base) if target.is_relative_to(base) else pathlib.Path(path)
        parts.append(f"![{_cell(caption)}](<{shown.as_posix()}>)")
    return parts


def _data_section(result: Mapping[str, Any], warnings: Sequence[str]) -> list[str]:
    rows = [["fingerprint (SHA-256)", result["fingerprint"]]]
    for key, value in (result.get("data") or {}).items():
        rows.append([key, ", ".join(map(str, value)) if isinstance(value, list | tuple) else number(value)])
    parts = ["## Data", markdown_table(["", ""], rows, left=2)]
    listed = "\n".join(f"- {_cell(w)}" for w in warnings) if warnings else "- none"
    return [*parts, f"Warnings ({len(warnings)}):", listed]


def _training_section(result: Mapping[str, Any], environment: Mapping[str, Any]) -> list[str]:
    training = result.get("training") or {}
    rows = [[name, number(training[key])] for key, name in TRAINING.items() if key in training]
    packages = environment.get("packages") or {}
    parts = ["## Training", markdown_table(["", ""], rows)] if rows else []
    git = environment.get("git") or {}
    dirty = " with uncommitted changes" if git.get("dirty") else ""
    facts = [
        ["hardware", result.get("hardware") or "unknown"],
        ["commit", (result.get("commit") or "not a checkout") + dirty],
        ["Python", f"{environment.get('python', 'unknown')}, {environment.get('platform', '')}"],
        ["packages", ", ".join(f"{name} {version}" for name, version in packages.items() if version)],
    ]
    return [*parts, "## Environment", markdown_table(["", ""], facts, left=2)]


def _config_block(config: Mapping[str, Any]) -> str:
    def lines(part: Mapping[str, Any], prefix: str) -> list[str]:
        out: list[str] = []
        for key, value in part.items():
            nested = isinstance(value, Mapping) and value
            out += lines(value, f"{prefix}{key}.") if nested else [f"{prefix}{key} = {value!r}"]
        return out

    return "```\n" + "\n".join(lines(config, "")).replace("```", "'''") + "\n```"


def console_table(result: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the main table and what the paired tests say, at the end of a run."""
    import rich.console
    import rich.markup
    import rich.table

    console = console or rich.console.Console()
    header, rows = headline(result)
    escape = rich.markup.escape
    table = rich.table.Table(title=escape(f"{result['config']}, seed {result['seed']}, {result['test']['n']:,} test documents"))
    for k, name in enumerate(header):
        table.add_column(escape(name), justify="right" if k else "left", style="bold" if k == 1 else None, no_wrap=k == 1)
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)
    for line in comparison_lines(result):
        console.print(escape(line), highlight=False)
    training = result.get("training") or {}
    spent = [f"{name} {number(training[key])}" for key, name in TRAINING.items() if key in training]
    if spent:
        console.print(escape("Training: " + ", ".join(spent)), highlight=False)
