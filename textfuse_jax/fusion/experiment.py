"""A fusion from config to run folder: members, fusion, one look at the test split, report. ``experiment.run`` calls it.

Beside what every run leaves, the folder holds ``encoder/``, ``folds/`` and ``fusion/``, which ``FusedPredictor`` and
``python -m textfuse_jax.predict`` read.
"""

from __future__ import annotations

import json
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from textfuse_jax.data.corpus import Corpus
from textfuse_jax.evaluation import figures
from textfuse_jax.evaluation.metrics import classification_metrics
from textfuse_jax.evaluation.records import hardware, write_json, write_predictions
from textfuse_jax.evaluation.reference import tfidf_logreg
from textfuse_jax.evaluation.report import confident_mistakes, console_table, write_report
from textfuse_jax.evaluation.statistics import bootstrap_intervals, compare
from textfuse_jax.fusion import fused as fusing
from textfuse_jax.fusion import reporting
from textfuse_jax.fusion.asking import Asker
from textfuse_jax.fusion.combiners import COMBINERS
from textfuse_jax.fusion.fused import Fused
from textfuse_jax.fusion.opinion import Members, check_splits
from textfuse_jax.fusion.pipeline import Fitted, estimates, fit, members_of
from textfuse_jax.fusion.routing import SHARES, curve, quality, uncertainty
from textfuse_jax.fusion.thresholds import tune_thresholds
from textfuse_jax.training.progress import StopSignals
from textfuse_jax.training.summary import confidence


def run_fusion(config: ConfigDict, corpus: Corpus, workdir: pathlib.Path, stop: StopSignals, say: Callable) -> dict[str, Any]:
    """Fits a fusion, reads the test split once and writes the run folder; returns what stands in result.json.

    What LLMs will be asked and what that takes is said before anything is sent; with ``llm.dry_run`` that is all.

    Raises:
      as ``pipeline.fit``; Interrupted leaves what was trained and paid, ``--resume`` goes on from it.
    """
    asker = Asker(config, corpus.class_names, corpus.multi_label, corpus.train, workdir, say)
    for name, estimate in estimates(asker, corpus, corpus.test).items():
        say(f"{name} will be asked: {estimate}")
    if config.llm.dry_run:
        say("llm.dry_run: nothing was sent, nothing was trained")
        return {}  # the folder holds no run
    (workdir / "metrics.jsonl").touch()  # from here on the folder holds a run
    fitted = fit(asker, corpus, workdir, stop, say)
    test = members_of(asker, corpus.test, fitted.logits["test"], fitted.fused, fitted.router, config.llm.call_share)
    if asker.names:
        check_splits(
            [(name, fitted.splits[name], fitted.members[name]) for name in fitted.splits] + [("test", corpus.test, test)]
        )
    say(f"evaluating on test: {len(corpus.test)} documents")
    result = _result(config, corpus, workdir, fitted, test, say)
    shutil.copy(workdir / "encoder" / "metrics.jsonl", workdir / "metrics.jsonl")
    probabilities = fitted.fused.probabilities(test)
    predicted = fitted.fused.decide(test, probabilities)
    write_predictions(
        workdir / "predictions.csv",
        corpus.test.ids,
        corpus.test.labels,
        predicted.astype(np.float32) if corpus.multi_label else predicted.argmax(1),
        probabilities,
        corpus.class_names,
    )
    drawn = _draw(workdir / "figures", corpus, probabilities, result)
    mistakes = ()
    if not corpus.multi_label:
        mistakes = confident_mistakes(corpus.test.ids, corpus.test.texts, corpus.test.labels, probabilities, corpus.class_names)
    environment = json.loads((workdir / "environment.json").read_text())
    told = json.loads(config.to_json_best_effort())
    write_report(workdir, result, told, environment, drawn, corpus.warnings, mistakes, reporting.section(result["fusion"]))
    console_table(result)
    say("\n".join(reporting.lines(result["fusion"])))
    write_json(workdir / "result.json", result)
    return result


def scores_of(fused: Fused, members: Members, labels: np.ndarray) -> dict[str, Any]:
    """``decided_metrics`` of the fusion."""
    p = fused.probabilities(members)
    return decided_metrics(labels, p, fused.decide(members, p), fused.class_names)


def decided_metrics(labels: np.ndarray, p: np.ndarray, predicted: np.ndarray, class_names: Sequence[str]) -> dict[str, Any]:
    """Metrics of decisions bool [n, c] that thresholds made; those of probabilities are of the probabilities as they are."""
    undecided = classification_metrics(labels, p, class_names)
    if labels.ndim == 1:
        return undecided
    of_probabilities = {name: undecided[name] for name in ("nll", "ece", "brier", "auc_ovr") if name in undecided}
    return classification_metrics(labels, centre(p, predicted), class_names) | of_probabilities


