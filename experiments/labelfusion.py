"""LabelFusion on AG News: tuned MiniLM and an LLM, at every number of training rows and every quality of the LLM.

    TEXTFUSE_DATA=DIR python -m experiments.labelfusion [:runlocal] [--answers FILE.jsonl --name MODEL]

The LLM is **simulated**: answers drawn from a level of accuracy, 0.844 being the paper's GPT, with mistakes that are independent
of the text or meet on texts that a TF-IDF model finds hard (correlation 0.5). With ``--answers`` (id or text -> answer, what
``Cache.export`` writes) a real LLM's stored answers take its place. Validation has 2,000 documents, test all 7,600; nothing is
chosen on test. Encoders: ``experiments.labelfusion_members`` first (or this trains them). About 15 minutes on 2 cores after that.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import sys
import time
from collections.abc import Callable

import numpy as np

from experiments.labelfusion_members import EPOCHS, WORK, agnews, agnews_members
from textfuse_jax.data.corpus import Corpus, Split
from textfuse_jax.evaluation.metrics import classification_metrics
from textfuse_jax.evaluation.records import append_result, environment, hardware, read_results
from textfuse_jax.evaluation.reference import tfidf_logreg
from textfuse_jax.evaluation.statistics import bootstrap_intervals, compare
from textfuse_jax.fusion import fused as fusing
from textfuse_jax.fusion.combiners import COMBINERS
from textfuse_jax.fusion.opinion import Members, Opinion, check_splits, encoder_opinion, join
from textfuse_jax.fusion.routing import curve, fit_router, quality, top, uncertainty
from textfuse_jax.fusion.simulated import confusion_of, simulate
from textfuse_jax.llm import opinions, prompts
from textfuse_jax.llm.cache import Cache
from textfuse_jax.llm.providers import Settings
from textfuse_jax.training import setup

RESULTS = pathlib.Path(__file__).parent / "results" / "labelfusion.jsonl"
LEVELS = (0.25, 0.5, 0.7, 0.844, 0.9, 0.95, 0.98)
"""Accuracy of the simulated LLM: useless for four classes, weak, ..., the paper's, the best of ten published, excellent."""
CORRELATIONS = (0.0, 0.5)
PARTS = ("train", "validation", "test")
Ask = Callable[[str, Split], Opinion]
"""(name of the split, its documents) -> the LLM's opinion of them."""


def difficulty(corpus: Corpus, others: Split) -> dict[str, float]:
    """How hard a document is for a TF-IDF model trained on documents of none of the splits: minus log p of the truth, by id."""
    both = Split(
        [*corpus.train.ids, *corpus.test.ids],
        [*corpus.train.texts, *corpus.test.texts],
        np.concatenate([corpus.train.labels, corpus.test.labels]),
    )
    found = tfidf_logreg(dataclasses.replace(corpus, train=others, test=both))
    hard = {}
    for split, p in ((corpus.validation, found["validation_probabilities"]), (both, found["test_probabilities"])):
        hard |= dict(zip(split.ids, -np.log(np.maximum(p[np.arange(len(split)), split.labels], 1e-9))))
    return hard


def simulated(corpus: Corpus, hard: dict[str, float], level: float, correlation: float) -> Ask:
    """Answers of one simulated LLM: those of a document are the same at every number of training rows."""
    made = {}
    for number, name in enumerate(PARTS):
        split = getattr(corpus, name)
        hardness = np.array([hard[i] for i in split.ids])
        opinion = simulate(
            split.ids,
            split.labels,
            confusion_of(level, len(corpus.class_names)),
            seed=1000 + number,
            difficulty=hardness,
            correlation=correlation,
        )
        made[name] = opinion, {i: row for row, i in enumerate(split.ids)}
    return lambda name, split: made[name][0].take([made[name][1][i] for i in split.ids])


def replayed(corpus: Corpus, answers: str, name: str) -> Ask:
    """Stored answers of a real LLM."""
    task = prompts.Task(corpus.class_names)
    settings = Settings("replay", name, replay_path=answers)

    def ask(_: str, split: Split) -> Opinion:
        with Cache(WORK / "replay.sqlite") as cache:
            found = opinions.ask_opinion(name, split.ids, split.texts, task, settings, cache)
        return Opinion("llm", found.kind, tuple(split.ids), found.scores, found.present)

    return ask


