"""The end of a run: logits of the best weights -> metrics with intervals, the reference beside them, figures, report."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from textfuse_jax.data.packing import assemble, plan
from textfuse_jax.evaluation import figures
from textfuse_jax.evaluation.calibration import apply_temperature, expected_calibration_error, fit_temperature
from textfuse_jax.evaluation.graph_drawing import document_graph, draw_document_graph
from textfuse_jax.evaluation.metrics import classification_metrics, decide
from textfuse_jax.evaluation.records import hardware, write_predictions
from textfuse_jax.evaluation.reference import tfidf_logreg
from textfuse_jax.evaluation.report import confident_mistakes, console_table, write_report
from textfuse_jax.evaluation.statistics import bootstrap_intervals, compare
from textfuse_jax.training import setup
from textfuse_jax.training.inference import chosen, to_probabilities
from textfuse_jax.training.step import unflatten
from textfuse_jax.types import SCALES


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
        say("reference: TF-IDF + logistic regression on the same split")
        reference = tfidf_logreg(corpus)
        theirs = reference["test_probabilities"]
        metrics = classification_metrics(corpus.test.labels, theirs, corpus.class_names)
        result["reference"]["tfidf_logreg"] = metrics | {"C": reference["C"], "seconds": reference["seconds"]}
        result["comparison"] = compare(corpus.test.labels, probabilities["test"], theirs, resamples=samples, seed=config.seed)

    write_predictions(
        workdir / "predictions.csv",
        corpus.test.ids,
        corpus.test.labels,
        chosen(probabilities["test"], corpus.multi_label),
        probabilities["test"],
        corpus.class_names,
    )
    drawn = draw_figures(workdir / "figures", trained, probabilities["test"], scaled, temperature, scores["test"])
    drawn |= draw_graphs(workdir / "figures", config, trained, probabilities["test"])
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
    encoded = trained["encoded"]["test"]
    lengths = np.bincount(encoded.example, encoded.lengths, minlength=encoded.examples)
    whole = (decide(probabilities, 0.5) == (corpus.test.labels > 0.5)).all(-1) if corpus.multi_label else right
    made["Accuracy by text length"] = figures.length_accuracy(lengths, whole)
    return {name: figures.save(figure, folder / f"{name.lower().replace(' ', '_')}.png") for name, figure in made.items()}


def draw_graphs(
    folder: pathlib.Path, config: ConfigDict, trained: dict[str, Any], probabilities: np.ndarray
) -> dict[str, pathlib.Path]:
    """The unit graphs of the first test documents that have at least three units; caption -> file."""
    corpus, encoded, model = trained["corpus"], trained["encoded"]["test"], trained["model"]
    if config.model.edges is None or not config.evaluation.graphs:
        return {}
    nodes = [scale for scale in SCALES if scale in config.model.nodes]
    units = sum(encoded.counts[scale] for scale in nodes)
    pieces = np.flatnonzero((units >= 3) & (units <= 40) & (encoded.weight == 1))[: config.evaluation.graphs]
    if not len(pieces):
        return {}
    few = encoded.take(pieces)
    rows = plan(
        few, row_lengths=(max(config.data.row_lengths),), tokens_per_batch=max(config.data.row_lengths) * len(few), packed=False
    )
    features = trained["features"].get("test")
    batch = assemble(few, corpus.test.labels, rows, 0, features=setup.take_features(features, encoded, pieces))
    _, out = jax.jit(lambda p, b: model.apply({"params": p}, b, train=False))(unflatten(trained["params"]), batch)
    drawn: dict[str, pathlib.Path] = {}
    if "graph" not in out:  # a model without pyramid
        return drawn
    graph = out["graph"]
    for number, piece in enumerate(pieces):
        example = int(encoded.example[piece])
        row = int(np.flatnonzero((batch.example == example).any(1))[0])
        slot = int(np.flatnonzero(batch.example[row] == example)[0])
        beta = np.asarray(out["pool/beta"][row]) if "pool/beta" in out else None
        cut = document_graph(
            slot,
            *(np.asarray(getattr(graph, f)[row]) for f in ("document", "level", "parent", "senders", "receivers", "weight")),
            beta,
        )
        texts = [text for scale in nodes for text in encoded.unit_text(int(piece), scale, corpus.test.texts)]
        if len(texts) != len(cut.level):
            return drawn  # a pyramid of another kind, whose nodes aren't the units of config.model.nodes
        p = probabilities[example]
        figure = draw_document_graph(
            texts,
            cut,
            title=corpus.test.texts[example],
            label=name_of(corpus, corpus.test.labels[example]),
            predicted=name_of(corpus, chosen(p[None], corpus.multi_label)[0]),
            probability=float(p.max()),
            level_names=nodes,
        )
        drawn[f"Graph of test document {corpus.test.ids[example]}"] = figures.save(figure, folder / f"graph_{number + 1}.png")
    return drawn


def name_of(corpus: Any, label: np.ndarray) -> str:
    """The name of a class, or the names of multi-hot labels joined by "; "."""
    if corpus.multi_label:
        return "; ".join(name for name, is_on in zip(corpus.class_names, label) if is_on > 0.5)
    return corpus.class_names[int(label)]