def centre(p: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Probabilities moved to the side of 0.5 that was decided, for functions that know one threshold only."""
    return np.where(predicted, 0.5 + p / 2, p / 2 - 1e-9).clip(0, 1)


def _result(config: ConfigDict, corpus: Corpus, workdir: pathlib.Path, fitted: Fitted, test: Members, say: Callable) -> dict:
    fused, labels, samples = fitted.fused, corpus.test.labels, config.evaluation.bootstrap_samples
    environment = json.loads((workdir / "environment.json").read_text())
    p = fused.probabilities(test)
    decided = centre(p, fused.decide(test, p)) if corpus.multi_label else p
    scores = scores_of(fused, test, labels)
    metrics = ("accuracy", "precision_macro", "recall_macro", "f1_macro") + (
        ("f1_micro",) if corpus.multi_label else ("auc_ovr", "nll")
    )
    scores["ci95"] = bootstrap_intervals(labels, decided, metrics, resamples=samples, seed=config.seed)
    result = {
        "config": config.name,
        "seed": config.seed,
        "commit": environment["git"]["commit"],
        "fingerprint": corpus.fingerprint(),
        "hardware": hardware(environment),
        "data": {
            "name": corpus.name,
            **{name: len(getattr(corpus, name)) for name in ("train", "validation", "test")},
            "classes": list(corpus.class_names),
        },
        "test": scores,
        "validation": scores_of(fused, *fitted.validation),
        "reference": {},
        "comparison": {},
        "training": json.loads((workdir / "encoder" / "training.json").read_text()),
        "fusion": _fusion(config, corpus, fitted, test, decided, samples),
    }
    if config.evaluation.published and config.evaluation.published_data == corpus.name:
        result["published"] = {**config.evaluation.published.to_dict(), "source": config.evaluation.published_source}
    if config.evaluation.reference:
        say("reference: TF-IDF + logistic regression on the same split")
        reference = tfidf_logreg(corpus)
        theirs = reference["test_probabilities"]
        if corpus.multi_label:  # thresholds of its own, as the fusion has
            held = reference["validation_probabilities"]
            theirs = centre(theirs, theirs >= tune_thresholds(corpus.validation.labels, held))
        found = classification_metrics(labels, theirs, corpus.class_names)
        result["reference"]["tfidf_logreg"] = found | {"C": reference["C"], "seconds": reference["seconds"]}
        result["comparison"] = compare(labels, decided, theirs, resamples=samples, seed=config.seed)
    return result


def _fusion(
    config: ConfigDict, corpus: Corpus, fitted: Fitted, test: Members, decided: np.ndarray, samples: int
) -> dict[str, Any]:
    """What stands under "fusion" in result.json: members and combiners side by side, tests against them, routing."""
    fused, labels = fitted.fused, corpus.test.labels
    held, held_labels = fitted.validation
    told: dict[str, Any] = {
        "note": fused.note,
        "fallback": list(fused.fallback),
        "facts": fused.facts,
        "members": [],
        "combiners": {},
    }
    for m, (name, kind) in enumerate(zip(fused.names, fused.kinds)):
        thresholds = fused.member_thresholds(*fitted.validation, m)
        mine = decided_by(fused.member(test, m), thresholds)
        one = {"name": name, "kind": kind, "missing": int((~test.present[:, m]).sum())}
        one |= {"validation": _score(held_labels, decided_by(fused.member(held, m), thresholds))}
        one |= {"test": _score(labels, mine)}
        one |= {"comparison": compare(labels, decided, mine, name, resamples=samples, seed=config.seed)}
        told["members"].append(one)
    for name in ("mlp", *COMBINERS) if len(fused.names) > 1 else ():
        other = fused
        if name != fused.settings["combiner"]:
            settings = fused.settings | {"combiner": name}
            other = fusing.fit(settings, fitted.train, fitted.validation, corpus.class_names, config.seed)
        told["combiners"][name] = fusing.score(held_labels, other.decide(held, other.probabilities(held)))
    if fitted.asker.reports:
        told["asked"] = fitted.asker.reports
    if fitted.router is not None:
        told["call_share"] = config.llm.call_share
        rows = np.flatnonzero(held.answered)
        told["routing"] = routing_curve(fitted, held.take(rows), held_labels[rows], samples) if len(rows) else []
    return told


def _score(labels: np.ndarray, p: np.ndarray) -> float:
    return fusing.score(labels, p >= 0.5 if labels.ndim == 2 else p)


def decided_by(p: np.ndarray, thresholds: np.ndarray | None) -> np.ndarray:
    """Probabilities whose threshold is 0.5; as they are for one label a document."""
    return p if thresholds is None else centre(p, p >= thresholds)


def routing_curve(fitted: Fitted, members: Members, labels: np.ndarray, samples: int) -> list[dict[str, Any]]:
    """Quality against share of calls on documents that LLMs have an opinion of, by expected gain and by plain uncertainty."""
    fused, blind = fitted.fused, members.without_llms()
    before, after = fused.probabilities(blind), fused.probabilities(members)
    return curve(
        quality(labels, fused.decide(blind, before)),
        quality(labels, fused.decide(members, after)),
        {"expected_gain": fitted.router.expected_gain(before), "max_confidence": uncertainty(before, fused.multi_label)},
        SHARES,
        samples,
    )


def _draw(folder: pathlib.Path, corpus: Corpus, probabilities: np.ndarray, result: dict[str, Any]) -> dict[str, pathlib.Path]:
    made = {"Reliability diagram": figures.reliability_diagram(*confidence(probabilities, corpus.test.labels))}
    if not corpus.multi_label:
        made["Confusion matrix"] = figures.confusion_matrix(np.array(result["test"]["confusion"]), corpus.class_names)
    if result["fusion"].get("routing"):
        made["Routing on validation"] = reporting.draw_routing(result["fusion"]["routing"])
    return {name: figures.save(figure, folder / f"{name.lower().replace(' ', '_')}.png") for name, figure in made.items()}
