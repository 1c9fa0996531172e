"""Rows of the studies' tables whose encoder is tuned: a run each, one after another, resumable, recorded as they end.

    TEXTFUSE_DATA=DIR nohup python -m experiments.tuned [STUDY | "ROW" ...] [--seeds=5] [:runlocal] &

Runs what isn't recorded yet, of all studies, or of the studies (baselines, data_efficiency, graph_benchmarks) and rows that are
named, by ``launch``'s own function in runs/tuned; stop it by SIGTERM and start it again, on this machine or on another. A row is
appended to the study's JSON lines after each seed, with all the seeds there are by then, and regime "tuned"; it is compared as
soon as its reference is there too. Rows mixed with TF-IDF take the finished run of the row without; where it isn't on this
machine, it is trained anew. The lists are in the order in which results are wanted: 8,000 rows of AG News (26 to 29 minutes a run
on one core of a Xeon, for two passes a step), the text-graph sets (MR 10 minutes, R8 half an hour, others more), few rows, all
rows of AG News. The whole list takes days on 2 idle cores. ``:runlocal``: the first of the rows named, small.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import hashlib
import json
import os
import pathlib
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments import paired, study_linear
from experiments.study import RESULTS, WORK, interval, scores, strata
from experiments.study_training import Outcome, reliability
from experiments.tuned_rows import ROWS, Row
from textfuse_jax.config import default_config
from textfuse_jax.evaluation.calibration import apply_temperature
from textfuse_jax.evaluation.records import append_result, plain, read_predictions, read_results
from textfuse_jax.experiment import EXIT_INTERRUPTED, Interrupted, differences, run
from textfuse_jax.predict import Predictor
from textfuse_jax.training import setup

FOLDER = pathlib.Path("runs") / "tuned"


SEEDS = 5


def record(row: Row, seed: int) -> dict[str, Any]:
    """The row's line with one seed more, from that seed's finished run and the line before; appended to the study's file."""
    folder, corpus = folder_of(row, seed), setup.load_corpus(row.at(0))
    result, found = json.loads((folder / "result.json").read_text()), read_predictions(folder / "predictions.csv")
    if list(found.ids) != list(corpus.test.ids):
        raise ValueError(f"{folder} was tested on other documents than the data now holds; remove the folder to train it again")
    scaled = apply_temperature(np.log(np.maximum(found.probabilities, 1e-30)), result["calibration"]["temperature"])
    facts = {
        "chosen": [{}],
        "parameters": result["training"]["trained_parameters"],
        "seconds_a_trial": result["training"]["seconds"],
        "diverged": 0,
        "trials_together": 1,
        "ece_after_temperature": [result["calibration"]["test_ece_after"]],
        "temperature": [result["calibration"]["temperature"]],
        "reliability": [reliability(found.probabilities, scaled, corpus.test.labels)],
    }
    validation = {m: [result["validation"].get(m)] for m in ("accuracy", "f1_macro", "nll")}
    outcome = Outcome(found.probabilities[None], validation, facts)
    if row.words:
        held = Predictor(folder, shown="  validation, batches").probabilities(corpus.validation.texts)
        outcome = study_linear.mixed(study_linear.words_of(corpus), dataclasses.replace(outcome, held=held), corpus)
    line = {
        "study": row.study,
        "setting": row.name,
        "protocol": protocol(row),
        "fields": fields_of(row),
        "regime": "tuned",
        "products": json.loads((folder / "config.json").read_text())["encoder"]["dtype"],
        "data": {name: result["data"][name] for name in ("name", "train", "validation", "test")},
        "seeds": 1,
        "rows_of_each_seed_differ": row.resample,
        "validation": outcome.validation,
        **scores(corpus, outcome.probabilities),
        "strata": strata(corpus, outcome.probabilities),
        "reference": row.against,
        "published": plain(dict(row.published)) if row.published else None,
        "seconds": [outcome.facts["seconds_a_trial"]],
        "test_split_read": "once, by the best weights on validation of each seed",
        "read_before": len(readings(row) - {(row.name, protocol(row))}),
        "fingerprint": result["fingerprint"],
        "hardware": result["hardware"],
        "load_average": round(os.getloadavg()[0], 1),
        "commit": result["commit"],
        **outcome.facts,
    }
    line = compared(row, extended(paired.newest(lines_of(row), row.name, protocol(row)), line))
    append_result(results_of(row), line)
    for other in ROWS:
        if other.study == row.study and other.against == row.name != other.name:
            other = dataclasses.replace(other, small=row.small)
            theirs = paired.newest(lines_of(other), other.name, protocol(other))
            if theirs and "difference" not in theirs:  # it was measured before what it is compared with
                append_result(results_of(other), compared(other, theirs))
    return line


def compared(row: Row, line: dict[str, Any]) -> dict[str, Any]:
    """The row's line beside as many seeds of what it is compared with; as it is where that isn't measured yet."""
    against = next(one for one in ROWS if (one.study, one.name) == (row.study, row.against))
    theirs = line if against.name == row.name else paired.newest(lines_of(row), against.name, protocol(against))
    if theirs is None:
        return line
    seeds = min(line["seeds"], theirs["seeds"])
    mine, theirs = ({**one, "right": one["right"] | {"seeds": one["right"]["seeds"][:seeds]}} for one in (line, theirs))
    return line | paired.compared(mine, theirs)


