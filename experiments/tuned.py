"""Rows of the studies' tables whose encoder is tuned: a run each, one after another, resumable, recorded as they end.

    TEXTFUSE_DATA=DIR nohup python -m experiments.tuned [STUDY ...] &

Runs what isn't recorded yet, of all studies or of those named (baselines, data_efficiency, graph_benchmarks), by ``launch``'s own
function in runs/tuned; stop it by SIGTERM and start it again. A row is appended to the study's JSON lines after each seed,
with all the seeds there are by then, and regime "tuned". The whole list takes days on 2 idle cores; the lists are in the
order in which results are wanted.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments.graph_benchmarks import published
from experiments.study import RESULTS, WORK, compared, scores, store, strata
from textfuse_jax.evaluation.records import append_result, plain, read_predictions, read_results
from textfuse_jax.experiment import EXIT_INTERRUPTED, Interrupted, run
from textfuse_jax.training import setup, sweep

FOLDER = pathlib.Path("runs") / "tuned"


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a study's table.

    Attributes:
      study: whose table it joins.
      name: of the row; unique in the study.
      config: file in configs, with its argument: ``"graph_benchmarks:r8"``.
      fields: config field -> value, on top of it.
      against: the setting that it is compared with.
      published: as in ``study.Setting``.
    """

    study: str
    name: str
    config: str
    fields: Mapping[str, Any]
    against: str
    published: Mapping[str, Any] | None = None

    def at(self, seed: int) -> ConfigDict:
        """The config of one of its runs."""
        name, _, argument = self.config.partition(":")
        config = importlib.import_module(f"configs.{name}").get_config(argument or None)
        return sweep.with_fields(config, {**self.fields, "seed": seed, "data.seed": 0, "evaluation.graphs": 0})


ALONE = {"model.pyramid": "", "model.document_taps": ("06/document",), "model.propagate": "", "model.edges": ()}
PYRAMID = {"accuracy": 0.913, "f1_macro": 0.905, "auc_ovr": 0.947, "precision_macro": 0.908, "source": "arXiv 2511.05752"}
ATTENTION = {"precision_macro": 0.90, "recall_macro": 0.88, "f1_macro": 0.89, "auc_ovr": 0.94, "source": "arXiv 2512.09444"}
EIGHT = {"data.train_rows": 8000}
CLS = {
    "model.pyramid": "textfuse_jax.models.pyramid:Single",
    "model.pyramid_args": {"width": None},
    "model.levels": ("06/token",),
    "model.nodes": ("token",),
    "model.pooling": "textfuse_jax.models.pooling:First",
    "model.pooling_args": {},
    "model.document_taps": (),
    "model.propagate": "",
    "model.edges": (),
}
MEAN = "BERT-style fine-tuning, mean of the last layer"


def _benchmarks(name: str) -> list[Row]:
    config, against = f"graph_benchmarks:{name}", f"{name}, encoder alone, tuned"
    lexical = {"model.lexical": ""}
    return [
        Row("graph_benchmarks", against, config, {**ALONE, **lexical}, against),
        Row("graph_benchmarks", f"{name}, whole method, tuned", config, {}, against, published(name)),
    ]


ROWS = [
    Row("baselines", MEAN, "agnews_pyramid", {**EIGHT, **ALONE}, MEAN),
    Row("baselines", "BERT-style fine-tuning, [CLS]", "agnews_pyramid", {**EIGHT, **CLS}, MEAN),
    Row("baselines", "attention-hybrid pooling, tuned", "agnews_attention", EIGHT, MEAN, ATTENTION),
    Row("baselines", "Pyramid-GNN, tuned", "agnews_pyramid", EIGHT, MEAN, PYRAMID),
    *(row for name in ("r8", "mr", "ohsumed", "20newsgroups", "trec") for row in _benchmarks(name)),
    *(
        Row(
            "data_efficiency",
            f"Pyramid-GNN, tuned, {rows:,} rows",
            "agnews_pyramid",
            {"data.train_rows": rows, "data.validation_rows": min(rows, 2000), "training.total_epochs": epochs},
            f"encoder alone, {rows:,} rows",
            published,
        )
        for rows, epochs, published in (
            (1000, 8, {"accuracy": 0.880, "source": "SetFit, MiniLM"}),
            (4000, 4, None),
            (256, 20, {"accuracy": 0.890, "source": "best of SetFit, RoBERTa-large, PERFECT"}),
        )
    ),
]
SEEDS = 5


