"""160 trials at once beside one by one: 32 seeds x 5 learning rates over cached AG News features, in one process.

    TEXTFUSE_DATA=DIR python -m experiments.benchmark_sweep [--documents=2000,2000,500] [--epochs=3] [--alone=16]

Three models: a linear head on document means of three layers, a hidden layer of 64 on the same, and a small graph model
(Pyramid-GNN of width 64, edges without nearest neighbours). Together: one program of all trials side by side
(``--trials_at_once`` says otherwise for each model; a few at a time were slower). One by one: the same program for one trial,
compiled once, run for ``--alone`` of the 160 and scaled to all. Both without compilation, with evaluation of every epoch. The
largest difference of a trial's validation loss between the two must be below 1e-5. Rounds alternate. About ten minutes on 2
cores; a line a model goes to ``experiments/results/benchmark_sweep.jsonl``.
"""

from __future__ import annotations

import pathlib
import statistics

import numpy as np
from absl import app, flags

from configs import agnews_frozen
from textfuse_jax.config_checks import validate
from textfuse_jax.evaluation.records import append_result, environment, hardware, peak_memory
from textfuse_jax.heap import keep_freed_memory
from textfuse_jax.training import setup, sweep
from textfuse_jax.training.grid import combinations, parse_sweep

RESULTS = pathlib.Path(__file__).parent / "results" / "benchmark_sweep.jsonl"
SWEEP = "seed=0..31; optimizer.learning_rate=1e-4,3e-4,1e-3,3e-3,1e-2"
DOCUMENTS = flags.DEFINE_list("documents", ["2000", "2000", "500"], "training texts of each of these models")
EPOCHS = flags.DEFINE_integer("epochs", 3, "epochs a trial")
ALONE = flags.DEFINE_integer("alone", 16, "trials run one by one in each round")
ROUNDS = flags.DEFINE_integer("rounds", 3, "alternations")
MODELS = flags.DEFINE_list("models", ["linear_head", "hidden_layer", "graph_model"], "which of the three")
AT_ONCE = flags.DEFINE_list("trials_at_once", ["0", "0", "0"], "of each of these models, side by side; 0 = all")
OUTPUT = flags.DEFINE_string("output", str(RESULTS), "file the JSON lines are appended to")
TOLERANCE = 1e-5
"""Largest difference of a validation loss, relative."""


def model(name: str, documents: int):
    """The config of one of the three models."""
    config = agnews_frozen.get_config("graph")
    config.data.train_rows, config.data.validation_rows, config.data.test_rows = documents, 500, 100
    config.data.tokens_per_batch, config.data.seed = 2048, 0
    config.training.total_epochs, config.loss.consistency, config.model.lexical = EPOCHS.value, 0.0, ""
    if name == "graph_model":
        config.model.width = 64
        # A neighbour chosen by the last digit of a cosine, or a ReLU's kink, turns a rounding into a difference of 1e-5.
        config.model.edges = tuple(f"textfuse_jax.models.edges:{kind}" for kind in ("window", "hierarchy"))
        config.model.propagate_args.activation = "gelu"
    else:
        config.model.pyramid = ""
        config.model.head_args.hidden = 64 if name == "hidden_layer" else 0
    return config


def main(_: list[str]) -> None:
    """Times the three models."""
    keep_freed_memory()
    trials = combinations(parse_sweep(SWEEP))
    sample = [int(i) for i in np.linspace(0, len(trials) - 1, ALONE.value)]
    machine = environment()
    for name, documents, at_once in zip(MODELS.value, map(int, DOCUMENTS.value), map(int, AT_ONCE.value), strict=True):
        config = model(name, documents)
        config.training.trials_at_once = at_once
        validate(config)
        material = setup.prepare(config, setup.load_corpus(config), print)
        together = sweep.Trials(config, material, list(trials[0]), len(trials), print)
        alone = sweep.Trials(config, material, list(trials[0]), 1, print)
        seconds, results = {"together": [], "alone": []}, {}
        alone.run(trials[:1])  # compiles
        for number in range(ROUNDS.value):
            for turn in ("together", "alone") if number % 2 else ("alone", "together"):
                if turn == "together":
                    results[turn] = together.run(trials)
                    seconds[turn].append(together.seconds)
                else:
                    results[turn], took = [], 0.0
                    for i in sample:
                        results[turn] += alone.run([trials[i]])
                        took += alone.seconds
                    seconds[turn].append(took * len(trials) / len(sample))
        apart = max(
            abs(results["together"][i]["validation"]["nll"] / one["validation"]["nll"] - 1)
            for i, one in zip(sample, results["alone"])
        )
        if not apart < TOLERANCE:
            raise SystemExit(f"{name}: a trial's loss differs by {apart:.1e} from its run alone, more than {TOLERANCE}")
        record = {
            "name": f"sweep_160_trials_{name}_vs_one_by_one",
            "ours": round(len(trials) / statistics.median(seconds["together"]), 3),
            "theirs": round(len(trials) / statistics.median(seconds["alone"]), 3),
            "ratio": round(statistics.median(b / a for a, b in zip(seconds["together"], seconds["alone"])), 3),
            "unit": "trials/s",
            "largest_relative_difference_of_validation_nll": float(f"{apart:.2g}"),
            "trials_at_once": at_once or len(trials),
            "documents": documents,
            "epochs": EPOCHS.value,
            "timed_alone": len(sample),
            "peak_memory_mb": peak_memory(),
            "rounds": ROUNDS.value,
            "hardware": hardware(machine),
            "commit": machine["git"]["commit"],
            "dirty": machine["git"]["dirty"],
        }
        print(record, flush=True)
        append_result(OUTPUT.value, record)


if __name__ == "__main__":
    app.run(main)