def measure(corpus: Corpus, logits: dict[str, np.ndarray], ask: Ask, resamples: int = 1000) -> dict:
    """Fits the fusion and its rivals and scores all of them on the test split."""
    classes = len(corpus.class_names)
    members: dict[str, Members] = {}
    for name in PARTS:
        split = getattr(corpus, name)
        members[name] = join(split, [encoder_opinion(split.ids, logits[name], False), ask(name, split)], classes, False)
    check_splits([(name, getattr(corpus, name), members[name]) for name in PARTS])
    labels, test = corpus.test.labels, members["test"]
    train, held = ((members[name], getattr(corpus, name).labels) for name in ("train", "validation"))
    start = time.perf_counter()
    fusion = fusing.fit({}, train, held, corpus.class_names)
    seconds = time.perf_counter() - start
    p = fusion.probabilities(test)
    alone = {name: fusion.member(test, m) for m, name in enumerate(fusion.names)}
    accuracy = {name: float((q.argmax(1) == labels).mean()) for name, q in alone.items()}
    best = max(accuracy, key=accuracy.get)
    scores = classification_metrics(labels, p, corpus.class_names)
    line = {
        "kinds": list(fusion.kinds),
        "missing": int((~test.present[:, 1]).sum()),
        "members": accuracy,
        "best_member": best,
        "fused": {name: scores[name] for name in ("accuracy", "f1_macro", "nll", "ece")},
        "fused_ci95": bootstrap_intervals(labels, p, ("accuracy",), resamples=resamples)["accuracy"],
        "difference_from_best": scores["accuracy"] - accuracy[best],
        "comparison": {name: compare(labels, p, q, name, resamples=resamples) for name, q in alone.items()},
        "without_llm": float((fusion.probabilities(test.without_llms()).argmax(1) == labels).mean()),
        "fallback": list(fusion.fallback),
        "note": fusion.note,
        "network": fusion.facts["network"],
        "seconds": round(seconds, 1),
        "combiners": {},
    }
    for name in COMBINERS:
        other = fusing.fit({"combiner": name, "harm": 1e9}, train, held, corpus.class_names)
        line["combiners"][name] = float((other.probabilities(test).argmax(1) == labels).mean())
    free = fusion if fusion.fallback[1] < 0 else fusing.fit({"harm": 1e9}, train, held, corpus.class_names)
    line["combiners"]["mlp without fallback"] = float((free.probabilities(test).argmax(1) == labels).mean())
    line["routing"] = route(fusion, held, test, labels, resamples)
    wrong, least = alone["encoder"].argmax(1) != labels, top(uncertainty(alone["encoder"], False), 0.2)
    line["errors_in_least_certain_fifth"] = float(wrong[least].sum() / max(wrong.sum(), 1))  # all that routing there can mend
    return line


def route(
    fusion: fusing.Fused, held: tuple[Members, np.ndarray], test: Members, labels: np.ndarray, resamples: int
) -> list[dict]:
    """The curve on test of a router learned on validation."""
    before, after = fusion.probabilities(test.without_llms()), fusion.probabilities(test)
    router = fit_router(held[1], fusion.probabilities(held[0].without_llms()), fusion.probabilities(held[0]))
    return curve(
        quality(labels, fusion.decide(test.without_llms(), before)),
        quality(labels, fusion.decide(test, after)),
        {"expected_gain": router.expected_gain(before), "max_confidence": uncertainty(before, False)},
        resamples=resamples,
    )


def main(arguments: list[str]) -> int:
    """Measures what the results file lacks; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", nargs="?", choices=[":runlocal"])
    parser.add_argument("--answers", help="stored answers of a real LLM")
    parser.add_argument("--name", default="stored", help="of that LLM")
    parser.add_argument("--rows", type=int, nargs="+", default=None, help="only these numbers of training rows")
    options = parser.parse_args(arguments)
    local = bool(options.size)
    output = WORK / "local" / "labelfusion.jsonl" if local else RESULTS
    known = {key_of(line) for line in read_results(output)} if output.exists() and not local else set()
    config, _ = agnews(4000, local)
    whole = setup.load_corpus(config)
    plenty = config.copy_and_resolve_references()
    plenty.data.train_rows = 0 if not local else 600
    mine = set(whole.train.ids)
    others = setup.load_corpus(plenty).train
    hard = difficulty(whole, others.take([i for i, name in enumerate(others.ids) if name not in mine]))
    machine = environment()
    asks: dict[tuple, Ask] = {(level, rho): simulated(whole, hard, level, rho) for rho in CORRELATIONS for level in LEVELS}
    if options.answers:
        asks = {(options.name, None): replayed(whole, options.answers, options.name)}
    for rows in (96,) if local else options.rows or EPOCHS:
        todo = {key: ask for key, ask in asks.items() if (rows, *key) not in known}
        if not todo:
            continue
        corpus, logits = agnews_members(rows, local)
        for (level, rho), ask in list(todo.items())[: 2 if local else None]:
            line = {
                "study": "labelfusion",
                "rows": rows,
                "llm": level,
                "correlation": rho,
                "simulated": rho is not None,
                "data": {name: len(getattr(corpus, name)) for name in PARTS},
                **measure(corpus, logits, ask, 100 if local else 1000),
                "fingerprint": corpus.fingerprint(),
                "hardware": hardware(machine),
                "commit": machine["git"]["commit"],
                "uncommitted_changes": machine["git"]["dirty"],
            }
            append_result(output, line)
            print(
                f"{rows:,} rows, LLM {level}, correlation {rho}: fused {line['fused']['accuracy']:.4f}, "
                f"members {line['members']}, {100 * line['difference_from_best']:+.2f} points from the best; {line['note']}",
                flush=True,
            )
    return 0


def key_of(line: dict) -> tuple:
    """What a line is of."""
    return line["rows"], line["llm"], line["correlation"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
