"""Adds finished runs to the record that tables are made of.

    python -m experiments.record RUN_FOLDER [RUN_FOLDER ...]

One line a run in ``experiments/results/runs.jsonl``: its result.json, without per-class details, and the fields of its config
that differ from the defaults.
"""

from __future__ import annotations

import json
import pathlib
import sys

from textfuse_jax.config import default_config
from textfuse_jax.evaluation.records import append_result, read_results
from textfuse_jax.experiment import differences, read_config

RUNS = pathlib.Path(__file__).parent / "results" / "runs.jsonl"


def line_of(run: pathlib.Path) -> dict:
    """The line of one finished run.

    Raises:
      FileNotFoundError: the run hasn't ended.
    """
    result = json.loads((run / "result.json").read_text())
    for scores in (result["test"], result["validation"], *result["reference"].values()):
        scores.pop("per_class", None)  # what knows no document by itself, as the constant answer, has none
        scores.pop("confusion", None)
    lines = differences(default_config(), read_config(run / "config.json"))
    changed = dict(line.removeprefix("config.").split(": ", 1) for line in lines)
    changed = {
        field: value.split(" -> ", 1)[1]
        for field, value in changed.items()
        if not field.startswith(("evaluation.", "encoder.cache_dir"))
    }
    return result | {"changed": changed}


def main(arguments: list[str]) -> int:
    """Appends the runs that aren't in the record yet; returns the exit code."""
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    known = read_results(RUNS) if RUNS.exists() else []
    for run in map(pathlib.Path, arguments):
        line = line_of(run)
        if line in known:
            print(f"{run}: already recorded")
            continue
        append_result(RUNS, line)
        print(f"{run}: accuracy {line['test']['accuracy']:.4f} on {line['test']['n']} documents")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