def extended(before: Mapping[str, Any] | None, line: dict[str, Any]) -> dict[str, Any]:
    """A seed's line with the seeds of an earlier line, which may be of another machine."""
    if before and before["right"]["tested"] != line["right"]["tested"]:
        raise ValueError(f"{line['setting']}: its line of {before['seeds']} seeds is of other test documents; remove the line")
    if before:
        line = line | {"seeds": before["seeds"] + 1}
        for part in ("validation", "test", "recall"):
            line[part] = {name: before[part][name] + values for name, values in line[part].items()}
        for name in ("seconds", "ece_after_temperature", "temperature", "chosen"):
            line[name] = before[name] + line[name]
        line["reliability"] = before.get("reliability", []) + line["reliability"]  # earlier seeds may have none
        line["strata"]["accuracy"] = [a + b for a, b in zip(before["strata"]["accuracy"], line["strata"]["accuracy"])]
        line["right"]["seeds"] = before["right"]["seeds"] + line["right"]["seeds"]
        line["products"] = ", ".join(sorted({*before.get("products", "bfloat16").split(", "), line["products"]}))
        line["hardware"] = "; ".join(sorted({*before["hardware"].split("; "), line["hardware"]}))
        line["accuracy_ci95"] = interval(paired.of_line(line))
    return line | {"seconds_a_trial": round(float(np.mean(line["seconds"])), 1)}


def fields_of(row: Row) -> dict[str, Any]:
    """What names the row's runs: its config, the fields on top of it, and a digest of what they come to."""
    made = json.dumps(differences(default_config(), row.at(0)))
    told = {"config": row.config, "made": hashlib.sha256(made.encode()).hexdigest()[:12]}
    told |= {"data.seed": "each its own"} if row.resample else {}
    return plain(dict(row.fields)) | told | ({"mixed": study_linear.mixed.digest} if row.words else {})


def protocol(row: Row) -> str:
    """A digest of what names the row's runs."""
    return hashlib.sha256(json.dumps(fields_of(row), sort_keys=True).encode()).hexdigest()[:16]


def folder_of(row: Row, seed: int) -> pathlib.Path:
    """Where a run of the row lies; rows of several studies share those that are the same."""
    name = f"{row.config.replace(':', '_')}_{protocol(dataclasses.replace(row, words=False))[:8]}"
    return FOLDER / ("local" if row.small else "") / name / str(seed)


def results_of(row: Row) -> pathlib.Path:
    """The file that the row's lines are appended to."""
    return (WORK / "local" / "tuned" if row.small else RESULTS) / f"{row.study}.jsonl"


def lines_of(row: Row) -> list[dict[str, Any]]:
    """All lines of the file that the row's are appended to."""
    path = results_of(row)
    return read_results(path) if path.exists() else []


def readings(row: Row) -> set[tuple[str, str]]:
    """What has read the test split by this row or, of a mixture, by the row whose runs it takes: names and protocols."""
    run = folder_of(dataclasses.replace(row, small=False), 0)
    same = [other.name for other in ROWS if other.study == row.study and folder_of(other, 0) == run]
    shared = {row.name, *same} if row.words else {row.name}
    return {(line["setting"], line["protocol"]) for line in lines_of(row) if line["setting"] in shared}


def recorded(row: Row) -> int:
    """How many seeds the newest line of the row has."""
    line = paired.newest(lines_of(row), row.name, protocol(row))
    return line["seeds"] if line else 0


def names_of(study: str) -> list[str]:
    """The rows that the study's table takes from here."""
    return [row.name for row in ROWS if row.study == study]


def selected(names: Sequence[str]) -> list[Row]:
    """The rows that studies' and rows' names ask for, in the order of ``ROWS``; all where nothing is named.

    Raises:
      ValueError: a name that is neither; the near ones are told.
    """
    known = {row.study for row in ROWS} | {row.name for row in ROWS}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 3) or sorted({row.study for row in ROWS})
            raise ValueError(f"{name!r} has no tuned rows; there are {', '.join(near)}")
    return [row for row in ROWS if not names or row.study in names or row.name in names]


def main(arguments: list[str]) -> int:
    """Runs and records; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.tuned")
    parser.add_argument("names", nargs="*", metavar="STUDY | ROW")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="runs of each row, first one of every row")
    told = parser.parse_args(arguments)
    names = [name for name in told.names if name.lstrip(":") != "runlocal"]
    if told.seeds < 1:
        parser.error(f"--seeds must be >= 1, got {told.seeds}")
    try:
        mine, seeds = selected(names), told.seeds
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    small = len(names) < len(told.names)
    if small:  # the first row, anew
        mine, seeds = [dataclasses.replace(row, small=True) for row in mine[:1]], 1
        for row in mine:
            results_of(row).unlink(missing_ok=True)
            shutil.rmtree(folder_of(row, 0), ignore_errors=True)
    for seed in range(seeds):  # first a seed of every row, then the next
        for row in mine:
            if recorded(row) > seed:
                continue
            folder = folder_of(row, seed)
            if not (folder / "result.json").exists():
                print(f"{row.study}: {row.name}, seed {seed}, in {folder}", flush=True)
                try:
                    run(row.at(seed), folder, resume=(folder / "config.json").exists())
                except Interrupted as stopped:
                    print(stopped, flush=True)
                    return EXIT_INTERRUPTED
            line = record(row, seed)
            print(f"{row.name}: accuracy {np.mean(line['test']['accuracy']):.4f} over {line['seeds']} seeds", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
