"""GoEmotions: tuned MiniLM with a threshold for each of 28 labels, tuned on validation; and fused with a simulated LLM.

    TEXTFUSE_DATA=DIR python -m experiments.labelfusion_goemotions [:runlocal]

Encoder: ``experiments.labelfusion_members goemotions`` first (or this trains it). Training texts that are held out too are
left out. The fusion is fitted on half of the validation split and its thresholds on the other half; the encoder's thresholds on
all of it. The LLM is **simulated** at recall and precision 0.4, about what zero-shot LLMs reach on this data. Published:
macro-F1 0.46, BERT-base.
"""

from __future__ import annotations

import pathlib
import sys

import numpy as np

from experiments.labelfusion_members import WORK, goemotions, goemotions_members
from textfuse_jax.data.corpus import Split, stratified_split
from textfuse_jax.evaluation.metrics import classification_metrics
from textfuse_jax.evaluation.records import append_result, environment, hardware
from textfuse_jax.evaluation.statistics import bootstrap_intervals, compare
from textfuse_jax.fusion import fused as fusing
from textfuse_jax.fusion.experiment import centre, scores_of
from textfuse_jax.fusion.opinion import Members, check_splits, encoder_opinion, join
from textfuse_jax.fusion.routing import curve, fit_router, quality, uncertainty
from textfuse_jax.fusion.simulated import simulate_labels
from textfuse_jax.training.inference import to_probabilities

RESULTS = pathlib.Path(__file__).parent / "results" / "labelfusion_goemotions.jsonl"
LLM_QUALITY = 0.4
METRICS = ("accuracy", "f1_macro", "f1_micro")


def main(arguments: list[str]) -> int:
    """Appends a line for the encoder alone and one for the fusion; returns the exit code."""
    if arguments not in ([], [":runlocal"]):
        print(__doc__, file=sys.stderr)
        return 2
    local = bool(arguments)
    corpus, logits = goemotions_members(local)
    resamples, classes, labels = 100 if local else 1000, len(corpus.class_names), corpus.test.labels
    config, _ = goemotions(local)
    machine = environment()
    common = {
        "study": "labelfusion_goemotions",
        "data": {name: len(getattr(corpus, name)) for name in ("train", "validation", "test")},
        "seed": config.seed,
        "published": {"f1_macro": 0.46, "source": "Demszky et al. 2020, BERT-base"},
        "thresholds_from": "validation",
        "fingerprint": corpus.fingerprint(),
        "hardware": hardware(machine),
        "commit": machine["git"]["commit"],
        "uncommitted_changes": machine["git"]["dirty"],
    }

    def members(split: Split, of: np.ndarray, llm_seed: int | None) -> Members:
        opinions = [encoder_opinion(split.ids, of, True)]
        if llm_seed is not None:
            opinions.append(simulate_labels(split.ids, split.labels, LLM_QUALITY, LLM_QUALITY, seed=llm_seed))
        return join(split, opinions, classes, True)

    def told(fusion: fusing.Fused, test: Members) -> dict:
        p = fusion.probabilities(test)
        decided = centre(p, fusion.decide(test, p))
        found = scores_of(fusion, test, labels) | {"ci95": bootstrap_intervals(labels, decided, METRICS, resamples=resamples)}
        found.pop("confusion")
        thresholds = dict(zip(corpus.class_names, fusion.thresholds[1].tolist()))
        return {"kinds": list(fusion.kinds), "note": fusion.note, "test": found, "thresholds": thresholds}

    whole = members(corpus.validation, logits["validation"], None), corpus.validation.labels
    encoder = fusing.fit({}, whole, whole, corpus.class_names)
    alone = members(corpus.test, logits["test"], None)
    at_half = classification_metrics(labels, to_probabilities(logits["test"], True), corpus.class_names)
    line = common | {"setting": "tuned MiniLM"} | told(encoder, alone) | {"f1_macro_at_half": at_half["f1_macro"]}
    append(line, local)

    halves = stratified_split(corpus.validation.labels, 0.5, 0)
    parts = [corpus.validation.take(rows) for rows in halves]
    fitted = [members(part, logits["validation"][rows], number) for number, (part, rows) in enumerate(zip(parts, halves))]
    test = members(corpus.test, logits["test"], 2)
    check_splits([("half", parts[0], fitted[0]), ("other half", parts[1], fitted[1]), ("test", corpus.test, test)])
    material = [(one, part.labels) for one, part in zip(fitted, parts)]
    fusion = fusing.fit({}, *material, corpus.class_names)
    p, q = fusion.probabilities(test), encoder.probabilities(alone)
    ours, theirs = centre(p, fusion.decide(test, p)), centre(q, encoder.decide(alone, q))
    line = common | {"setting": "fused with a simulated LLM"} | told(fusion, test)
    line["comparison"] = compare(labels, ours, theirs, "encoder", resamples=resamples)
    llm = fusion.member(test, 1)
    decided = llm >= fusion.member_thresholds(*material[1], 1)
    line["members"] = {"encoder": fusing.score(labels, theirs >= 0.5), "llm": fusing.score(labels, decided)}
    line["routing"] = route(fusion, material[1], test, labels, resamples)
    append(line, local)
    return 0


def route(
    fusion: fusing.Fused, held: tuple[Members, np.ndarray], test: Members, labels: np.ndarray, resamples: int
) -> list[dict]:
    """The curve on test, F1 of a document's labels, of a router learned on validation."""
    blind = test.without_llms()
    before, after = fusion.probabilities(blind), fusion.probabilities(test)
    router = fit_router(held[1], fusion.probabilities(held[0].without_llms()), fusion.probabilities(held[0]))
    return curve(
        quality(labels, fusion.decide(blind, before)),
        quality(labels, fusion.decide(test, after)),
        {"expected_gain": router.expected_gain(before), "max_confidence": uncertainty(before, True)},
        resamples=resamples,
    )


def append(line: dict, local: bool) -> None:
    """Records a line and says what it holds."""
    append_result(WORK / "local" / RESULTS.name if local else RESULTS, line)
    low, high = line["test"]["ci95"]["f1_macro"]
    print(
        f"{line['setting']}: macro-F1 {line['test']['f1_macro']:.4f} [{low:.4f}, {high:.4f}] on test; {line['note']}", flush=True
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
