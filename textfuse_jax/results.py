"""What was run, and which run is better.

    python -m textfuse_jax.results list    [--root runs]              every run below the folder, the newest first
    python -m textfuse_jax.results show    RUN                        its scores, tests, and what its config changes
    python -m textfuse_jax.results compare RUN RUN [RUN ...]          side by side on the same test documents, with paired tests

RUN is a run folder, or enough of its name to be the only one below the root. ``list`` keeps ``<root>/index.json``; a run that is
new or has changed is read again, one that was deleted is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from textfuse_jax.evaluation.metrics import classification_metrics
from textfuse_jax.evaluation.records import Predictions, read_predictions, write_json
from textfuse_jax.evaluation.report import comparison_lines, headline, markdown_table, number
from textfuse_jax.evaluation.statistics import compare

SHOWN = ("accuracy", "f1_macro", "precision_macro", "recall_macro")


class ResultsError(ValueError):
    """Runs that can't be found or compared; the message says what is there instead."""


def index(root: pathlib.Path) -> list[dict[str, Any]]:
    """A line a run below ``root``, the newest first; written to ``root/index.json`` where something has changed.

    A line holds ``run`` (its path below root), ``status`` ("finished", "unfinished", "sweep"), config, data, train, seed, commit,
    hardware, when (seconds), accuracy and f1_macro on test.
    """
    file = root / "index.json"
    try:
        before = {line["run"]: line for line in _read(file, list)} if file.exists() else {}
    except (ResultsError, TypeError, KeyError):
        before = {}  # it is made of the runs, and made anew
    found = []
    for path in sorted(root.rglob("config.json")):
        folder = path.parent
        result = folder / "result.json"
        if not result.exists() and not (folder / "metrics.jsonl").exists():
            continue  # a model's own config, or a run that never took a step
        name = folder.relative_to(root).as_posix()
        stamp = (result if result.exists() else path).stat()
        key = [stamp.st_mtime_ns, stamp.st_size, result.exists()]
        known = before.get(name)
        try:
            found.append(known if known and known["key"] == key else _line(name, folder, key))
        except ResultsError as error:
            print(f"warning: {error}; left out", file=sys.stderr)
    found.sort(key=lambda line: -line["when"])
    if found != list(before.values()):
        write_json(file, found)
    return found


