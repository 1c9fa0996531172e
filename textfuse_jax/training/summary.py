"""The end of a run: logits of the best weights -> metrics with intervals, the reference beside them, figures, report."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from textfuse_jax.data.cascade_sets import SOURCES as CASCADES
from textfuse_jax.evaluation import figures
from textfuse_jax.evaluation.calibration import apply_temperature, expected_calibration_error, fit_temperature
from textfuse_jax.evaluation.metrics import classification_metrics, decide
from textfuse_jax.evaluation.records import hardware, write_predictions
from textfuse_jax.evaluation.reference import tfidf_logreg
from textfuse_jax.evaluation.report import confident_mistakes, console_table, write_report
from textfuse_jax.evaluation.statistics import bootstrap_intervals, compare
from textfuse_jax.training.inference import chosen, to_probabilities


def summarize(config: ConfigDict, workdir: pathlib.Path, trained: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """Everything that is said about a finished training: predictions.csv, figures, report.md, and the content of result.json.

    Args:
      config: of the run.
      workdir: the run folder, with environment.json in it.
      trained: what ``loop.train`` returned.
      say: takes lines of progress.
    """
    corpus, logits = trained["corpus"], trained["logits"]
    splits = {"validation": corpus.validation, "test": corpus.test}
    probabilities = {name: to_probabilities(logits[name], corpus.multi_label) for name in splits}
    scores = {
        name: classification_metrics(split.labels, probabilities[name], corpus.class_names) for name, split in splits.items()
    }
    samples = config.evaluation.bootstrap_samples
    scores["test"]["ci95"] = bootstrap_intervals(corpus.test.labels, probabilities["test"], resamples=samples, seed=config.seed)
    temperature = fit_temperature(logits["validation"], corpus.validation.labels)
    scaled = apply_temperature(logits["test"], temperature, multi_label=corpus.multi_label)
    environment = json.loads((workdir / "environment.json").read_text())
    result = {
        "config": config.name,
        "seed": config.seed,
        "commit": environment["git"]["commit"],
        "fingerprint": corpus.fingerprint(),
        "hardware": hardware(environment),
        "data": {
            "name": corpus.name,
            "train": len(corpus.train),
            "validation": len(corpus.validation),
            "test": len(corpus.test),
            "classes": list(corpus.class_names),
        },
        "test": scores["test"],
        "validation": scores["validation"],
        "calibration": {
            "temperature": temperature,
            "test_ece_after": expected_calibration_error(*confidence(scaled, corpus.test.labels)),
        },
        "reference": {},
        "comparison": {},
        "training": trained["training"],
    }
    if config.evaluation.published and config.evaluation.published_data == corpus.name:
        result["published"] = {**config.evaluation.published.to_dict(), "source": config.evaluation.published_source}
    if config.evaluation.reference:
        characters = config.data.source in CASCADES and config.cascades.characters
        say(f"reference: TF-IDF of {'characters' if characters else 'words'} + logistic regression on the same split")
        reference = tfidf_logreg(corpus, characters=characters)
        theirs = reference["test_probabilities"]
        metrics = classification_metrics(corpus.test.labels, theirs, corpus.class_names)
        result["reference"]["tfidf_logreg"] = metrics | {key: reference[key] for key in ("of", "C", "seconds")}
        result["comparison"] = compare(corpus.test.labels, probabilities["test"], theirs, resamples=samples, seed=config.seed)
        result["reference"] |= trained["material"].references()

    write_predictions(
        workdir / "predictions.csv",
        corpus.test.ids,
        corpus.test.labels,
        chosen(probabilities["test"], corpus.multi_label),
        probabilities["test"],
        corpus.class_names,
    )
    drawn = draw_figures(workdir / "figures", trained, probabilities["test"], scaled, temperature, scores["test"])
    material = trained["material"]
    graphs = material.drawings(config, trained["model"], trained["params"], probabilities["test"])
    for number, (caption, figure) in enumerate(graphs, 1):
        drawn[caption] = figures.save(figure, workdir / "figures" / f"graph_{number}.png")
    mistakes = (
        ()
        if corpus.multi_label
        else confident_mistakes(corpus.test.ids, corpus.test.texts, corpus.test.labels, probabilities["test"], corpus.class_names)
    )
    write_report(workdir, result, json.loads(config.to_json_best_effort()), environment, drawn, corpus.warnings, mistakes)
    console_table(result)
    return result


def confidence(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probability of each prediction and whether it was right; multi-label: of each (document, label) pair."""
    if labels.ndim == 2:
        return probabilities.ravel(), labels.ravel() > 0.5
    return probabilities.max(-1), probabilities.argmax(-1) == labels


def draw_figures(
    folder: pathlib.Path, trained: dict[str, Any], probabilities: np.ndarray, scaled: np.ndarray, temperature: float, scores: dict
) -> dict[str, pathlib.Path]:
    """Learning curve, confusion matrix, reliability diagram and length strata; caption -> file."""
    corpus, history = trained["corpus"], trained["history"]
    train = [line for line in history if line["split"] == "train"]
    held = [line for line in history if line["split"] == "validation"]
    made = {
        "Learning curve": figures.learning_curve(
            *(np.array([line[key] for line in train]) for key in ("step", "loss")),
            *(np.array([line[key] for line in held]) for key in ("step", "nll", "accuracy")),
            best_step=trained["training"]["best_step"],
        )
    }
    if not corpus.multi_label:
        made["Confusion matrix"] = figures.confusion_matrix(np.array(scores["confusion"]), corpus.class_names)
    confident, right = confidence(probabilities, corpus.test.labels)
    made["Reliability diagram"] = figures.reliability_diagram(
        confident, right, confidence(scaled, corpus.test.labels)[0], temperature
    )
    lengths = trained["material"].sizes("test")
    whole = (decide(probabilities, 0.5) == (corpus.test.labels > 0.5)).all(-1) if corpus.multi_label else right
    name, unit = trained["material"].size_name
    made[f"Accuracy by {name}"] = figures.length_accuracy(lengths, whole, f"{name} ({unit})")
    return {name: figures.save(figure, folder / f"{name.lower().replace(' ', '_')}.png") for name, figure in made.items()}