def record(row: Row) -> dict[str, Any] | None:
    """The row's line from all its finished runs, appended to the study's file; None where there is none."""
    folders = [f for f in (folder_of(row, seed) for seed in range(SEEDS)) if (f / "result.json").exists()]
    if not folders:
        return None
    results = [json.loads((folder / "result.json").read_text()) for folder in folders]
    corpus = setup.load_corpus(row.at(0))
    ours = np.stack([read_predictions(folder / "predictions.csv").probabilities for folder in folders])
    store(WORK / row.study / f"{row.name}.npz", ours, "")  # what other tuned rows are compared with
    kept = WORK / row.study / f"{row.against}.npz"
    difference = {}
    if kept.exists():
        reference = np.load(kept)["probabilities"]
        if reference.shape[1:] == ours.shape[1:]:  # as many of its seeds as there are of ours
            store(WORK / "tuned" / "reference.npz", reference[: len(ours)], "")
            difference = compared(corpus.test.labels, ours, WORK / "tuned" / "reference.npz")
    last = results[-1]
    line = {
        "study": row.study,
        "setting": row.name,
        "fields": plain(dict(row.fields)) | {"config": row.config},
        "regime": "tuned",
        "data": {name: last["data"][name] for name in ("name", "train", "validation", "test")},
        "seeds": len(ours),
        "rows_of_each_seed_differ": False,
        "validation": {m: [r["validation"].get(m) for r in results] for m in ("accuracy", "f1_macro", "nll")},
        **scores(corpus, ours),
        "strata": strata(corpus, ours),
        **difference,
        "reference": row.against,
        "published": plain(dict(row.published)) if row.published else None,
        "chosen": [{}],
        "diverged": 0,
        "parameters": last["training"]["trained_parameters"],
        "seconds_a_trial": round(float(np.mean([r["training"]["seconds"] for r in results])), 1),
        "trials_together": 1,
        "ece_after_temperature": [r["calibration"]["test_ece_after"] for r in results],
        "temperature": [r["calibration"]["temperature"] for r in results],
        "test_split_read": "once, by the best weights on validation of each seed",
        "fingerprint": last["fingerprint"],
        "hardware": last["hardware"],
        "load_average": round(os.getloadavg()[0], 1),
        "commit": last["commit"],
    }
    append_result(RESULTS / f"{row.study}.jsonl", line)
    return line


def folder_of(row: Row, seed: int) -> pathlib.Path:
    """Where a run of the row lies."""
    return FOLDER / row.study / row.name.replace(" ", "_").replace(",", "") / str(seed)


def recorded(row: Row) -> int:
    """How many seeds the newest line of the row has."""
    path = RESULTS / f"{row.study}.jsonl"
    lines = [line for line in read_results(path) if line["setting"] == row.name] if path.exists() else []
    return lines[-1]["seeds"] if lines else 0


def names_of(study: str) -> list[str]:
    """The rows that the study's table takes from here."""
    return [row.name for row in ROWS if row.study == study]


def main(arguments: list[str]) -> int:
    """Runs and records; returns the exit code."""
    known = sorted({row.study for row in ROWS})
    if wrong := [name for name in arguments if name not in known]:
        print(f"error: {wrong[0]!r} has no tuned rows; there are {', '.join(known)}", file=sys.stderr)
        return 2
    mine = [row for row in ROWS if not arguments or row.study in arguments]
    for seed in range(SEEDS):  # first a seed of every row, then the next
        for row in mine:
            folder = folder_of(row, seed)
            if recorded(row) > seed:
                continue
            print(f"{row.study}: {row.name}, seed {seed}", flush=True)
            try:
                run(row.at(seed), folder, resume=(folder / "config.json").exists())
            except Interrupted as stopped:
                print(stopped, flush=True)
                return EXIT_INTERRUPTED
            line = record(row)
            print(f"{row.name}: accuracy {np.mean(line['test']['accuracy']):.4f} over {line['seeds']} seeds", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