def _read(path: pathlib.Path, kind: type = dict) -> Any:
    """A JSON file.

    Raises:
      ResultsError: it is none, e.g. cut off.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ResultsError(f"{path} can't be read ({error}); was it cut off? Remove it, or run again") from None
    if not isinstance(held, kind):
        raise ResultsError(f"{path} holds a {type(held).__name__}, must be a {kind.__name__}; remove it, or run again")
    return held


def _line(name: str, folder: pathlib.Path, key: list) -> dict[str, Any]:
    line: dict[str, Any] = {"run": name, "key": key, "when": key[0] / 1e9, "status": "unfinished"}
    config = _read(folder / "config.json")
    line |= {"config": config.get("name", ""), "seed": config.get("seed")}
    if not key[2]:
        return line
    result = _read(folder / "result.json")
    line |= {"status": "sweep" if "sweep" in result else "finished", "commit": result.get("commit")}
    line |= {"hardware": result.get("hardware"), "fingerprint": result.get("fingerprint")}
    line |= {name: result.get("data", {}).get(key) for name, key in (("data", "name"), ("train", "train"))}
    for metric in ("accuracy", "f1_macro"):
        value = result.get("test", {}).get(metric)
        line[metric] = value["mean"] if isinstance(value, dict) else value
    return line


def find(root: pathlib.Path, name: str) -> pathlib.Path:
    """The run folder of this path or part of a name.

    Raises:
      ResultsError: none, or several; near names are listed.
    """
    if (pathlib.Path(name) / "config.json").exists():
        return pathlib.Path(name)
    runs = [line["run"] for line in index(root)] if root.is_dir() else []
    hits = [run for run in runs if name in run]
    if len(hits) != 1:
        there = ", ".join((hits or runs)[:10]) or "none"
        raise ResultsError(f"{name!r} is {'no run' if not hits else f'{len(hits)} runs'} below {root}; there are {there}")
    return root / hits[0]


def predictions_of(run: pathlib.Path) -> tuple[Predictions, bool]:
    """Predictions of a run on its test split, and whether documents may have several labels.

    Raises:
      ResultsError: the run hasn't ended.
    """
    path = run / "predictions.csv"
    if not path.exists() or not (run / "result.json").exists():
        raise ResultsError(f"{run} isn't finished; go on with python launch.py --workdir={run} --resume")
    result = _read(run / "result.json")
    multi_label = "f1_micro" in result["test"]
    return read_predictions(path, multi_label=multi_label), multi_label


def compare_runs(runs: Sequence[pathlib.Path], resamples: int = 1000) -> dict[str, Any]:
    """Scores of runs on the same test documents, and the paired tests of each against the first.

    Returns:
      {"documents", "scores": [{metric: value}], "tests": [None, ``statistics.compare``, ...]}.

    Raises:
      ResultsError: runs of other test documents, labels or classes; the first that differs is named.
    """
    read = [predictions_of(run) for run in runs]
    (first, multi_label), scores, tests = read[0], [], []
    for run, (other, several) in zip(runs, read):
        if (other.class_names, several) != (first.class_names, multi_label):
            raise ResultsError(
                f"{run} has the classes {other.class_names}, {runs[0]} {first.class_names}; they can't be compared"
            )
        if other.ids != first.ids or not np.array_equal(other.labels, first.labels):
            differ = [a for a, b in zip(other.ids, first.ids) if a != b]
            where = f"document {differ[0]!r} stands where the other has another" if differ else "their numbers or labels differ"
            raise ResultsError(f"{run} was tested on other documents than {runs[0]}: {where}; compare runs of one test split")
        decided = _decided(other, multi_label)
        found = classification_metrics(other.labels, decided, other.class_names)
        scores.append({metric: found[metric] for metric in SHOWN})
        tests.append(
            None if run is runs[0] else compare(first.labels, decided, _decided(first, multi_label), "first", resamples=resamples)
        )
    return {"documents": len(first.ids), "scores": scores, "tests": tests}


def _decided(run: Predictions, multi_label: bool) -> np.ndarray:
    """Probabilities that say what was predicted, by whatever thresholds that was."""
    return run.predicted.astype(np.float64) if multi_label else run.probabilities


def list_lines(root: pathlib.Path) -> str:
    """The index as a table."""
    header = ["run", "config", "data", "train rows", "seed", "accuracy", "macro-F1", "ended", "commit", "status"]
    rows = [
        [line["run"], line["config"], line.get("data") or "–", number(line.get("train")), number(line["seed"])]
        + [
            number(line.get("accuracy")),
            number(line.get("f1_macro")),
            time.strftime("%Y-%m-%d %H:%M", time.localtime(line["when"])),
        ]
        + [(line.get("commit") or "–")[:9], line["status"]]
        for line in index(root)
    ]
    return (
        markdown_table(header, rows, left=3) if rows else f"no run below {root}; python launch.py --config=configs/quickstart.py"
    )


def show_lines(run: pathlib.Path) -> str:
    """One run: its headline, what its tests say, what its config changes."""
    from textfuse_jax.config import default_config
    from textfuse_jax.experiment import differences, read_config

    path = run / "result.json"
    if not path.exists():
        raise ResultsError(f"{run} isn't finished; go on with python launch.py --workdir={run} --resume")
    result = _read(path)
    changed = [line.removeprefix("config.") for line in differences(default_config(), read_config(run / "config.json"))]
    parts = [f"{run}: {result['config']}, commit {(result.get('commit') or 'none')[:9]}, {result.get('hardware', '')}"]
    if "sweep" in result:
        parts.append(f"a sweep, {result['sweep']}; see {run / 'sweep.md'}")
    else:
        parts += [markdown_table(*headline(result)), "\n".join(comparison_lines(result))]
        if "fusion" in result:
            from textfuse_jax.fusion.reporting import lines

            parts.append("\n".join(lines(result["fusion"])))
    return "\n\n".join([*filter(None, parts), "Fields that differ from the defaults:\n" + "\n".join(changed)])


def compare_lines(runs: Sequence[pathlib.Path]) -> str:
    """``compare_runs`` as a table and a sentence a pair."""
    found = compare_runs(runs)
    rows = [[str(run), *(number(scores[m]) for m in SHOWN)] for run, scores in zip(runs, found["scores"])]
    lines = [markdown_table(["run", *SHOWN], rows), f"{found['documents']:,} test documents."]
    for run, test in zip(runs[1:], found["tests"][1:]):
        told = []
        for metric in ("accuracy", "f1_macro"):
            low, high = (100 * x for x in test[f"{metric}_difference_ci95"])
            told.append(f"{metric} {100 * test[f'{metric}_difference']:+.2f} points (95 % {low:+.2f} to {high:+.2f})")
        m = test["mcnemar"]
        lines.append(
            f"{run} less {runs[0]}: {', '.join(told)}, paired bootstrap; McNemar p = {number(m['p'])} "
            f"({m['only_ours']} right in {run.name} alone, {m['only_theirs']} in {runs[0].name} alone)"
        )
    return "\n\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m textfuse_jax.results", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, runs in (("list", 0), ("show", 1), ("compare", 2)):
        command = commands.add_parser(name)
        command.add_argument("--root", default="runs", help="folder that holds the runs")
        if runs:
            command.add_argument("runs", nargs="+" if runs > 1 else 1, metavar="RUN")
    options = parser.parse_args(arguments)
    root = pathlib.Path(options.root)
    try:
        if options.command == "list":
            print(list_lines(root))
        elif options.command == "show":
            print(show_lines(find(root, options.runs[0])))
        elif len(options.runs) < 2:
            raise ResultsError("compare needs two runs or more")
        else:
            print(compare_lines([find(root, name) for name in options.runs]))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ResultsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
